"""From the runs of a plan to figures with intervals; pure functions of `LiveResult`s."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnagents.evaluate.live.plan import FROZEN, ONLINE, UNTAUGHT, LivePlan
from lnagents.evaluate.live.results import LiveResult, WorldName
from lnagents.evaluate.statistics import Estimate, Floats, estimate, mean, paired_difference
from lnagents.model.errors import ExperimentError
from lnagents.model.units import MSAT_PER_SAT

SEED = 1
"""Of all intervals, so that a report is the same whenever it is made."""

UPDATE_SAT = 1.0
"""What announcing a policy is said to cost, as in the other experiments."""

Runs = Mapping[tuple[str, int], LiveResult]
"""By condition and seed, of one world."""


@dataclass(frozen=True, slots=True)
class LiveMeasure:
    """One figure of a run."""

    key: str
    title: str
    unit: str
    of: Callable[[LiveResult], float]


def _paid(result: LiveResult) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """[payments, 4] of all rounds."""
    return np.array([one for lived in result.payments for one in lived], np.float64).reshape(-1, 4)


def by_round(result: LiveResult) -> tuple[Floats, Floats]:
    """[rounds, routers], routing income in sat, and policies announced."""
    earned = np.array(result.earned, np.float64) / MSAT_PER_SAT
    if result.announced:
        return earned, np.array(result.announced, np.float64)
    # Older runs only tell how many there were in all.
    return earned, np.broadcast_to(np.array(result.updates) / len(earned), earned.shape)


def income(result: LiveResult) -> float:
    """The routers' routing income, sat a round."""
    return float(by_round(result)[0].sum(axis=1).mean())


def profit(
    result: LiveResult, rounds: slice = slice(None), routers: Sequence[int] | None = None
) -> float:
    """Income less what updates cost, sat a round; routers make no payments of their own.

    Args:
        result: of a run.
        rounds: which of its rounds.
        routers: the places of those whose profit is added up; None: of all.
    """
    earned, announced = by_round(result)
    gained = (earned - UPDATE_SAT * announced)[rounds]
    if routers is not None:
        gained = gained[:, list(routers)]
    return float(gained.sum(axis=1).mean())


def success(result: LiveResult) -> float:
    """Share of the payments that settled, %."""
    return 100.0 * float(_paid(result)[:, 0].mean())


def fees(result: LiveResult) -> float:
    """What senders paid in fees, msat in all."""
    return float(_paid(result)[:, 1].sum())


def _latency(result: LiveResult, quantile: float) -> float:
    paid = _paid(result)
    seconds = paid[paid[:, 0] > 0, 3]
    return 1_000.0 * float(np.quantile(seconds, quantile)) if len(seconds) else math.nan


def _price(result: LiveResult) -> float:
    paid = _paid(result)
    amounts = np.array([one for lived in result.amounts for one in lived], np.float64)
    arrived = float((amounts * paid[:, 0]).sum())
    return 1e6 * float(paid[:, 1].sum()) / arrived if arrived else math.nan


MEASURES: tuple[LiveMeasure, ...] = (
    LiveMeasure("profit", "Profit: income less 1 sat an update", "sat a round", profit),
    LiveMeasure("income", "Routing income of the routers", "sat a round", income),
    LiveMeasure("success", "Payments settled", "%", success),
    LiveMeasure("price", "What senders paid", "ppm", _price),
    LiveMeasure("latency", "Latency of settled payments, median", "ms", lambda r: _latency(r, 0.5)),
    LiveMeasure("latency95", "Latency, 95th percentile", "ms", lambda r: _latency(r, 0.95)),
    LiveMeasure(
        "failed_attempts", "Failed attempts per payment", "", lambda r: float(_paid(r)[:, 2].mean())
    ),
    LiveMeasure(
        "updates",
        "Policies announced by the routers",
        "a round",
        lambda r: sum(r.updates) / len(r.earned),
    ),
)  # fmt: skip
"""What is reported of each condition."""


@dataclass(frozen=True, slots=True)
class GapRow:
    """How far real nodes and the twin are apart under one condition, over all seeds."""

    condition: str
    fees: Estimate
    """Mean of |live - twin| / twin, %."""
    fees_signed: Estimate
    success: Estimate
    """Mean of |live - twin|, percentage points."""
    same: float
    """Share of the payments with the same end, fee and failed attempts, %."""
    apart: tuple[int | None, ...]
    """By seed, the first round in which a payment was not the same; None: all were."""


@dataclass(frozen=True, slots=True)
class Learning:
    """Profit of the routers that learn on, in one part of the runs, sat a round."""

    online: Estimate
    frozen: Estimate
    """The same routers on the same seeds, who do not."""
    gain: Estimate
    """`online` less `frozen`, paired."""
    better: int
    """Seeds on which learning on earned more."""
    everyone: Estimate
    """The same difference, of all routers together."""
    untaught: Estimate | None = None
    """The same routers, who go by what they believe at first; None: not run."""
    taught: Estimate | None = None
    """`online` less `untaught`, paired: what was learned from payments."""


@dataclass(frozen=True, slots=True)
class LiveScores:
    """What came out."""

    plan: LivePlan
    seeds: tuple[int, ...]
    """Of which all runs on real nodes are there."""
    means: Mapping[str, Mapping[str, Estimate]]
    """By condition and key of a measure."""
    against: Mapping[str, Mapping[str, Estimate]]
    """The same less the baseline's on the same seeds."""
    gaps: tuple[GapRow, ...]
    curves: Mapping[str, Floats]
    """[seeds, rounds], the routers' income in sat, by condition."""
    learning: Mapping[str, Learning]
    """With a change: what learning on is worth to those who do, by part of the run."""
    world: WorldName
    """Where the runs were made that all this is about."""
    versions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data; what is not known is None."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "seeds": list(self.seeds),
            "conditions": {
                name: {key: _plain(one) for key, one in row.items()}
                for name, row in self.means.items()
            },
            "less_baseline": {
                name: {key: _plain(one) for key, one in row.items()}
                for name, row in self.against.items()
            },
            "gap": {
                row.condition: {
                    "fees_percent": _plain(row.fees),
                    "fees_signed_percent": _plain(row.fees_signed),
                    "success_points": _plain(row.success),
                    "same_payments_percent": row.same,
                    "first_round_apart": list(row.apart),
                }
                for row in self.gaps
            },
            "learning_on": {
                name: {
                    "online": _plain(one.online),
                    "frozen": _plain(one.frozen),
                    "online_less_frozen": _plain(one.gain),
                    "seeds_better": one.better,
                    "all_routers_online_less_frozen": _plain(one.everyone),
                    **(
                        {}
                        if one.untaught is None or one.taught is None
                        else {
                            "untaught": _plain(one.untaught),
                            "online_less_untaught": _plain(one.taught),
                        }
                    ),
                }
                for name, one in self.learning.items()
            },
            "world": self.world,
            "versions": list(self.versions),
        }


def _plain(found: Estimate) -> list[float | None]:
    return [None if math.isnan(number) else number for number in found]


def score(
    plan: LivePlan,
    team: str,
    results: Mapping[tuple[str, WorldName], LiveResult],
    world: WorldName = "live",
) -> LiveScores:
    """The figures of all seeds of which every condition was run on real nodes, or in the twin.

    Raises:
        ExperimentError: there is none.
    """
    live = _of_world(plan, team, results, world)
    twin = {} if world == "twin" else _of_world(plan, team, results, "twin")
    seeds = tuple(
        seed
        for seed in range(plan.seeds)
        if all((condition, seed) in live for condition in plan.conditions)
    )
    if not seeds:
        where = "on real nodes" if world == "live" else "in the twin"
        raise ExperimentError(plan.name, f"no seed has all its runs {where}")
    tables = {
        condition: {
            measure.key: np.array([[measure.of(live[condition, seed])] for seed in seeds])
            for measure in MEASURES
        }
        for condition in plan.conditions
    }
    base = tables[plan.baseline]
    return LiveScores(
        plan=plan,
        seeds=seeds,
        means={
            condition: {key: estimate(mean, one, seed=SEED) for key, one in table.items()}
            for condition, table in tables.items()
        },
        against={
            condition: {
                key: paired_difference(mean, one, base[key], seed=SEED)
                for key, one in table.items()
            }
            for condition, table in tables.items()
            if condition != plan.baseline
        },
        gaps=tuple(
            row
            for condition in plan.conditions
            if (row := gap_row(condition, live, twin, seeds)) is not None
        ),
        curves={
            condition: np.array(
                [
                    np.array(live[condition, seed].earned, np.float64).sum(axis=1) / MSAT_PER_SAT
                    for seed in seeds
                ]
            )
            for condition in plan.conditions
        },
        learning={name: _learning(plan, live, seeds, part) for name, part in parts(plan).items()},
        world=world,
        versions=tuple(sorted({one.version for one in live.values()})),
    )


def gap_row(condition: str, live: Runs, twin: Runs, seeds: Sequence[int]) -> GapRow | None:
    """The gap of one condition, on the seeds that were run in both worlds; None: there are none."""
    both = [seed for seed in seeds if (condition, seed) in twin]
    if not both:
        return None
    pairs = [(live[condition, seed], twin[condition, seed]) for seed in both]
    signed = np.array([[100.0 * (fees(a) - fees(b)) / max(1.0, fees(b))] for a, b in pairs])
    points = np.array([[abs(success(a) - success(b))] for a, b in pairs])
    equal = [_equal_payments(a, b) for a, b in pairs]
    payments = [one for result in equal for lived in result for one in lived]
    return GapRow(
        condition=condition,
        fees=estimate(mean, np.abs(signed), seed=SEED),
        fees_signed=estimate(mean, signed, seed=SEED),
        success=estimate(mean, points, seed=SEED),
        same=100.0 * sum(payments) / len(payments),
        apart=tuple(
            next((number for number, lived in enumerate(result) if not all(lived)), None)
            for result in equal
        ),
    )


def _equal_payments(one: LiveResult, other: LiveResult) -> list[list[bool]]:
    """[rounds][payments]; how long a payment took does not count."""
    return [
        [mine[:3] == its[:3] for mine, its in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(one.payments, other.payments, strict=True)
    ]


def _of_world(
    plan: LivePlan,
    team: str,
    results: Mapping[tuple[str, WorldName], LiveResult],
    world: WorldName,
) -> dict[tuple[str, int], LiveResult]:
    found = {}
    for seed in range(plan.seeds):
        for condition in plan.conditions:
            result = results.get((plan.run_id(seed, condition, team), world))
            if result is not None:
                found[condition, seed] = result
    return found


BEFORE, FIRST_HALF, SECOND_HALF, AFTER = "before", "first half", "second half", "after"


def parts(plan: LivePlan) -> dict[str, slice]:
    """The rounds before the change and after it, by name; none without a change."""
    at = plan.changes_at
    if at is None:
        return {}
    half = at + (plan.rounds - at) // 2
    return {
        BEFORE: slice(0, at),
        FIRST_HALF: slice(at, half),
        SECOND_HALF: slice(half, None),
        AFTER: slice(at, None),
    }


def _learning(plan: LivePlan, runs: Runs, seeds: Sequence[int], rounds: slice) -> Learning:
    def of(condition: str, *, everyone: bool) -> Floats:
        values = []
        for seed in seeds:
            result = runs[condition, seed]
            places = None if everyone else plan.learning(seed, len(result.routers))
            values.append([profit(result, rounds, places)])
        return np.array(values)

    online, frozen = (of(one, everyone=False) for one in (ONLINE, FROZEN))
    together = [of(one, everyone=True) for one in (ONLINE, FROZEN)]
    untaught = of(UNTAUGHT, everyone=False) if plan.untaught else None
    return Learning(
        online=estimate(mean, online, seed=SEED),
        frozen=estimate(mean, frozen, seed=SEED),
        gain=paired_difference(mean, online, frozen, seed=SEED),
        better=int((online > frozen).sum()),
        everyone=paired_difference(mean, together[0], together[1], seed=SEED),
        untaught=None if untaught is None else estimate(mean, untaught, seed=SEED),
        taught=None if untaught is None else paired_difference(mean, online, untaught, seed=SEED),
    )
