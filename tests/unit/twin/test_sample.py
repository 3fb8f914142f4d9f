from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.model.errors import TopologyError
from lnagents.model.generate import Shape, generate_topology
from lnagents.model.topology import (
    MAX_CHANNEL_SAT,
    PolicySpec,
    dump_topology,
    parse_topology,
)
from lnagents.twin.components import components
from lnagents.twin.generate import mainnet_like
from lnagents.twin.loaders import from_topology
from lnagents.twin.network import Network
from lnagents.twin.sample import sample, to_topology

PUBLIC = mainnet_like(400, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**32))
def test_a_sample_is_a_connected_part_that_a_testbed_can_build(nodes: int, seed: int) -> None:
    part = sample(PUBLIC, nodes, seed)
    assert part.nodes == nodes
    assert not components(nodes, part.channel_nodes).any()
    again = sample(PUBLIC, nodes, seed)
    assert part.names == again.names
    assert np.array_equal(part.balance, again.balance)
    # All channels between its nodes, as they were.
    inside = np.isin(np.array(PUBLIC.names)[PUBLIC.channel_nodes], part.names).all(axis=1)
    assert np.array_equal(part.scids, PUBLIC.scids[inside])
    assert np.array_equal(part.policy, PUBLIC.policy[np.repeat(inside, 2)])
    topology = to_topology(part, "part")
    assert parse_topology(dump_topology(topology), "again") == topology
    pairs = {tuple(sorted(pair)) for pair in part.channel_nodes.tolist()}
    assert len(topology.channels) == len(pairs)


def test_seeds_differ() -> None:
    assert sample(PUBLIC, 20, 1).names != sample(PUBLIC, 20, 2).names


def test_what_a_testbed_can_build_stays_as_it_is() -> None:
    topology = generate_topology(Shape.BARABASI_ALBERT, 12, 7)
    network = from_topology(topology)
    again = from_topology(to_topology(network, topology.name))
    order = np.lexsort(np.sort(again.channel_nodes, axis=1).T)
    expected = np.lexsort(np.sort(network.channel_nodes, axis=1).T)
    for name in ("channel_nodes", "capacity", "opener"):
        assert np.array_equal(getattr(again, name)[order], getattr(network, name)[expected])
    rows = again.policy.reshape(-1, 2, 8)[order], network.policy.reshape(-1, 2, 8)[expected]
    assert np.array_equal(*rows)
    # Shares are written down with four digits.
    difference = abs(again.balance[order] - network.balance[expected])
    assert (difference <= again.capacity[order, None] // 10_000).all()


def network_of(capacity_sat: int, opener_sat: int, row: tuple[int, ...]) -> Network:
    return Network(
        names=("x", "y"),
        scids=np.zeros(1, np.int64),
        channel_nodes=np.array([[0, 1]], np.int32),
        capacity=np.array([capacity_sat * 1_000]),
        opener=np.ones(1, np.int8),
        balance=np.array([[(capacity_sat - opener_sat) * 1_000, opener_sat * 1_000]]),
        policy=np.array([row, (1_000, 1, 0, 0, 1_000, capacity_sat * 990, 80, 1)]),
    )


def test_what_a_testbed_cannot_build_becomes_the_nearest() -> None:
    row = (5, 2_000_000, 7, 9, 0, 50_000_000_000, 18, 0)
    large = to_topology(network_of(100_000_000, 0, row), "large").channels[0]
    assert (large.source, large.target) == ("n1", "n0")
    assert large.capacity_sat == MAX_CHANNEL_SAT
    assert large.local_fraction == pytest.approx(0.011, abs=0.0001)
    assert large.policy is None
    assert large.reverse_policy == PolicySpec(
        base_fee_msat=5,
        fee_rate_ppm=1_000_000,
        min_htlc_msat=1,
        max_htlc_msat=MAX_CHANNEL_SAT * 500,
        time_lock_delta=24,
    )
    tiny = to_topology(network_of(1_000, 400, row), "tiny").channels[0]
    assert tiny.capacity_sat == 20_000
    assert tiny.local_fraction == pytest.approx(15_200 / 20_000)


def test_impossible_samples() -> None:
    with pytest.raises(TopologyError, match=r"^sample: nodes: 1 is not between 2 and"):
        sample(PUBLIC, 1, 0)
    with pytest.raises(TopologyError, match=r"nodes: 401 is not between 2 and the network's 400"):
        sample(PUBLIC, 401, 0)
    pairs = """
    name: pairs
    nodes: [{name: a}, {name: b}, {name: c}, {name: d}]
    channels: [{from: a, to: b, capacity_sat: 100000}, {from: c, to: d, capacity_sat: 100000}]
    """
    apart = from_topology(parse_topology(pairs, "t"))
    with pytest.raises(TopologyError, match=r"nodes: 3, but from . only 2 are found"):
        sample(apart, 3, 0)
    with pytest.raises(TopologyError, match="not a name for a topology"):
        to_topology(apart, "Not A Name")
