from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.model.errors import TopologyError
from lnagents.model.generate import BASE_FEES_MSAT, CAPACITY_SAT, Shape, generate_topology
from lnagents.model.topology import Topology, dump_topology, parse_topology


def degrees(topology: Topology) -> Counter[str]:
    ends = [(channel.source, channel.target) for channel in topology.channels]
    return Counter(end for pair in ends for end in pair)


def reachable(topology: Topology) -> set[str]:
    neighbours: dict[str, set[str]] = {node.name: set() for node in topology.nodes}
    for channel in topology.channels:
        neighbours[channel.source].add(channel.target)
        neighbours[channel.target].add(channel.source)
    reached, waiting = {"n0"}, ["n0"]
    while waiting:
        new = neighbours[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


@settings(max_examples=60)
@given(st.sampled_from(Shape), st.integers(5, 40), st.integers(0, 2**32))
def test_every_network_is_whole_seeded_and_can_be_written_down(
    shape: Shape, nodes: int, seed: int
) -> None:
    topology = generate_topology(shape, nodes, seed)
    assert [node.name for node in topology.nodes] == [f"n{index}" for index in range(nodes)]
    assert len(reachable(topology)) == nodes
    assert generate_topology(shape, nodes, seed) == topology
    assert parse_topology(dump_topology(topology), "again") == topology
    for channel in topology.channels:
        assert CAPACITY_SAT[0] <= channel.capacity_sat <= CAPACITY_SAT[1]
        assert 0.3 <= channel.local_fraction <= 0.7
        for policy in topology.channel_policies(channel):
            assert policy.base_fee_msat in BASE_FEES_MSAT
            assert 1 <= policy.fee_rate_ppm <= 1_000


@pytest.mark.parametrize("shape", Shape)
def test_seeds_differ(shape: Shape) -> None:
    assert generate_topology(shape, 12, 1) != generate_topology(shape, 12, 2)


@pytest.mark.parametrize(
    ("shape", "nodes", "channels", "counts"),
    [
        (Shape.LINE, 5, 4, {1: 2, 2: 3}),
        (Shape.STAR, 5, 4, {4: 1, 1: 4}),
        (Shape.RING, 5, 5, {2: 5}),
        (Shape.GRID, 9, 12, {2: 4, 3: 4, 4: 1}),
        (Shape.GRID, 7, 8, {1: 1, 2: 3, 3: 3}),
    ],
)
def test_regular_shapes(shape: Shape, nodes: int, channels: int, counts: dict[int, int]) -> None:
    topology = generate_topology(shape, nodes, 0)
    assert len(topology.channels) == channels
    assert Counter(degrees(topology).values()) == counts


def test_barabasi_albert_has_hubs() -> None:
    topology = generate_topology(Shape.BARABASI_ALBERT, 200, 3, degree=2)
    counts = degrees(topology)
    assert len(topology.channels) == 2 + 2 * (200 - 3)
    assert max(counts.values()) > 15
    assert sorted(counts.values())[100] <= 3


def test_watts_strogatz_keeps_the_number_of_channels() -> None:
    ring = generate_topology(Shape.WATTS_STROGATZ, 30, 0, degree=3, rewiring=0.0)
    world = generate_topology(Shape.WATTS_STROGATZ, 30, 0, degree=3, rewiring=0.5)
    assert len(ring.channels) == len(world.channels) == 90
    assert set(degrees(ring).values()) == {6}
    assert set(degrees(world).values()) != {6}


@pytest.mark.parametrize(
    ("shape", "nodes", "degree", "rewiring", "problem"),
    [
        (Shape.LINE, 1, 2, 0.1, "line-1: nodes: 1 is not between 2 and 10,000"),
        (Shape.RING, 2, 2, 0.1, "ring-2: nodes: a ring needs at least 3, not 2"),
        (Shape.STAR, 3, 0, 0.1, "star-3: degree: 0 is not positive"),
        (Shape.STAR, 3, 2, 1.1, "star-3: rewiring: 1.1 is not between 0 and 1"),
        (
            Shape.BARABASI_ALBERT,
            3,
            3,
            0.1,
            "barabasi-albert-3: degree: 3 needs more than 3 nodes",
        ),
        (
            Shape.WATTS_STROGATZ,
            4,
            2,
            0.1,
            "watts-strogatz-4: degree: 2 on each side needs more than 4 nodes",
        ),
    ],
)
def test_impossible_networks(
    shape: Shape, nodes: int, degree: int, rewiring: float, problem: str
) -> None:
    with pytest.raises(TopologyError) as caught:
        generate_topology(shape, nodes, 0, degree=degree, rewiring=rewiring)
    assert str(caught.value) == problem


def test_a_small_world_that_falls_apart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnagents.model.generate._REDRAWS", 1)
    with pytest.raises(TopologyError) as caught:
        generate_topology(Shape.WATTS_STROGATZ, 400, 0, degree=1, rewiring=0.9)
    problem = "watts-strogatz-400: rewiring: 0.9 leaves it in parts, with degree 1"
    assert str(caught.value) == problem
