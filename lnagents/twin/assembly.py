"""Making a twin's state, letting it grow between kernels, and copying what changes in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lnagents.twin.commitment import make_liquidity
from lnagents.twin.events import grown_events, make_events, room_for_events
from lnagents.twin.gossip import Gossip, can_learn, make_gossip, make_room_to_learn
from lnagents.twin.memory import grown, has_room, make_memory
from lnagents.twin.network import Network
from lnagents.twin.payments import make_payments
from lnagents.twin.session import SPARE_EVENTS
from lnagents.twin.settings import TwinSettings
from lnagents.twin.space import MAX_HOPS, make_search_space
from lnagents.twin.state import (
    FLOW_COLUMNS,
    Agents,
    Desk,
    Mind,
    State,
    Switch,
    Timing,
    grown_attempts,
    grown_log,
    make_attempts,
    make_log,
    room_in_log,
)
from lnagents.twin.traffic import Traffic

_ATTEMPTS = 32
_MOST_RESULTS = 1 << 14


def make_state(network: Network, settings: TwinSettings, seed: int, *, exhaustive: bool) -> State:
    """A network at rest. No array is shared with `network`."""
    edges = 2 * network.channels
    latency = settings.latency
    numbers = settings.sender.numbers()
    results = min(_MOST_RESULTS, network.nodes * edges + 4 * MAX_HOPS)
    random = np.random.SeedSequence(seed).generate_state(1)[0] % 2147483646 + 1
    gossip = make_gossip(network, settings.gossip)
    space = make_search_space(network)
    source = network.edge_source()
    start = np.zeros(network.nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(source, minlength=network.nodes), out=start[1:])
    return State(
        switch=Switch(
            liquidity=make_liquidity(network, settings.commitment),
            policy=gossip.policy,
            down=space.down,
            edge_target=space.edge_target,
            capacity=space.capacity,
            kept_free=np.zeros(edges),
            flows=np.zeros((edges, FLOW_COLUMNS), dtype=np.int64),
            random=np.array([random], dtype=np.int64),
            height=int(settings.block_height),
            final_cltv_delta=numbers.final_cltv_delta,
        ),
        desk=Desk(
            payments=make_payments(network, no_traffic(), None, 0.0),
            attempts=make_attempts(_ATTEMPTS),
            events=make_events(SPARE_EVENTS + 2 * max(_ATTEMPTS, numbers.max_parts)),
            log=make_log(0, recording=False),
            timing=Timing(
                forward=float(latency.forward),
                settle=float(latency.settle),
                fail=float(latency.fail),
                hold_incomplete=float(latency.hold_incomplete),
            ),
        ),
        mind=Mind(
            gossip=gossip,
            memory=make_memory(network.nodes, results),
            space=space,
            channel_nodes=np.array(network.channel_nodes, dtype=np.int32),
            numbers=numbers,
            exhaustive=exhaustive,
        ),
        agents=Agents(
            chooses=np.zeros(network.nodes, dtype=np.bool_),
            preference=np.zeros(edges),
            start=start,
            edge=np.argsort(source, kind="stable").astype(np.int32),
        ),
        cursor=np.zeros(1, dtype=np.int64),
        used=np.zeros(MAX_HOPS, dtype=np.int32),
    )


def no_traffic() -> Traffic:
    """No payments."""
    numbers, amounts = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    return Traffic.of(np.zeros(0), numbers, numbers, amounts)


def with_gossip(state: State, gossip: Gossip) -> State:
    """The same state with gossip that has grown."""
    switch = state.switch._replace(policy=gossip.policy)
    return state._replace(switch=switch, mind=state.mind._replace(gossip=gossip))


def with_room(state: State, now: float) -> State:
    """The same state, in which every array that was nearly full has grown."""
    desk, mind = state.desk, state.mind
    if desk.attempts.use[1] == 0:
        desk = desk._replace(attempts=grown_attempts(desk.attempts))
    if not room_for_events(desk.events, SPARE_EVENTS + mind.numbers.max_parts):
        desk = desk._replace(events=grown_events(desk.events))
    if not room_in_log(desk.log):
        desk = desk._replace(log=grown_log(desk.log))
    if not has_room(mind.memory, MAX_HOPS):
        mind = mind._replace(memory=grown(mind.memory))
    if not can_learn(mind.gossip):
        mind = mind._replace(gossip=make_room_to_learn(mind.gossip, now))
    return state._replace(desk=desk, mind=mind)


def changing(state: State) -> dict[str, Any]:
    """A copy of all that changes while a twin runs, for `replaced`."""
    switch, desk, mind = state.switch, state.desk, state.mind
    return {
        "balance": switch.liquidity.balance.copy(),
        "pending": switch.liquidity.pending.copy(),
        "down": switch.down.copy(),
        "kept_free": switch.kept_free.copy(),
        "flows": switch.flows.copy(),
        "random": switch.random.copy(),
        "chooses": state.agents.chooses.copy(),
        "preference": state.agents.preference.copy(),
        "payments": _copy(desk.payments),
        "attempts": _copy(desk.attempts),
        "events": _copy(desk.events),
        "gossip": _copy(mind.gossip),
        "memory": _copy(mind.memory),
    }


def replaced(state: State, kept: dict[str, Any]) -> State:
    """The state in which everything is as in `kept`, which stays as it is."""
    switch, desk, mind = state.switch, state.desk, state.mind
    for array, name in (
        (switch.liquidity.balance, "balance"),
        (switch.liquidity.pending, "pending"),
        (switch.down, "down"),
        (switch.kept_free, "kept_free"),
        (switch.flows, "flows"),
        (switch.random, "random"),
        (state.agents.chooses, "chooses"),
        (state.agents.preference, "preference"),
    ):
        array[:] = kept[name]
    desk = desk._replace(
        payments=_copy(kept["payments"]),
        attempts=_copy(kept["attempts"]),
        events=_copy(kept["events"]),
    )
    mind = mind._replace(memory=_copy(kept["memory"]))
    return with_gossip(state._replace(desk=desk, mind=mind), _copy(kept["gossip"]))


def _copy(part: Any) -> Any:
    """A tuple of arrays with copies of them."""
    return type(part)(*[array.copy() for array in part])
