"""Figures of a run, and the honest difference between two runs of the same payments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from lnagents.evaluate.record import RunRecord
from lnagents.model.payment import PaymentOutcome
from lnagents.model.units import MSAT_PER_SAT

BOOTSTRAP_SAMPLES = 2_000
"""Resamples behind each interval."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the comparison."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    of: Callable[[Sequence[PaymentOutcome]], float]


def _success_rate(outcomes: Sequence[PaymentOutcome]) -> float:
    return 100.0 * sum(o.settled for o in outcomes) / len(outcomes) if outcomes else math.nan


def _volume(outcomes: Sequence[PaymentOutcome]) -> float:
    return sum(o.amount_msat for o in outcomes if o.settled) / MSAT_PER_SAT


def _volume_share(outcomes: Sequence[PaymentOutcome]) -> float:
    asked = sum(o.amount_msat for o in outcomes)
    return 100.0 * sum(o.amount_msat for o in outcomes if o.settled) / asked if asked else math.nan


def _fees(outcomes: Sequence[PaymentOutcome]) -> float:
    return sum(o.fee_msat for o in outcomes if o.settled) / MSAT_PER_SAT


def _fee_rate(outcomes: Sequence[PaymentOutcome]) -> float:
    volume = sum(o.amount_msat for o in outcomes if o.settled)
    return 1e6 * sum(o.fee_msat for o in outcomes if o.settled) / volume if volume else math.nan


def _failed_attempts(outcomes: Sequence[PaymentOutcome]) -> float:
    return sum(o.failed_attempts for o in outcomes) / len(outcomes) if outcomes else math.nan


def _latency(outcomes: Sequence[PaymentOutcome]) -> float:
    seconds = [o.seconds for o in outcomes if o.settled]
    return 1_000.0 * median(seconds) if seconds else math.nan


FIGURES: tuple[Figure, ...] = (
    Figure("success_rate", "Payments settled", "%", True, _success_rate),
    Figure("volume_share", "Volume delivered", "% of asked", True, _volume_share),
    Figure("volume_sat", "Volume delivered", "sat", True, _volume),
    Figure("routing_fees_sat", "Fees earned by routers", "sat", True, _fees),
    Figure("fee_rate_ppm", "What senders paid per volume", "ppm", False, _fee_rate),
    Figure("failed_attempts", "Failed attempts per payment", "", False, _failed_attempts),
    Figure("latency_ms", "Median time to settle", "ms", False, _latency),
)
"""What is compared. Routers' fees and senders' costs are the same satoshi seen from both sides."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure in both runs."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    baseline: float
    agents: float
    difference: float
    """`agents` minus `baseline`."""
    low: float
    high: float
    """The 95 % interval of the difference, from resampling the paired payments."""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no clear difference` where the interval contains zero."""
        if math.isnan(self.low) or self.low <= 0.0 <= self.high:
            return "no clear difference"
        return "better" if (self.low > 0) == self.higher_is_better else "worse"


def figures(record: RunRecord) -> dict[str, float]:
    """All figures of one run, by key."""
    return {figure.key: figure.of(record.outcomes) for figure in FIGURES}


def compare(baseline: RunRecord, agents: RunRecord, seed: int) -> tuple[Comparison, ...]:
    """Hold two runs of the same payments against each other.

    Payments are paired by their position in the workload and resampled together (percentile
    bootstrap). That covers which payments were drawn, and not that a run as a whole could come
    out otherwise: one pair of runs cannot show that.

    Raises:
        ValueError: the runs did not make the same payments.
    """
    first = sorted(baseline.outcomes, key=lambda o: o.index)
    second = sorted(agents.outcomes, key=lambda o: o.index)
    if [o.index for o in first] != [o.index for o in second]:
        raise ValueError("the two runs did not make the same payments")
    draws = np.random.default_rng(seed).integers(len(first), size=(BOOTSTRAP_SAMPLES, len(first)))
    resampled: dict[str, list[float]] = {figure.key: [] for figure in FIGURES}
    for draw in draws:
        ones = [first[i] for i in draw]
        twos = [second[i] for i in draw]
        for figure in FIGURES:
            resampled[figure.key].append(figure.of(twos) - figure.of(ones))
    tail = 50.0 * (1.0 - CONFIDENCE)
    rows = []
    for figure in FIGURES:
        low, high = np.nanpercentile(resampled[figure.key], [tail, 100.0 - tail])
        before, after = figure.of(first), figure.of(second)
        rows.append(
            Comparison(
                figure.key, figure.title, figure.unit, figure.higher_is_better,
                before, after, after - before, float(low), float(high),
            )
        )  # fmt: skip
    return tuple(rows)
