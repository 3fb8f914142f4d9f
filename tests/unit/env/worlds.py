"""Small twins for the tests of this folder."""

from __future__ import annotations

import numpy as np

from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.env.world import RoundPayment
from lnagents.model.generate import Shape, generate_topology
from lnagents.model.workload import AmountSpec, PaymentIntent
from lnagents.twin.generate import barabasi_albert
from lnagents.twin.loaders import from_topology
from lnagents.twin.network import Network
from lnagents.twin.settings import GossipSettings, TwinSettings

LARGE = AmountSpec(kind="log_uniform", min_sat=1_000, max_sat=3_000_000)
"""Large enough for the small channels to run dry."""


def small_network() -> Network:
    """Eight nodes, each with at least two channels."""
    return barabasi_albert(8, 3, degree=2)


def small_world(agents: int = 4, *, mainnet_gossip: bool = False) -> TwinWorld:
    """The small network, the first nodes of which have agents."""
    gossip = GossipSettings.mainnet() if mainnet_gossip else GossipSettings()
    return TwinWorld(
        small_network(),
        [f"n{index}" for index in range(agents)],
        settings=TwinSettings(gossip=gossip),
        times=TwinTimes(pay=5.0, answer=1.0),
    )


def line_network(nodes: int = 4) -> Network:
    """n0 - n1 - n2 - …, one way to get anywhere."""
    return from_topology(generate_topology(Shape.LINE, nodes, 5))


def line_world(nodes: int = 4) -> TwinWorld:
    """A line on which every node has an agent."""
    return TwinWorld(line_network(nodes), [f"n{index}" for index in range(nodes)])


def payment(
    source: str,
    destination: str,
    amount_sat: int,
    *,
    index: int = 0,
    at: float = 0.0,
    fee_limit_msat: int | None = None,
) -> RoundPayment:
    """A payment that its sender's LND routes; without another limit fees may be as much again."""
    amount = amount_sat * 1_000
    limit = amount if fee_limit_msat is None else fee_limit_msat
    return RoundPayment(PaymentIntent(index, at, source, destination, amount, limit))


def random_levels(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Fee actions, some of them beyond their range."""
    return rng.uniform(-1.2, 1.2, shape).astype(np.float32)
