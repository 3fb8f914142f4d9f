"""Figures of a run, and the honest difference between two runs of the same payments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lnagents.evaluate.measures import price_ppm, ratio
from lnagents.evaluate.record import RunRecord
from lnagents.evaluate.statistics import Draws, Floats, percentile_interval, resample
from lnagents.model.payment import PaymentOutcome
from lnagents.model.units import MSAT_PER_SAT


class _Payments:
    """Outcomes as columns, float64 [..., payments]; indexing resamples all of them alike."""

    def __init__(
        self, settled: Floats, amount: Floats, fee: Floats, failed: Floats, seconds: Floats
    ) -> None:
        self.settled = settled
        self.amount = amount
        self.fee = fee
        self.failed = failed
        self.seconds = seconds

    @classmethod
    def of(cls, outcomes: Sequence[PaymentOutcome]) -> _Payments:
        """Columns in the order of the workload."""
        rows = [
            (o.settled, o.amount_msat, o.fee_msat, o.failed_attempts, o.seconds)
            for o in sorted(outcomes, key=lambda o: o.index)
        ]
        columns = np.array(rows, dtype=np.float64).reshape(len(rows), 5).T
        return cls(*columns)

    def take(self, draws: Draws) -> _Payments:
        """The payments at `draws` [samples, payments]."""
        columns = (self.settled, self.amount, self.fee, self.failed, self.seconds)
        return _Payments(*(column[draws] for column in columns))

    @property
    def volume(self) -> Floats:
        """Delivered msat."""
        delivered: Floats = (self.settled * self.amount).sum(-1)
        return delivered

    @property
    def fees(self) -> Floats:
        """Paid msat."""
        paid: Floats = (self.settled * self.fee).sum(-1)
        return paid


def _count(payments: _Payments) -> Floats:
    return np.full(payments.settled.shape[:-1], payments.settled.shape[-1], dtype=np.float64)


def _median_seconds(payments: _Payments) -> Floats:
    """Median over the settled ones; NaN where none settled."""
    ordered = np.sort(np.where(payments.settled > 0, payments.seconds, math.inf), axis=-1)
    count = payments.settled.sum(-1).astype(np.int64)
    middle = np.maximum(count[..., None] - 1, 0)
    low = np.take_along_axis(ordered, middle // 2, -1)[..., 0]
    high = np.take_along_axis(ordered, (middle + 1) // 2, -1)[..., 0]
    return np.where(count > 0, (low + high) / 2.0, math.nan)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the comparison."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    of: Callable[[_Payments], Floats]


FIGURES: tuple[Figure, ...] = (
    Figure(
        "success_rate", "Payments settled", "%", True,
        lambda p: 100.0 * ratio(p.settled.sum(-1), _count(p)),
    ),
    Figure(
        "volume_share", "Volume delivered", "% of asked", True,
        lambda p: 100.0 * ratio(p.volume, p.amount.sum(-1)),
    ),
    Figure("volume_sat", "Volume delivered", "sat", True, lambda p: p.volume / MSAT_PER_SAT),
    Figure(
        "routing_fees_sat", "Fees earned by routers", "sat", True,
        lambda p: p.fees / MSAT_PER_SAT,
    ),
    Figure(
        "fee_rate_ppm", "What senders paid per volume", "ppm", False,
        lambda p: price_ppm(p.fees, p.volume),
    ),
    Figure(
        "failed_attempts", "Failed attempts per payment", "", False,
        lambda p: ratio(p.failed.sum(-1), _count(p)),
    ),
    Figure(
        "latency_ms", "Median time to settle", "ms", False, lambda p: 1e3 * _median_seconds(p)
    ),
)  # fmt: skip
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
    """All figures of one run, by key; NaN where the run has no data for one."""
    payments = _Payments.of(record.outcomes)
    return {figure.key: float(figure.of(payments)) for figure in FIGURES}


def compare(baseline: RunRecord, agents: RunRecord, seed: int) -> tuple[Comparison, ...]:
    """Hold two runs of the same payments against each other.

    Payments are paired by their position in the workload and resampled together (percentile
    bootstrap). That covers which payments were drawn, and not that a run as a whole could come
    out otherwise: one pair of runs cannot show that.

    Raises:
        ValueError: the runs did not make the same payments.
    """
    if {o.index for o in baseline.outcomes} != {o.index for o in agents.outcomes}:
        raise ValueError("the two runs did not make the same payments")
    first, second = _Payments.of(baseline.outcomes), _Payments.of(agents.outcomes)
    draws = resample(len(baseline.outcomes), seed)
    ones, twos = first.take(draws), second.take(draws)
    rows = []
    for figure in FIGURES:
        before, after = float(figure.of(first)), float(figure.of(second))
        low, high = percentile_interval(figure.of(twos) - figure.of(ones))
        rows.append(
            Comparison(
                figure.key, figure.title, figure.unit, figure.higher_is_better,
                before, after, after - before, float(low), float(high),
            )
        )  # fmt: skip
    return tuple(rows)
