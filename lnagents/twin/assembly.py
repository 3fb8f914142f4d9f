"""Making a twin's state, letting it grow between kernels, and copying what changes in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lnagents.twin.commitment import make_liquidity
from lnagents.twin.directions import Directions
from lnagents.twin.events import grown_events, make_events, room_for_events
from lnagents.twin.gossip import can_learn, make_gossip, make_room_to_learn
from lnagents.twin.memory import grown, has_room, make_memory
from lnagents.twin.network import Network
from lnagents.twin.payments import make_payments
from lnagents.twin.session import SPARE_EVENTS
from lnagents.twin.settings import TwinSettings
from lnagents.twin.space import MAX_HOPS, make_search_space
from lnagents.twin.state import (
    FLOW_COLUMNS,
    Agents,
    State,
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

_CHANGING = ("gossip", "memory", "payments", "attempts", "events", "agents", "flows", "cursor")


def make_state(network: Network, settings: TwinSettings, seed: int, *, exhaustive: bool) -> State:
    """A network at rest. No array is shared with `network`."""
    edges = 2 * network.channels
    latency = settings.latency
    numbers = settings.sender.numbers()
    results = min(_MOST_RESULTS, network.nodes * edges + 4 * MAX_HOPS)
    random = np.random.SeedSequence(seed).generate_state(1)[0] % 2147483646 + 1
    return State(
        channel_nodes=np.array(network.channel_nodes, dtype=np.int32),
        liquidity=make_liquidity(network, settings.commitment),
        gossip=make_gossip(network, settings.gossip),
        memory=make_memory(network.nodes, results),
        space=make_search_space(network),
        payments=make_payments(no_traffic(), Directions.of(0), 0.0),
        attempts=make_attempts(_ATTEMPTS),
        events=make_events(SPARE_EVENTS + 2 * max(_ATTEMPTS, numbers.max_parts)),
        log=make_log(0, recording=False),
        agents=Agents(
            chooses=np.zeros(network.nodes, dtype=np.bool_),
            preference=np.zeros(edges),
            kept_free=np.zeros(edges),
        ),
        flows=np.zeros((edges, FLOW_COLUMNS), dtype=np.int64),
        used=np.zeros(MAX_HOPS, dtype=np.int32),
        cursor=np.array([0, random], dtype=np.int64),
        numbers=numbers,
        timing=Timing(
            forward=float(latency.forward),
            settle=float(latency.settle),
            fail=float(latency.fail),
            hold_incomplete=float(latency.hold_incomplete),
            at_once=max(latency.forward, latency.settle, latency.fail) == 0,
            exhaustive=exhaustive,
            height=int(settings.block_height),
        ),
    )


def no_traffic() -> Traffic:
    """No payments."""
    numbers, amounts = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    return Traffic.of(np.zeros(0), numbers, numbers, amounts)


def with_room(state: State, now: float) -> State:
    """The same state, in which every array that was nearly full has grown."""
    if state.attempts.free[1] == 0:
        state = state._replace(attempts=grown_attempts(state.attempts))
    if not room_for_events(state.events, SPARE_EVENTS + state.numbers.max_parts):
        state = state._replace(events=grown_events(state.events))
    if not room_in_log(state.log):
        state = state._replace(log=grown_log(state.log))
    if not has_room(state.memory, MAX_HOPS):
        state = state._replace(memory=grown(state.memory))
    if not can_learn(state.gossip):
        state = state._replace(gossip=make_room_to_learn(state.gossip, now))
    return state


def changing(state: State) -> dict[str, Any]:
    """A copy of all that changes while a twin runs, for `replaced`."""
    kept = {name: _copy(getattr(state, name)) for name in _CHANGING}
    kept["balance"] = state.liquidity.balance.copy()
    kept["pending"] = state.liquidity.pending.copy()
    kept["down"] = state.space.down.copy()
    return kept


def replaced(state: State, kept: dict[str, Any]) -> State:
    """The state in which everything is as in `kept`, which stays as it is."""
    state.liquidity.balance[:] = kept["balance"]
    state.liquidity.pending[:] = kept["pending"]
    state.space.down[:] = kept["down"]
    return state._replace(**{name: _copy(kept[name]) for name in _CHANGING})


def _copy(part: Any) -> Any:
    if isinstance(part, np.ndarray):
        return part.copy()
    return type(part)(*map(_copy, part))
