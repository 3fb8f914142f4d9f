"""What goes wrong in the middle of a run: a crash, a drain, a fee war, jammed channels.

A disturbance begins before the payments of a round and lasts for some rounds, in the twin. What is
random in it comes from the run's seed, so all contestants meet the same one. How much income and
volume are left is measured against the same run without it, round by round
(`lnagents.evaluate.measures.kept`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lnagents.env.twin_world import TwinWorld
from lnagents.model.files import StrictModel
from lnagents.twin.network import BASE_FEE, FEE_RATE, Int64Array
from lnagents.twin.traffic import NO_LIMIT, Traffic

DRAIN_AMOUNT_SHARE = 0.02
"""Of the median capacity: a payment that drains channels."""


class Disturbance(StrictModel):
    """One of them."""

    begin: Annotated[int, Field(ge=1)] = 10
    """The round before whose payments it begins, counted from 0."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """After which it is over."""

    def before_round(self, number: int, world: TwinWorld, seats: Sequence[str], seed: int) -> None:
        """Do what is due before the payments of a round, after the agents have decided.

        Args:
            number: of the round.
            world: where.
            seats: nodes of the contestant, from the best connected on.
            seed: of all that is drawn.
        """
        if number == self.begin:
            self.begins(world, seats, np.random.default_rng(seed))
        if number == self.begin + self.rounds:
            self.ends(world, seats)

    def suspends(self, number: int) -> bool:
        """Whether those who are not the contestant decide nothing in this round."""
        return False

    @abstractmethod
    def begins(self, world: TwinWorld, seats: Sequence[str], rng: np.random.Generator) -> None:
        """Let it happen."""

    @abstractmethod
    def ends(self, world: TwinWorld, seats: Sequence[str]) -> None:
        """Let it be over."""


class NodeCrash(Disturbance):
    """The contestant's best-connected node is off, and comes back."""

    kind: Literal["node-crash"] = "node-crash"

    def begins(self, world: TwinWorld, seats: Sequence[str], rng: np.random.Generator) -> None:
        """See `Disturbance`."""
        world.set_nodes_down(seats[:1])

    def ends(self, world: TwinWorld, seats: Sequence[str]) -> None:
        """See `Disturbance`."""
        world.set_nodes_down([])


class LiquidityDrain(Disturbance):
    """Half of the nodes pay the other half a lot at any price, and nothing comes back.

    It lasts for a moment; what its payments cost is in nobody's books.
    """

    kind: Literal["liquidity-drain"] = "liquidity-drain"
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """What is offered, as a part of the capacity of the contestant's channels."""

    def begins(self, world: TwinWorld, seats: Sequence[str], rng: np.random.Generator) -> None:
        """See `Disturbance`."""
        network = world.network
        outsiders = [place for place, name in enumerate(network.names) if name not in seats]
        sides = rng.permutation(outsiders)
        payers, payees = np.array_split(sides, 2)
        if not len(payees):
            return
        capacity = int(network.capacity[_edges_of(world, seats) >> 1].sum())
        amount = max(1, int(DRAIN_AMOUNT_SHARE * float(np.median(network.capacity))))
        count = max(1, int(self.share * capacity / amount))
        world.twin.run(
            Traffic.of(
                at=np.zeros(count),
                source=rng.choice(payers, count).astype(np.int32),
                target=rng.choice(payees, count).astype(np.int32),
                amount=np.full(count, amount, np.int64),
                fee_limit=NO_LIMIT,
            ),
            until=world.times.answer,
        )
        world.twin.reset_memory()

    def ends(self, world: TwinWorld, seats: Sequence[str]) -> None:
        """See `Disturbance`."""


class FeeWar(Disturbance):
    """Everybody else charges next to nothing, and later what they did before."""

    kind: Literal["fee-war"] = "fee-war"
    rate_ppm: Annotated[int, Field(ge=0)] = 1

    def suspends(self, number: int) -> bool:
        """See `Disturbance`."""
        return self.begin <= number < self.begin + self.rounds

    def begins(self, world: TwinWorld, seats: Sequence[str], rng: np.random.Generator) -> None:
        """See `Disturbance`."""
        edges = self._others(world, seats)
        policies = world.twin.policies()[edges]
        policies[:, FEE_RATE] = self.rate_ppm
        policies[:, BASE_FEE] = 0
        world.twin.set_policies(edges, policies)

    def ends(self, world: TwinWorld, seats: Sequence[str]) -> None:
        """See `Disturbance`."""
        edges = self._others(world, seats)
        policies = world.twin.policies()[edges]
        for column in (FEE_RATE, BASE_FEE):
            policies[:, column] = world.network.policy[edges, column]
        world.twin.set_policies(edges, policies)

    def _others(self, world: TwinWorld, seats: Sequence[str]) -> Int64Array:
        mine = _edges_of(world, seats)
        return np.setdiff1d(np.arange(2 * world.network.channels), mine)


class Jamming(Disturbance):
    """An attacker fills the contestant's channels with HTLCs that it never settles.

    Of each channel, `share` of the capacity and of the HTLC slots is taken, so that forwards that
    would need it are refused (`TEMPORARY_CHANNEL_FAILURE`), until the attacker lets all fail: then
    everything is as before, and nobody has earned anything by it. The attacker's own HTLCs are not
    simulated; the same effect comes from what a channel keeps free (`Twin.set_admission`).
    """

    kind: Literal["jamming"] = "jamming"
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9

    def begins(self, world: TwinWorld, seats: Sequence[str], rng: np.random.Generator) -> None:
        """See `Disturbance`."""
        world.reserved[_edges_of(world, seats)] = self.share
        world.set_routing()

    def ends(self, world: TwinWorld, seats: Sequence[str]) -> None:
        """See `Disturbance`."""
        world.reserved[_edges_of(world, seats)] = 0.0
        world.set_routing()


AnyDisturbance: TypeAlias = Annotated[
    NodeCrash | LiquidityDrain | FeeWar | Jamming, Field(discriminator="kind")
]
"""What a definition may name."""


def _edges_of(world: TwinWorld, seats: Sequence[str]) -> NDArray[np.int64]:
    """Edges out of these nodes."""
    places = [place for place, name in enumerate(world.network.names) if name in seats]
    return np.flatnonzero(np.isin(world.network.edge_source(), places))
