"""Networks drawn from a seed: well-known shapes, with capacities and fees drawn alike for all.

Capacities are log-uniform between 1,000,000 and 16,000,000 sat. The opener holds between 30 % and
70 % of a channel, uniformly. Fee rates are log-uniform between 1 and 1,000 ppm, base fees are 0 or
1,000 msat with equal chances, both apart for each direction. Who opens a channel is a coin's toss.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeAlias

from lnagents.model.errors import TopologyError
from lnagents.model.topology import ChannelSpec, NodeSpec, PolicySpec, Topology

CAPACITY_SAT = (1_000_000, 16_000_000)
FEE_RATE_PPM = (1, 1_000)
BASE_FEES_MSAT = (0, 1_000)
LOCAL_FRACTION = (0.3, 0.7)

MAX_NODES = 10_000
"""A guard against a slip of the finger."""

_REDRAWS = 100

Pair: TypeAlias = tuple[int, int]
"""Two nodes, by index, that share a channel."""


class Split(str, Enum):
    """How the capacity of channels is divided between their two sides, where nobody has said it."""

    EVEN = "even"
    """Half of the capacity."""
    UNIFORM = "uniform"
    """Any part of the capacity, all equally likely."""
    BIMODAL = "bimodal"
    """Near one of the ends: the density falls off exponentially from both, as LND's bimodal
    estimator assumes (`routing/probability_bimodal.go`)."""
    BETA = "beta"
    """The part has the symmetric beta distribution."""


class Shape(str, Enum):
    """How the nodes are joined."""

    LINE = "line"
    STAR = "star"
    RING = "ring"
    GRID = "grid"
    BARABASI_ALBERT = "barabasi-albert"
    WATTS_STROGATZ = "watts-strogatz"


def generate_topology(
    shape: Shape, nodes: int, seed: int, *, degree: int = 2, rewiring: float = 0.1
) -> Topology:
    """A network of `nodes` nodes named n0, n1, …; the same arguments give the same network.

    Args:
        shape: line, star (n0 in the middle), ring, grid (as square as possible, row by row),
            Barabási-Albert (newcomers prefer well-connected nodes) or Watts-Strogatz (a ring of
            neighbourhoods with short cuts).
        nodes: how many.
        seed: of all that is drawn.
        degree: channels of each newcomer (Barabási-Albert), or neighbours on each side
            (Watts-Strogatz).
        rewiring: share of the channels that become short cuts (Watts-Strogatz).

    Raises:
        TopologyError: no such network exists.
    """
    name = f"{shape.value}-{nodes}"
    if not 2 <= nodes <= MAX_NODES:
        raise TopologyError(name, f"nodes: {nodes} is not between 2 and {MAX_NODES:,}")
    if not 0.0 <= rewiring <= 1.0:
        raise TopologyError(name, f"rewiring: {rewiring} is not between 0 and 1")
    if degree < 1:
        raise TopologyError(name, f"degree: {degree} is not positive")
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    return join_nodes(name, nodes, _join(shape, nodes, rng, degree, rewiring, name), rng)


def join_nodes(name: str, nodes: int, pairs: Iterable[Pair], rng: random.Random) -> Topology:
    """A network of the nodes n0, n1, … with a channel for each of `pairs`, drawn as above.

    Raises:
        ValueError: `name` is not one, or the pairs are not different ones of these nodes.
    """
    return Topology(
        name=name,
        nodes=tuple(NodeSpec(name=f"n{index}") for index in range(nodes)),
        channels=tuple(_draw_channel(pair, rng) for pair in pairs),
    )


def join_barabasi_albert(nodes: int, degree: int, rng: random.Random) -> list[Pair]:
    """Pairs of a Barabási-Albert network.

    A star of `degree` + 1 nodes first; then each newcomer joins `degree` different nodes, each
    chosen with a chance proportional to the channels that it has.
    """
    pairs = _star(degree + 1)
    ends = [end for pair in pairs for end in pair]  # each node as often as it has channels
    for newcomer in range(degree + 1, nodes):
        chosen: list[int] = []
        while len(chosen) < degree:
            one = rng.choice(ends)
            if one not in chosen:
                chosen.append(one)
        for one in chosen:
            pairs.append((one, newcomer))
            ends += (one, newcomer)
    return pairs


def _join(
    shape: Shape, nodes: int, rng: random.Random, degree: int, rewiring: float, name: str
) -> list[Pair]:
    if shape is Shape.BARABASI_ALBERT:
        if degree >= nodes:
            raise TopologyError(name, f"degree: {degree} needs more than {nodes} nodes")
        return join_barabasi_albert(nodes, degree, rng)
    if shape is Shape.WATTS_STROGATZ:
        if 2 * degree >= nodes:
            raise TopologyError(
                name, f"degree: {degree} on each side needs more than {nodes} nodes"
            )
        return _watts_strogatz(nodes, degree, rewiring, rng, name)
    if shape is Shape.RING and nodes < 3:
        raise TopologyError(name, f"nodes: a ring needs at least 3, not {nodes}")
    shapes: dict[Shape, Callable[[int], list[Pair]]] = {
        Shape.LINE: _line,
        Shape.STAR: _star,
        Shape.RING: _ring,
        Shape.GRID: _grid,
    }
    return shapes[shape](nodes)


def _line(nodes: int) -> list[Pair]:
    return [(index, index + 1) for index in range(nodes - 1)]


def _star(nodes: int) -> list[Pair]:
    return [(0, index) for index in range(1, nodes)]


def _ring(nodes: int) -> list[Pair]:
    return [(index, (index + 1) % nodes) for index in range(nodes)]


def _grid(nodes: int) -> list[Pair]:
    columns = math.isqrt(nodes - 1) + 1
    pairs = []
    for index in range(nodes):
        if (index + 1) % columns and index + 1 < nodes:
            pairs.append((index, index + 1))
        if index + columns < nodes:
            pairs.append((index, index + columns))
    return pairs


def _watts_strogatz(
    nodes: int, degree: int, rewiring: float, rng: random.Random, name: str
) -> list[Pair]:
    for _ in range(_REDRAWS):
        pairs = _small_world(nodes, degree, rewiring, rng)
        if _connected(nodes, pairs):
            return pairs
    problem = f"rewiring: {rewiring} leaves it in parts, with degree {degree}"
    raise TopologyError(name, problem)


def _small_world(nodes: int, degree: int, rewiring: float, rng: random.Random) -> list[Pair]:
    pairs = [
        (index, (index + distance) % nodes)
        for distance in range(1, degree + 1)
        for index in range(nodes)
    ]
    joined: list[set[int]] = [set() for _ in range(nodes)]
    for one, other in pairs:
        joined[one].add(other)
        joined[other].add(one)
    for position, (source, target) in enumerate(pairs):
        if rng.random() >= rewiring or len(joined[source]) == nodes - 1:
            continue
        other = rng.randrange(nodes)
        while other == source or other in joined[source]:
            other = rng.randrange(nodes)
        joined[source].remove(target)
        joined[target].remove(source)
        joined[source].add(other)
        joined[other].add(source)
        pairs[position] = (source, other)
    return pairs


def _connected(nodes: int, pairs: list[Pair]) -> bool:
    neighbours: list[list[int]] = [[] for _ in range(nodes)]
    for one, other in pairs:
        neighbours[one].append(other)
        neighbours[other].append(one)
    reached, waiting = {0}, [0]
    while waiting:
        for other in neighbours[waiting.pop()]:
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return len(reached) == nodes


def _draw_channel(pair: Pair, rng: random.Random) -> ChannelSpec:
    source, target = pair if rng.random() < 0.5 else pair[::-1]
    return ChannelSpec(
        source=f"n{source}",
        target=f"n{target}",
        capacity_sat=_log_uniform(CAPACITY_SAT, rng),
        local_fraction=round(rng.uniform(*LOCAL_FRACTION), 3),
        policy=_draw_policy(rng),
        reverse_policy=_draw_policy(rng),
    )


def _draw_policy(rng: random.Random) -> PolicySpec:
    return PolicySpec(
        base_fee_msat=rng.choice(BASE_FEES_MSAT), fee_rate_ppm=_log_uniform(FEE_RATE_PPM, rng)
    )


def _log_uniform(bounds: tuple[int, int], rng: random.Random) -> int:
    low, high = bounds
    return min(high, max(low, round(math.exp(rng.uniform(math.log(low), math.log(high))))))
