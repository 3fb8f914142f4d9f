"""A part of a large network, small enough for real nodes."""

from __future__ import annotations

import random

import numpy as np

from lnagents.model.errors import TopologyError
from lnagents.model.topology import (
    MAX_CHANNEL_SAT,
    MIN_CHANNEL_SAT,
    OPENER_COSTS_SAT,
    RESERVE_FRACTION,
    ChannelSpec,
    NodeSpec,
    PolicySpec,
    Topology,
)
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.loaders import default_max_htlc
from lnagents.twin.network import (
    BASE_FEE,
    FEE_RATE,
    INBOUND_BASE_FEE,
    INBOUND_FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    TIME_LOCK_DELTA,
    Int64Array,
    Network,
)

MIN_TIME_LOCK_DELTA = 24
MAX_TIME_LOCK_DELTA = 2016
"""LND takes no others for its own channels (`minTimeLockDelta`, `MaxTimeLockDelta`)."""
_FRACTION_DIGITS = 4


def sample(network: Network, nodes: int, seed: int) -> Network:
    """A connected part of `network` with all channels between its nodes.

    It grows from a random end of a random channel: again and again one of the channels that lead
    out of it is chosen, all with equal chances, and the node at its other end is taken in. So
    well-connected nodes are likelier to be part of it than others.

    Args:
        network: to take it from.
        nodes: how many.
        seed: the same arguments give the same part.

    Raises:
        TopologyError: fewer nodes can be reached.
    """
    if not 2 <= nodes <= network.nodes or not network.channels:
        problem = f"nodes: {nodes} is not between 2 and the network's {network.nodes}"
        raise TopologyError("sample", problem)
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    source, target = network.edge_source(), network.edge_target()
    by_source = np.argsort(source, kind="stable")
    first = np.searchsorted(source[by_source], np.arange(network.nodes + 1))
    start = int(source[rng.randrange(2 * network.channels)])
    taken: dict[int, None] = {start: None}
    leaving = by_source[first[start] : first[start + 1]].tolist()
    while len(taken) < nodes:
        if not leaving:
            problem = f"nodes: {nodes}, but from {network.names[start]} only {len(taken)} are found"
            raise TopologyError("sample", problem)
        position = rng.randrange(len(leaving))
        leaving[position], leaving[-1] = leaving[-1], leaving[position]
        node = int(target[leaving.pop()])
        if node not in taken:
            taken[node] = None
            leaving += by_source[first[node] : first[node + 1]].tolist()
    return _part(network, np.sort(np.fromiter(taken, np.int64)))


def _part(network: Network, kept: Int64Array) -> Network:
    place = np.full(network.nodes, -1, np.int32)
    place[kept] = np.arange(len(kept))
    channel_nodes = place[network.channel_nodes]
    inside = (channel_nodes >= 0).all(axis=1)
    return Network(
        names=tuple(network.names[node] for node in kept),
        scids=network.scids[inside],
        channel_nodes=channel_nodes[inside],
        capacity=network.capacity[inside],
        opener=network.opener[inside],
        balance=network.balance[inside],
        policy=network.policy[np.repeat(inside, 2)],
    )


def to_topology(network: Network, name: str) -> Topology:
    """What a testbed can build of `network`; its nodes are named n0, n1, … there.

    LND by itself takes no channel above 16,777,215 sat or below 20,000, no positive inbound fees,
    and time locks of 24 to 2016 blocks; what is beyond is set to the nearest that it takes, and
    balances and max HTLCs are scaled with their channels. Of several channels between two nodes
    the largest is kept, and openers hold at least what they must. Nothing is disabled.

    Raises:
        TopologyError: `name` is not one.
    """
    best: dict[tuple[int, int], int] = {}
    ends = np.sort(network.channel_nodes, axis=1).tolist()
    for channel, (one, other) in enumerate(ends):
        present = best.get((one, other))
        if present is None or network.capacity[channel] > network.capacity[present]:
            best[one, other] = channel
    try:
        return Topology(
            name=name,
            nodes=tuple(NodeSpec(name=f"n{index}") for index in range(network.nodes)),
            channels=tuple(_channel(network, channel) for channel in sorted(best.values())),
        )
    except ValueError as exc:
        raise TopologyError(name, "not a name for a topology") from exc


def _channel(network: Network, channel: int) -> ChannelSpec:
    opener = int(network.opener[channel])
    wanted_sat = int(network.capacity[channel]) // MSAT_PER_SAT
    capacity_sat = min(MAX_CHANNEL_SAT, max(MIN_CHANNEL_SAT, wanted_sat))
    least_sat = round(capacity_sat * RESERVE_FRACTION) + OPENER_COSTS_SAT
    fraction = int(network.balance[channel, opener]) / int(network.capacity[channel])
    least = -(-least_sat * 10**_FRACTION_DIGITS // capacity_sat) / 10**_FRACTION_DIGITS
    policies = {
        key: _policy(network.policy[2 * channel + side], wanted_sat, capacity_sat)
        for key, side in (("policy", opener), ("reverse_policy", 1 - opener))
    }
    return ChannelSpec(
        source=f"n{network.channel_nodes[channel, opener]}",
        target=f"n{network.channel_nodes[channel, 1 - opener]}",
        capacity_sat=capacity_sat,
        local_fraction=max(round(fraction, _FRACTION_DIGITS), least),
        **{key: policy for key, policy in policies.items() if policy != PolicySpec()},
    )


def _policy(row: Int64Array, wanted_sat: int, capacity_sat: int) -> PolicySpec:
    most = default_max_htlc(capacity_sat)
    limited = int(row[MAX_HTLC]) < default_max_htlc(wanted_sat)
    max_htlc = min(most, max(1, int(row[MAX_HTLC]) * capacity_sat // wanted_sat))
    time_lock = int(row[TIME_LOCK_DELTA])
    values = {
        "base_fee_msat": int(row[BASE_FEE]),
        "fee_rate_ppm": min(int(row[FEE_RATE]), 1_000_000),
        "inbound_base_fee_msat": min(0, int(row[INBOUND_BASE_FEE])),
        "inbound_fee_rate_ppm": min(0, max(int(row[INBOUND_FEE_RATE]), -1_000_000)),
        "min_htlc_msat": min(max(1, int(row[MIN_HTLC])), max_htlc),
        "max_htlc_msat": max_htlc if limited else None,
        "time_lock_delta": min(MAX_TIME_LOCK_DELTA, max(MIN_TIME_LOCK_DELTA, time_lock)),
    }
    # What is as usual is not written down.
    usual = PolicySpec()
    return PolicySpec(
        **{key: value for key, value in values.items() if value != getattr(usual, key)}
    )
