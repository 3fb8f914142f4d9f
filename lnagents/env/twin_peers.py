"""Around the agents' peers in a twin, as arrays: what gossip shows, and what nobody else sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from lnagents.env.features import FloatArray
from lnagents.env.kernels import AgentChannels, middle_rate
from lnagents.env.peers import (
    LIQUIDITY_BINS,
    PeerFacts,
    peer_features,
)
from lnagents.model.kernel import kernel
from lnagents.twin.commitment import Liquidity, reported_balance
from lnagents.twin.gossip import Gossip, seen_row
from lnagents.twin.network import DISABLED, FEE_RATE, Int64Array

if TYPE_CHECKING:
    from lnagents.env.twin_world import TwinWorld

register_jitable(peer_features)


def fill_peer_rows(world: TwinWorld, rows: FloatArray) -> None:
    """Write `lnagents.env.peers.peer_rows` of all agents into `rows`.

    Args:
        world: whose agents look.
        rows: [agents, channels, `PEER_FEATURES`]; what is beyond an agent's channels stays.
    """
    gossip = world.twin.state.mind.gossip
    _fill_features(world.book, gossip, world.network.capacity, world.twin.now, rows)


def fill_liquidity(world: TwinWorld, rows: FloatArray) -> None:
    """Write where the balances lie in the channels between the agents' peers and others.

    The channels are those that `onward_channels` of `PEER_FEATURES` counts. A row is the share of
    their capacity with so much of the balance on the peer's side, by `LIQUIDITY_BINS`: it sums to
    1, or to 0 if there are none.

    Args:
        world: whose truth is told.
        rows: [agents, channels, `LIQUIDITY_BINS`]; what is beyond an agent's channels stays.
    """
    state = world.twin.state
    _fill_liquidity(
        world.book,
        state.mind.gossip,
        state.switch.liquidity,
        world.network.capacity,
        world.twin.now,
        rows,
    )


@kernel
def _fill_features(
    agents: AgentChannels, gossip: Gossip, capacity: Int64Array, now: float, rows: FloatArray
) -> None:
    rates = agents.rates
    for agent in range(len(agents.node)):
        own, begin = agents.node[agent], agents.first[agent]
        for place in range(begin, agents.first[agent + 1]):
            peer = agents.target[place]
            onward, onward_capacity = 0, 0
            for other in range(agents.into_first[peer], agents.into_first[peer + 1]):
                leaving = agents.into[other] ^ 1
                row = seen_row(gossip, own, leaving, now)
                if agents.into_source[other] != own and gossip.policy[row, DISABLED] == 0:
                    rates[onward] = gossip.policy[row, FEE_RATE]
                    onward_capacity += capacity[leaving >> 1]
                    onward += 1
            onward_low, onward_high = _ends(rates, onward)
            onward_middle = middle_rate(rates, onward)
            competing = 0
            for other in range(agents.into_first[peer], agents.into_first[peer + 1]):
                row = seen_row(gossip, own, agents.into[other], now)
                if agents.into_source[other] != own and gossip.policy[row, DISABLED] == 0:
                    rates[competing] = gossip.policy[row, FEE_RATE]
                    competing += 1
            competing_low, competing_high = _ends(rates, competing)
            facts = PeerFacts(
                onward=onward,
                onward_capacity=onward_capacity,
                onward_low=onward_low,
                onward_middle=onward_middle,
                onward_high=onward_high,
                competing=competing,
                competing_low=competing_low,
                competing_high=competing_high,
            )
            values = peer_features(facts)
            for column in range(len(values)):
                rows[agent, place - begin, column] = values[column]


@kernel
def _ends(rates: Int64Array, count: int) -> tuple[int, int]:
    """The lowest and the highest of the first `count`; -1 if there are none."""
    if count == 0:
        return -1, -1
    low = high = rates[0]
    for place in range(1, count):
        low, high = min(low, rates[place]), max(high, rates[place])
    return low, high


@kernel
def _fill_liquidity(
    agents: AgentChannels,
    gossip: Gossip,
    liquidity: Liquidity,
    capacity: Int64Array,
    now: float,
    rows: NDArray[np.float32],
) -> None:
    for agent in range(len(agents.node)):
        own, begin = agents.node[agent], agents.first[agent]
        for place in range(begin, agents.first[agent + 1]):
            row = rows[agent, place - begin]
            row[:] = 0.0
            peer, total = agents.target[place], 0
            for other in range(agents.into_first[peer], agents.into_first[peer + 1]):
                leaving = agents.into[other] ^ 1
                seen = seen_row(gossip, own, leaving, now)
                if agents.into_source[other] != own and gossip.policy[seen, DISABLED] == 0:
                    near = max(0, reported_balance(liquidity, leaving))
                    far = max(0, reported_balance(liquidity, leaving ^ 1))
                    part = near / max(1, near + far)
                    row[min(LIQUIDITY_BINS - 1, int(part * LIQUIDITY_BINS))] += capacity[
                        leaving >> 1
                    ]
                    total += capacity[leaving >> 1]
            if total > 0:
                for column in range(LIQUIDITY_BINS):
                    row[column] /= total
