"""Workload files: who pays whom how much and when (YAML, unknown keys refused), all from a seed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lnagents.model.errors import WorkloadError
from lnagents.model.files import StrictModel, parse_yaml
from lnagents.model.topology import Topology
from lnagents.model.units import MSAT_PER_SAT, Msat

MAX_FEE_LIMIT_PPM = 1_000_000
"""Nobody pays more in fees than what is to arrive."""


class AmountSpec(StrictModel):
    """Distribution of amounts, in whole satoshi."""

    kind: Literal["fixed", "log_normal", "log_uniform"] = "log_normal"
    median_sat: Annotated[int, Field(ge=1)] = 20_000
    """Of `fixed` the amount itself."""
    sigma: Annotated[float, Field(ge=0)] = 1.0
    """Of `log_normal`: standard deviation of the natural logarithm."""
    min_sat: Annotated[int, Field(ge=1)] = 1_000
    max_sat: Annotated[int, Field(ge=1)] = 1_000_000

    @model_validator(mode="after")
    def _ordered(self) -> AmountSpec:
        if self.min_sat > self.max_sat:
            raise ValueError(f"min_sat {self.min_sat} is above max_sat {self.max_sat}")
        return self

    def draw(self, rng: random.Random) -> Msat:
        """One amount in msat, a whole number of satoshi within [min_sat, max_sat]."""
        if self.kind == "fixed":
            amount = float(self.median_sat)
        elif self.kind == "log_normal":
            amount = self.median_sat * math.exp(rng.gauss(0.0, self.sigma))
        else:
            low, high = math.log(self.min_sat), math.log(self.max_sat)
            amount = math.exp(rng.uniform(low, high))
        return min(self.max_sat, max(self.min_sat, round(amount))) * MSAT_PER_SAT


class FeeLimitSpec(StrictModel):
    """What senders pay in fees at most: a part of the amount, or a sum that is always accepted.

    The default is LND's: 5 % (`DefaultRoutingFeePercent` in lnrpc/routerrpc), the same for all.
    `log_normal` gives every payment a limit of its own, so that fewer payments are made where fees
    are higher. For comparison: Core Lightning's `pay` accepts 0.5 % or 5 sat (`maxfeepercent`,
    `exemptfee`); half of the public network's capacity was offered at 250 to 300 ppm a hop in
    February 2026, three quarters at 1,250.
    """

    kind: Literal["fixed", "log_normal"] = "fixed"
    median_ppm: Annotated[int, Field(ge=0, le=MAX_FEE_LIMIT_PPM)] = 50_000
    """Of `fixed` the limit itself."""
    sigma: Annotated[float, Field(ge=0)] = 1.0
    """Of `log_normal`: standard deviation of the natural logarithm."""
    floor_msat: Annotated[int, Field(ge=0)] = 10_000
    """Accepted whatever the amount."""

    def draw(self, amount_msat: Msat, rng: random.Random) -> Msat:
        """The limit of one payment; the only kind that draws lots is `log_normal`."""
        rate = self.median_ppm
        if self.kind == "log_normal":
            drawn = self.median_ppm * math.exp(rng.gauss(0.0, self.sigma))
            rate = round(min(float(MAX_FEE_LIMIT_PPM), drawn))
        return max(self.floor_msat, amount_msat * rate // 1_000_000)


class DemandSpec(StrictModel):
    """One stream of payments: from a random source to a random other sink, or along a circle."""

    name: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    sinks: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    source_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """How often a source is chosen, relative to 1 for those that are not named here."""
    sink_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """The same for sinks: some merchants have more customers than others."""
    circle: Annotated[tuple[str, ...], Field(min_length=2)] = ()
    """Instead of sources and sinks: a random node of these pays the next one, the last one the
    first, so that on average as much comes in as goes out everywhere."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of all payments, relative to the other demands."""
    amount: AmountSpec = AmountSpec()
    fee_limit: FeeLimitSpec = FeeLimitSpec()

    @model_validator(mode="after")
    def _possible(self) -> DemandSpec:
        what = f"demand {self.name!r}"
        if self.circle:
            if self.sources or self.sinks or self.source_weights or self.sink_weights:
                raise ValueError(f"{what} has a circle and needs no sources or sinks")
            if len(set(self.circle)) < len(self.circle):
                raise ValueError(f"{what} has a node twice in its circle")
            return self
        for key, names in (("sources", self.sources), ("sinks", self.sinks)):
            if not names:
                raise ValueError(f"{what} has neither {key} nor a circle")
        for key, weights, names in (
            ("source_weights", self.source_weights, self.sources),
            ("sink_weights", self.sink_weights, self.sinks),
        ):
            strange = sorted(weights.keys() - set(names))
            if strange:
                raise ValueError(f"{what} weighs {strange[0]!r} in {key}, which it does not name")
        if len(set(self.sources) | set(self.sinks)) < 2:
            raise ValueError(f"{what} pays only from a node to itself")
        return self

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Who may pay whom."""
        if self.circle:
            return tuple(zip(self.circle, (*self.circle[1:], self.circle[0]), strict=True))
        return tuple((a, b) for a in self.sources for b in self.sinks if a != b)

    def pair_weights(self) -> tuple[float, ...] | None:
        """How often each of `pairs` is chosen, relative to the others; None: all alike."""
        if not self.source_weights and not self.sink_weights:
            return None
        return tuple(
            self.source_weights.get(a, 1.0) * self.sink_weights.get(b, 1.0) for a, b in self.pairs()
        )


class BurstSpec(StrictModel):
    """Busy spells: how long they last and when the next one comes is exponentially distributed."""

    factor: Annotated[float, Field(gt=1)] = 5.0
    """Payments arrive so many times as often as between the bursts."""
    seconds: Annotated[float, Field(gt=0)] = 20.0
    """A burst's mean length."""
    every_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Mean time from the beginning of one to that of the next."""

    @model_validator(mode="after")
    def _calm_between(self) -> BurstSpec:
        if self.seconds >= self.every_seconds:
            raise ValueError(
                f"seconds {self.seconds:g} is not below every_seconds {self.every_seconds:g}"
            )
        return self


class Workload(StrictModel):
    """Several demands; payments arrive as a Poisson process, with or without bursts."""

    name: str
    payments_per_second: Annotated[float, Field(gt=0)] = 5.0
    """On average over a long time, bursts included."""
    bursts: BurstSpec | None = None
    demands: Annotated[tuple[DemandSpec, ...], Field(min_length=1)]

    def check_against(self, topology: Topology, source: str) -> None:
        """See that every node named here exists in `topology`.

        Raises:
            WorkloadError: naming the file `source` and the key.
        """
        known = {node.name for node in topology.nodes}
        self.check_nodes(known, f"topology {topology.name!r}", source)

    def check_nodes(self, known: Collection[str], where: str, source: str) -> None:
        """See that every node named here is in `known`; `where` says what those are.

        Raises:
            WorkloadError: naming the file `source` and the key.
        """
        for index, demand in enumerate(self.demands):
            for key in ("sources", "sinks", "circle"):
                for name in getattr(demand, key):
                    if name not in known:
                        problem = f"demands[{index}].{key}: unknown node {name!r} in {where}"
                        raise WorkloadError(source, problem)


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """One payment that a workload asks for."""

    index: int
    at_seconds: float
    """Since the workload began."""
    source: str
    destination: str
    amount_msat: Msat
    fee_limit_msat: Msat
    """What its sender pays in fees at most."""


def parse_workload(text: str, source: str) -> Workload:
    """Read a workload from YAML text; `source` names the file in error messages.

    Raises:
        WorkloadError: with one sentence that names file and key.
    """
    return parse_yaml(text, source, Workload, WorkloadError)


def draw_payments(workload: Workload, count: int, seed: int) -> tuple[PaymentIntent, ...]:
    """The first `count` payments of the workload; the same arguments give the same payments."""
    rng = random.Random(seed)
    weights = [demand.weight for demand in workload.demands]
    choices = [_PairChoice(demand) for demand in workload.demands]
    arrivals = _arrivals(workload, rng)
    intents = []
    for index in range(count):
        clock = next(arrivals)
        demand = rng.choices(choices, weights)[0]
        source, destination = demand.draw(rng)
        amount = demand.amount.draw(rng)
        limit = demand.fee_limit.draw(amount, rng)
        intents.append(PaymentIntent(index, clock, source, destination, amount, limit))
    return tuple(intents)


class _PairChoice:
    """Draws who pays whom in one demand."""

    def __init__(self, demand: DemandSpec) -> None:
        self.amount = demand.amount
        self.fee_limit = demand.fee_limit
        self._pairs = demand.pairs()
        weights = demand.pair_weights()
        self._cumulative = None if weights is None else list(itertools.accumulate(weights))

    def draw(self, rng: random.Random) -> tuple[str, str]:
        if self._cumulative is None:
            return rng.choice(self._pairs)
        return rng.choices(self._pairs, cum_weights=self._cumulative)[0]


def _arrivals(workload: Workload, rng: random.Random) -> Iterator[float]:
    """When payments begin, in seconds; without an end."""
    clock = 0.0
    bursts = workload.bursts
    if bursts is None:
        while True:
            clock += rng.expovariate(workload.payments_per_second)
            yield clock
    calm_seconds = bursts.every_seconds - bursts.seconds
    usual = bursts.every_seconds / (calm_seconds + bursts.factor * bursts.seconds)
    calm_rate = workload.payments_per_second * usual
    # The process has been going on for long when the workload begins.
    busy = rng.random() * bursts.every_seconds < bursts.seconds
    while True:
        end = clock + rng.expovariate(1.0 / (bursts.seconds if busy else calm_seconds))
        rate = calm_rate * (bursts.factor if busy else 1.0)
        # An exponential waiting time may be drawn anew at any moment.
        clock += rng.expovariate(rate)
        while clock < end:
            yield clock
            clock += rng.expovariate(rate)
        clock, busy = end, not busy
