"""Which payments arise in an episode: drawn at its beginning, from its seed, for either world."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnagents.env.world import MAX_PARTS, PAYMENT_TIMEOUT_SECONDS, RoundPayment
from lnagents.model.errors import WorkloadError
from lnagents.model.payment import Route
from lnagents.model.workload import (
    AmountSpec,
    FeeLimitSpec,
    PaymentIntent,
    Workload,
    draw_payments,
)
from lnagents.twin.demand import draw_amounts, draw_fee_limits
from lnagents.twin.traffic import Traffic

TimeArray: TypeAlias = NDArray[np.float64]
NodeArray: TypeAlias = NDArray[np.int32]
AmountArray: TypeAlias = NDArray[np.int64]
FlagArray: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class RoundPayments:
    """The payments of one round, one array element each, in the order in which they begin."""

    at: TimeArray
    """Seconds since the round began, ascending."""
    source: NodeArray
    """Positions in `World.nodes`."""
    target: NodeArray
    amount: AmountArray
    """msat."""
    priority: FlagArray
    """1: may use what channels keep for such payments."""
    hop_by_hop: FlagArray
    """1: forwarding agents choose where it leaves."""
    fee_limit: AmountArray
    """msat that the sender pays in fees at most."""
    routes: dict[int, Route] = field(default_factory=dict)
    """Of payments, by position, whose agent chose a route."""

    @classmethod
    def of(cls, requests: Sequence[RoundPayment], names: tuple[str, ...]) -> RoundPayments:
        """The arrays of `requests`; `names` are those of `World.nodes`.

        Raises:
            ValueError: a payment names a node that does not exist.
        """
        place = {name: index for index, name in enumerate(names)}
        intents = [request.intent for request in requests]
        unknown = {name for one in intents for name in (one.source, one.destination)} - set(names)
        if unknown:
            raise ValueError(f"there is no node {min(unknown)!r}")
        return cls(
            at=np.array([one.at_seconds for one in intents], np.float64),
            source=np.array([place[one.source] for one in intents], np.int32),
            target=np.array([place[one.destination] for one in intents], np.int32),
            amount=np.array([one.amount_msat for one in intents], np.int64),
            fee_limit=np.array([one.fee_limit_msat for one in intents], np.int64),
            priority=np.array([request.priority for request in requests], np.int8),
            hop_by_hop=np.array([request.hop_by_hop for request in requests], np.int8),
            routes={
                index: request.route
                for index, request in enumerate(requests)
                if request.route is not None
            },
        )

    def __len__(self) -> int:
        return len(self.at)

    @property
    def special(self) -> bool:
        """Whether any payment is not simply left to its sender's LND."""
        return bool(self.routes) or 1 in self.priority.tobytes() or 1 in self.hop_by_hop.tobytes()

    def traffic(self, delay: float) -> Traffic:
        """The same as the twin takes them, `delay` seconds later."""
        max_parts, timeout, hold = _alike(len(self))
        return Traffic(
            at=self.at + delay,
            source=self.source,
            target=self.target,
            amount=self.amount,
            fee_limit=self.fee_limit,
            max_parts=max_parts,
            timeout=timeout,
            hold=hold,
        )

    def intent(self, index: int, names: tuple[str, ...]) -> PaymentIntent:
        """One payment as the network's nodes are told it; `names` are those of `World.nodes`."""
        return PaymentIntent(
            index,
            float(self.at[index]),
            names[self.source[index]],
            names[self.target[index]],
            int(self.amount[index]),
            int(self.fee_limit[index]),
        )

    def requests(self, names: tuple[str, ...]) -> list[RoundPayment]:
        """The same one by one."""
        return [
            RoundPayment(
                self.intent(index, names),
                route=self.routes.get(index),
                hop_by_hop=bool(self.hop_by_hop[index]),
                priority=bool(self.priority[index]),
            )
            for index in range(len(self))
        ]


@functools.lru_cache(maxsize=16)
def _alike(count: int) -> tuple[NodeArray, TimeArray, TimeArray]:
    """What `count` payments have in common: parts, timeouts and holds. Rounds are often alike."""
    arrays = (
        np.full(count, MAX_PARTS, np.int32),
        np.full(count, PAYMENT_TIMEOUT_SECONDS),
        np.zeros(count),
    )
    for array in arrays:
        array.flags.writeable = False
    return arrays


@dataclass(frozen=True, slots=True, eq=False)
class EpisodePayments:
    """The payments of a whole episode; round r has `first[r]` to `first[r + 1]`."""

    first: AmountArray
    """[rounds + 1]."""
    at: TimeArray
    """Seconds since the payment's own round began, ascending within it."""
    source: NodeArray
    target: NodeArray
    amount: AmountArray
    priority: FlagArray
    hop_by_hop: FlagArray
    fee_limit: AmountArray

    def of_round(self, number: int) -> RoundPayments:
        """Views into one round, counted from 0."""
        part = slice(self.first[number], self.first[number + 1])
        return RoundPayments(
            self.at[part],
            self.source[part],
            self.target[part],
            self.amount[part],
            self.priority[part],
            self.hop_by_hop[part],
            self.fee_limit[part],
        )


class Demand(Protocol):
    """Where an environment's payments come from."""

    def draw(
        self, nodes: tuple[str, ...], rounds: int, round_seconds: float, seed: int
    ) -> EpisodePayments:
        """The payments of `rounds` rounds between `nodes`; the same arguments give the same."""


@dataclass(frozen=True, slots=True)
class RandomDemand:
    """The same number of payments each round, from random nodes to random other ones.

    Raises:
        ValueError: a number is out of its range.
    """

    payments_per_round: int = 50
    amount: AmountSpec = field(default_factory=AmountSpec)
    priority_share: float = 0.0
    """Share of the payments that have priority."""
    hop_by_hop_share: float = 0.0
    """Share of the payments that agents route hop by hop."""
    fee_limit: FeeLimitSpec = field(default_factory=FeeLimitSpec)

    def __post_init__(self) -> None:
        if self.payments_per_round < 0:
            raise ValueError(f"payments_per_round: {self.payments_per_round} is negative")
        for name in ("priority_share", "hop_by_hop_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: {getattr(self, name)} is not between 0 and 1")

    def draw(
        self, nodes: tuple[str, ...], rounds: int, round_seconds: float, seed: int
    ) -> EpisodePayments:
        """See `Demand.draw`.

        Raises:
            ValueError: fewer than two nodes cannot pay each other.
        """
        if len(nodes) < 2:
            raise ValueError("nobody can pay in a network of fewer than two nodes")
        rng = np.random.default_rng(seed)
        shape = (rounds, self.payments_per_round)
        source = rng.integers(0, len(nodes), shape, np.int32)
        target = rng.integers(0, len(nodes) - 1, shape, np.int32)
        target += target >= source  # one of the others: those from the source on move up by one
        at = np.sort(rng.random(shape), axis=1) * round_seconds
        count = source.size
        amount = draw_amounts(self.amount, count, rng)
        return EpisodePayments(
            first=np.arange(rounds + 1, dtype=np.int64) * self.payments_per_round,
            at=at.reshape(-1),
            source=source.reshape(-1),
            target=target.reshape(-1),
            amount=amount,
            priority=(rng.random(count) < self.priority_share).astype(np.int8),
            hop_by_hop=(rng.random(count) < self.hop_by_hop_share).astype(np.int8),
            fee_limit=draw_fee_limits(self.fee_limit, amount, rng),
        )


@dataclass(frozen=True, slots=True)
class WorkloadDemand:
    """A workload file's payments, as they arrive."""

    workload: Workload

    def draw(
        self, nodes: tuple[str, ...], rounds: int, round_seconds: float, seed: int
    ) -> EpisodePayments:
        """See `Demand.draw`.

        Raises:
            WorkloadError: the workload names a node that the world has not.
        """
        place = {name: index for index, name in enumerate(nodes)}
        end = rounds * round_seconds
        count = 16 + int(end * self.workload.payments_per_second)
        intents = draw_payments(self.workload, count, seed)
        while intents[-1].at_seconds < end:
            count *= 2
            intents = draw_payments(self.workload, count, seed)
        intents = tuple(intent for intent in intents if intent.at_seconds < end)
        unknown = {name for one in intents for name in (one.source, one.destination)} - set(nodes)
        if unknown:
            raise WorkloadError(self.workload.name, f"unknown node {min(unknown)!r}")
        at = np.array([intent.at_seconds for intent in intents])
        rounds_of = np.floor_divide(at, round_seconds).astype(np.int64)
        flags = np.zeros(len(intents), np.int8)
        return EpisodePayments(
            first=np.searchsorted(rounds_of, np.arange(rounds + 1)).astype(np.int64),
            at=at - rounds_of * round_seconds,
            source=np.array([place[one.source] for one in intents], np.int32),
            target=np.array([place[one.destination] for one in intents], np.int32),
            amount=np.array([one.amount_msat for one in intents], np.int64),
            priority=flags,
            hop_by_hop=flags,
            fee_limit=np.array([one.fee_limit_msat for one in intents], np.int64),
        )
