"""Families of networks to compete on: each draws any number of networks, alike but never the same.

Networks for training and held-out ones are drawn from different seeds, so that no learner has seen
what it is measured on.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from lnagents.evaluate.networks import find_network
from lnagents.model.files import StrictModel
from lnagents.model.generate import Pair, join_nodes
from lnagents.model.topology import Topology
from lnagents.model.workload import (
    MAX_FEE_LIMIT_PPM,
    AmountSpec,
    DemandSpec,
    FeeLimitSpec,
    Workload,
)
from lnagents.twin.announced import Selection
from lnagents.twin.generate import barabasi_albert, mainnet_like
from lnagents.twin.loaders import from_topology
from lnagents.twin.network import Network
from lnagents.twin.sample import sample

MERCHANT_SHARE = 0.2
"""Of the nodes that are paid."""
MERCHANT_WEIGHT = 5.0
"""How much more often a merchant is paid than another node."""


class Split(str, Enum):
    """What a network is for."""

    TRAINING = "training"
    HELD_OUT = "held-out"


@dataclass(frozen=True, slots=True, eq=False)
class Arena:
    """A network, who competes on it, and who pays whom."""

    network: Network
    agents: tuple[str, ...]
    workload: Workload
    topology: Topology | None = None
    """What a testbed builds it from; None where there is only a network."""


class Payers(StrictModel):
    """Who pays on the networks of a family: how often, how much, and at which price.

    Amounts are large against channels of 1 to 16 million sat, so that liquidity is scarce, and
    payments that cost too much are not made, so that prices matter. With LND's own fee limit, 5 %
    for all, the highest fee rate that is allowed earned most on almost every network.
    """

    payments_per_second: Annotated[float, Field(gt=0)] = 5.0
    amount: AmountSpec = AmountSpec(median_sat=100_000, max_sat=2_000_000)
    fee_limit: FeeLimitSpec = FeeLimitSpec(
        kind="log_normal", median_ppm=1_000, sigma=0.7, floor_msat=1_000
    )
    """Its median is that of an average network of the family."""
    market_sigma: Annotated[float, Field(ge=0)] = 0.5
    """How much networks differ in what their payers accept: standard deviation of the natural
    logarithm of the median. No fee is right on all of them."""

    def limits(self, rng: random.Random) -> FeeLimitSpec:
        """What the payers of one network accept."""
        median = self.fee_limit.median_ppm * math.exp(rng.gauss(0.0, self.market_sigma))
        return self.fee_limit.model_copy(
            update={"median_ppm": round(min(float(MAX_FEE_LIMIT_PPM), median))}
        )

    def among(self, nodes: Sequence[str], name: str, rng: random.Random) -> Workload:
        """All of `nodes` pay all others; some are merchants and are paid more often.

        What merchants are paid they do not spend, so channels towards them run dry and have to be
        refilled by what little comes back.
        """
        merchants = rng.sample(list(nodes), max(1, round(MERCHANT_SHARE * len(nodes))))
        demand = DemandSpec(
            name="all",
            sources=tuple(nodes),
            sinks=tuple(nodes),
            sink_weights=dict.fromkeys(merchants, MERCHANT_WEIGHT),
            amount=self.amount,
            fee_limit=self.limits(rng),
        )
        return Workload(name=name, payments_per_second=self.payments_per_second, demands=(demand,))


class CompetingPaths(Payers):
    """Payers and payees that only a few routers join, each of them to all: who is cheap, forwards.

    More is paid forth than back, so that a router's channels run dry and have to be refilled by
    what comes back.
    """

    kind: Literal["competing-paths"]
    name: str
    routers: Annotated[int, Field(ge=2)] = 4
    ends: Annotated[int, Field(ge=1)] = 3
    """On either side."""
    back: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Payments back for each payment forth."""

    def draw(self, seed: int) -> Arena:
        """One of these networks; all routers have agents."""
        rng = random.Random(seed)  # noqa: S311 - nothing secret
        ends = range(self.routers, self.routers + 2 * self.ends)
        pairs: list[Pair] = [(router, end) for router in range(self.routers) for end in ends]
        payers, payees = _names(ends[: self.ends]), _names(ends[self.ends :])
        how = {"amount": self.amount, "fee_limit": self.limits(rng)}
        workload = Workload(
            name=self.name,
            payments_per_second=self.payments_per_second,
            demands=(
                DemandSpec(name="forth", sources=payers, sinks=payees, **how),
                DemandSpec(name="back", sources=payees, sinks=payers, weight=self.back, **how),
            ),
        )
        topology = join_nodes(self.name, self.routers + len(ends), pairs, rng)
        agents = _names(range(self.routers))
        return Arena(from_topology(topology), agents, workload, topology)


class HubAndSpoke(Payers):
    """A few hubs that are all joined, and spokes with channels to some of them."""

    kind: Literal["hub-and-spoke"]
    name: str
    hubs: Annotated[int, Field(ge=2)] = 4
    spokes: Annotated[int, Field(ge=2)] = 16
    joined: Annotated[int, Field(ge=1)] = 2
    """Hubs that a spoke has a channel to."""

    @model_validator(mode="after")
    def _possible(self) -> HubAndSpoke:
        if self.joined > self.hubs:
            raise ValueError(f"joined: {self.joined} is more than the {self.hubs} hubs")
        return self

    def draw(self, seed: int) -> Arena:
        """One of these networks; the hubs have agents, the spokes pay each other."""
        rng = random.Random(seed)  # noqa: S311 - nothing secret
        hubs = range(self.hubs)
        spokes = range(self.hubs, self.hubs + self.spokes)
        pairs: list[Pair] = [(one, other) for one in hubs for other in hubs if one < other]
        for spoke in spokes:
            pairs += [(hub, spoke) for hub in rng.sample(hubs, self.joined)]
        workload = self.among(_names(spokes), self.name, rng)
        topology = join_nodes(self.name, self.hubs + self.spokes, pairs, rng)
        return Arena(from_topology(topology), _names(hubs), workload, topology)


class ScaleFree(Payers):
    """Barabási-Albert networks; the best-connected nodes have agents, all pay each other."""

    kind: Literal["scale-free"]
    name: str
    nodes: Annotated[int, Field(ge=3)]
    degree: Annotated[int, Field(ge=1)] = 2
    """Channels of each newcomer."""
    agents: Annotated[int, Field(ge=2)] = 6

    @model_validator(mode="after")
    def _possible(self) -> ScaleFree:
        if self.degree >= self.nodes:
            raise ValueError(f"degree: {self.degree} needs more than {self.nodes} nodes")
        if self.agents > self.nodes:
            raise ValueError(f"agents: {self.agents} is more than the {self.nodes} nodes")
        return self

    def draw(self, seed: int) -> Arena:
        """One of these networks."""
        network = barabasi_albert(self.nodes, seed, degree=self.degree)
        return _best_connected(network, self.agents, self, seed)


class PublicSample(Payers):
    """Connected parts of the public network, or of networks that are drawn with its figures."""

    kind: Literal["public-sample"]
    name: str
    nodes: Annotated[int, Field(ge=3)] = 60
    agents: Annotated[int, Field(ge=2)] = 8
    file: Path | None = None
    """A snapshot or LND's graph; None draws networks, see `lnagents.twin.generate`."""
    drawn_nodes: Annotated[int, Field(ge=3)] = 2_000
    """Of the network that is drawn without a file."""

    @model_validator(mode="after")
    def _possible(self) -> PublicSample:
        if self.agents > self.nodes:
            raise ValueError(f"agents: {self.agents} is more than the {self.nodes} nodes")
        if self.file is None and self.nodes > self.drawn_nodes:
            raise ValueError(f"nodes: {self.nodes} is more than drawn_nodes {self.drawn_nodes}")
        return self

    def draw(self, seed: int) -> Arena:
        """One of these networks; the best-connected nodes of the part have agents.

        Raises:
            TopologyError: the file cannot be read.
        """
        whole = (
            mainnet_like(self.drawn_nodes, seed, disabled=False)
            if self.file is None
            else _load(self.file)
        )
        part = sample(whole, self.nodes, seed)
        return _best_connected(part, self.agents, self, seed)


Family: TypeAlias = Annotated[
    CompetingPaths | HubAndSpoke | ScaleFree | PublicSample, Field(discriminator="kind")
]
"""What a definition may name; another class with `name` and `draw` joins them here."""


def draw_arena(family: Family, split: Split, index: int) -> Arena:
    """Network `index` of a family, of those for `split`; the same arguments give the same.

    Raises:
        TopologyError: the file that the family is taken from cannot be read.
    """
    return family.draw(seed_of(family.name, split.value, index))


def seed_of(*parts: str | int) -> int:
    """A seed of 31 bits that other parts do not share, but by a rare chance."""
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in parts]
    return int(np.random.SeedSequence(words).generate_state(1)[0]) >> 1


@lru_cache(maxsize=1)
def _load(path: Path) -> Network:
    return find_network(path, Selection())


def _best_connected(
    network: Network, agents: int, family: ScaleFree | PublicSample, seed: int
) -> Arena:
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    size = np.bincount(network.channel_nodes.reshape(-1), minlength=network.nodes)
    best = np.argsort(-size, kind="stable")[:agents]
    workload = family.among(network.names, family.name, rng)
    return Arena(network, tuple(network.names[place] for place in best), workload)


def _names(places: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"n{place}" for place in places)
