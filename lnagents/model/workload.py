"""Workload files: who pays whom how much and when (YAML, unknown keys refused), all from a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lnagents.model.errors import WorkloadError
from lnagents.model.files import StrictModel, parse_yaml
from lnagents.model.topology import Topology
from lnagents.model.units import MSAT_PER_SAT, Msat

FEE_LIMIT_PPM = 50_000
FEE_LIMIT_FLOOR_MSAT = 10_000
"""What a sender pays at most, the same for all senders: 5 % (LND's default), or 10 sat if more."""


def fee_limit(amount_msat: Msat) -> Msat:
    """The most that may be paid in fees for `amount_msat`."""
    return max(FEE_LIMIT_FLOOR_MSAT, amount_msat * FEE_LIMIT_PPM // 1_000_000)


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


class DemandSpec(StrictModel):
    """One stream of payments: each goes from a random source to a random other sink."""

    name: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    sinks: Annotated[tuple[str, ...], Field(min_length=1)]
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of all payments, relative to the other demands."""
    amount: AmountSpec = AmountSpec()

    @model_validator(mode="after")
    def _possible(self) -> DemandSpec:
        if len(set(self.sources) | set(self.sinks)) < 2:
            raise ValueError(f"demand {self.name!r} pays only from a node to itself")
        return self


class Workload(StrictModel):
    """Poisson arrivals of several demands."""

    name: str
    payments_per_second: Annotated[float, Field(gt=0)] = 5.0
    demands: Annotated[tuple[DemandSpec, ...], Field(min_length=1)]

    def check_against(self, topology: Topology, source: str) -> None:
        """See that every node named here exists in `topology`.

        Raises:
            WorkloadError: naming the file `source` and the key.
        """
        known = {node.name for node in topology.nodes}
        for index, demand in enumerate(self.demands):
            for key, names in (("sources", demand.sources), ("sinks", demand.sinks)):
                for name in names:
                    if name not in known:
                        problem = f"demands[{index}].{key}: unknown node {name!r}"
                        raise WorkloadError(source, f"{problem} in topology {topology.name!r}")


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """One payment that a workload asks for."""

    index: int
    at_seconds: float
    """Since the workload began."""
    source: str
    destination: str
    amount_msat: Msat


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
    clock = 0.0
    intents = []
    for index in range(count):
        clock += rng.expovariate(workload.payments_per_second)
        demand = rng.choices(workload.demands, weights)[0]
        pairs = [(a, b) for a in demand.sources for b in demand.sinks if a != b]
        source, destination = rng.choice(pairs)
        intents.append(PaymentIntent(index, clock, source, destination, demand.amount.draw(rng)))
    return tuple(intents)
