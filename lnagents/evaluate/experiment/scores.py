"""From the table of results to scores: a number for each contestant, training, network, measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.measures import fraction_of_bound, gini, price_ppm, ratio
from lnagents.evaluate.results import Results
from lnagents.evaluate.statistics import (
    Estimate,
    Floats,
    estimate,
    interquartile_mean,
    mean,
    paired_difference,
    probability_of_improvement,
)
from lnagents.model.errors import ExperimentError
from lnagents.model.units import MSAT_PER_SAT

Columns: TypeAlias = Mapping[str, Any]
"""One row per run: those of `RunResult`, and sums over the contestant's seats and all seats."""

SEED = 1
"""Of all intervals, so that a report is the same whenever it is made."""

_SQL = """
SELECT runs.*, s.*
FROM runs JOIN (
    SELECT
        run AS of_run,
        sum(fees_earned_msat) FILTER (contests)::DOUBLE AS income,
        sum(fees_earned_msat - fees_paid_msat - updates * ?) FILTER (contests)::DOUBLE AS profit,
        sum(forwards) FILTER (contests)::DOUBLE AS forwards,
        avg(fee_churn) FILTER (contests) AS churn,
        (sum(updates) FILTER (contests) / sum(channels) FILTER (contests))::DOUBLE AS updates,
        avg(rate_ppm) FILTER (contests) AS rate_ppm,
        sum(fees_earned_msat)::DOUBLE AS all_income,
        sum(forwards)::DOUBLE AS all_forwards,
        list(fees_earned_msat) AS incomes
    FROM seats GROUP BY run
) AS s ON s.of_run = runs.run
WHERE list_contains(?, runs.run)
ORDER BY runs.run
"""


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a run."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    of: Callable[[Columns], Floats]


def _per_round(columns: Columns, key: str) -> Floats:
    return ratio(columns[key], columns["rounds"])


MEASURES: tuple[Measure, ...] = (
    Measure(
        "income", "Routing income of the contestant", "sat a round", True,
        lambda c: _per_round(c, "income") / MSAT_PER_SAT,
    ),
    Measure(
        "profit", "Income less fees of its own payments and the costs of updates", "sat a round",
        True, lambda c: _per_round(c, "profit") / MSAT_PER_SAT,
    ),
    Measure(
        "share_of_forwards", "Share of the agents' forwards", "%", True,
        lambda c: 100.0 * ratio(c["forwards"], c["all_forwards"]),
    ),
    Measure(
        "share_of_fees", "Share of the agents' fees", "%", True,
        lambda c: 100.0 * ratio(c["income"], c["all_income"]),
    ),
    Measure(
        "success_rate", "Payments settled", "%", True,
        lambda c: 100.0 * ratio(c["settled"], c["payments"]),
    ),
    Measure(
        "fraction_of_bound", "Volume settled", "% of the most possible", True,
        lambda c: 100.0 * fraction_of_bound(c["settled_msat"], c["bound_msat"]),
    ),
    Measure(
        "price", "What senders paid", "ppm", False,
        lambda c: price_ppm(c["fees_msat"], c["settled_msat"]),
    ),
    Measure(
        "failed_attempts", "Failed attempts per payment", "", False,
        lambda c: ratio(c["failed_attempts"], c["payments"]),
    ),
    Measure(
        "gini", "Gini coefficient of the agents' income", "", False,
        lambda c: np.array([float(gini(incomes)) for incomes in c["incomes"]]),
    ),
    Measure(
        "churn", "Fee churn, see the notes", "", False,
        lambda c: np.asarray(c["churn"], np.float64),
    ),
    Measure(
        "updates", "Policy updates per channel", "a round", False,
        lambda c: ratio(c["updates"], c["rounds"]),
    ),
)  # fmt: skip
"""What is reported of each contestant."""

PROFIT_SCORE = "profit_score"
"""Profit as a multiple of the baseline's mean income on the same family, against the same field:
what makes networks of different sizes comparable."""


@dataclass(frozen=True, slots=True)
class FieldScores:
    """All contestants against one field."""

    field: str
    values: Mapping[str, Mapping[str, Floats]]
    """[trainings, networks, families] by contestant and key of a measure, `PROFIT_SCORE` included;
    one training for who was not trained."""

    def trainings(self, contestant: str) -> int:
        """How many trainings of a contestant played."""
        return len(self.values[contestant][PROFIT_SCORE])

    def alone(self, contestant: str, training: int) -> Mapping[str, Floats]:
        """The values [networks, families] of one training of a contestant, by key."""
        return {key: one[training] for key, one in self.values[contestant].items()}


@dataclass(frozen=True, slots=True)
class Scores:
    """What an experiment brought."""

    definition: Definition
    fields: tuple[FieldScores, ...]
    networks: int
    """Of each family, of which all contestants have results."""
    runs: int
    """Of which there are results."""
    versions: tuple[str, ...]
    """Of lnagents, which made the results."""
    seconds: float = 0.0
    """Of one processor, for the runs that were counted."""

    @property
    def families(self) -> tuple[str, ...]:
        """The columns of all scores."""
        return tuple(family.name for family in self.definition.families)

    @property
    def complete(self) -> bool:
        """Whether every run has a result that these scores come from."""
        return self.runs == sum(spec.plain for spec in self.definition.runs())

    def to_json(self) -> dict[str, Any]:
        """The estimates of all contestants, by field and contestant."""
        return {
            "name": self.definition.name,
            "networks": self.networks,
            "complete": self.complete,
            "fields": {
                scores.field: {row.contestant: row.to_json() for row in self.rows(scores)}
                for scores in self.fields
            },
        }

    def rows(self, scores: FieldScores) -> list[ContestantRow]:
        """The contestants, the one with the best profit first."""
        base = scores.values[self.definition.baseline]
        rows = [
            ContestantRow(
                contestant=name,
                score=estimate(interquartile_mean, values[PROFIT_SCORE], seed=SEED),
                better=estimate(
                    probability_of_improvement,
                    values[PROFIT_SCORE],
                    base[PROFIT_SCORE],
                    seed=SEED,
                ),
                gain=paired_difference(
                    interquartile_mean, values[PROFIT_SCORE], base[PROFIT_SCORE], seed=SEED
                ),
                success=paired_difference(
                    mean, values["success_rate"], base["success_rate"], seed=SEED
                ),
                means={
                    measure.key: estimate(mean, values[measure.key], seed=SEED)
                    for measure in MEASURES
                },
            )
            for name, values in scores.values.items()
        ]
        return sorted(rows, key=lambda row: -row.score.value)


@dataclass(frozen=True, slots=True)
class Duel:
    """Two contestants against the same field on the same networks."""

    first: str
    second: str
    score: Estimate
    """Difference of the profit scores, first less second."""
    gain: float
    """By which part of the second's score; NaN if that is not positive."""
    success: Estimate
    """Difference of the success rates, percentage points."""
    apart: bool
    """Whether the intervals of the two scores do not overlap."""


def duel(scores: FieldScores, first: str, second: str) -> Duel:
    """Compare two contestants, run by run."""
    one, other = scores.values[first], scores.values[second]
    own, base = (
        estimate(interquartile_mean, each[PROFIT_SCORE], seed=SEED) for each in (one, other)
    )
    return Duel(
        first,
        second,
        paired_difference(interquartile_mean, one[PROFIT_SCORE], other[PROFIT_SCORE], seed=SEED),
        own.value / base.value - 1.0 if base.value > 0.0 else math.nan,
        paired_difference(mean, one["success_rate"], other["success_rate"], seed=SEED),
        own.low > base.high or own.high < base.low,
    )


@dataclass(frozen=True, slots=True)
class ContestantRow:
    """What can be said of one contestant against one field."""

    contestant: str
    score: Estimate
    """Interquartile mean of `PROFIT_SCORE`."""
    better: Estimate
    """Probability that its profit score is above the baseline's, on networks of the same family."""
    gain: Estimate
    """Difference of the score to the baseline's on the same networks."""
    success: Estimate
    """Difference of the success rate to the baseline's on the same networks, percentage points."""
    means: Mapping[str, Estimate]
    """Of each measure, by key: the mean over families and networks."""

    def to_json(self) -> dict[str, Any]:
        """As plain data; what is not known is None."""
        parts = {
            "score": self.score,
            "better": self.better,
            "gain": self.gain,
            "success": self.success,
            **self.means,
        }
        return {
            key: [None if math.isnan(number) else number for number in part]
            for key, part in parts.items()
        }


def read_scores(definition: Definition, results: Results) -> Scores:
    """The scores of all contestants, on those networks of which every result is there.

    Raises:
        ExperimentError: the results are damaged, those of one training were made by different
            teams, or there are not those of one network of each family.
    """
    wanted = {spec.id: spec for spec in definition.runs() if spec.plain}
    columns = results.query(_SQL, [definition.update_cost_msat, list(wanted)])
    found = {run: place for place, run in enumerate(columns["run"])}
    missing = {spec.index for run, spec in wanted.items() if run not in found}
    _refuse_mixtures(wanted, columns, results)
    indices = [index for index in definition.numbers if index not in missing]
    if not indices:
        problem = f"no network of each family has all its runs, {len(found)} of {len(wanted)} exist"
        raise ExperimentError(str(results.folder), problem)
    values = {measure.key: measure.of(columns) for measure in MEASURES}
    place_of = {_place(spec): found[run] for run, spec in wanted.items() if run in found}
    trainings = definition.trainings_of()
    families = [family.name for family in definition.families]
    fields = []
    for field in definition.fields:
        tables: dict[str, dict[str, Floats]] = {}
        for contestant in definition.names():
            places = np.array(
                [
                    [
                        [place_of[field.name, contestant, seed, index, one] for one in families]
                        for index in indices
                    ]
                    for seed in trainings[contestant]
                ]
            )
            tables[contestant] = {key: column[places] for key, column in values.items()}
        unit = tables[definition.baseline]["income"].mean(axis=(0, 1))
        if not (unit > 0).all():
            poor = families[int(np.argmin(unit))]
            raise ExperimentError(
                str(results.folder),
                f"baseline: {definition.baseline!r} earns nothing on {poor}, so nothing can be"
                " compared with it",
            )
        for table in tables.values():
            table[PROFIT_SCORE] = table["profit"] / unit
        fields.append(FieldScores(field.name, tables))
    return Scores(
        definition=definition,
        fields=tuple(fields),
        networks=len(indices),
        runs=len(found),
        versions=tuple(sorted(set(columns["version"]))),
        seconds=float(sum(columns["seconds"])),
    )


def _refuse_mixtures(wanted: Mapping[str, RunSpec], columns: Columns, results: Results) -> None:
    """Raise an `ExperimentError` if a training's results were made by more than one team."""
    teams: dict[tuple[str, int], str] = {}
    for run, team in zip(columns["run"], columns["team"], strict=True):
        spec = wanted[run]
        who = spec.contestant.name, spec.training
        if teams.setdefault(who, team or "") != (team or ""):
            problem = (
                f"runs of {who[0]}, training {who[1]}, were made by different teams;"
                " `lnagents experiment run` makes them again"
            )
            raise ExperimentError(str(results.folder), problem)


def _place(spec: RunSpec) -> tuple[str, str, int, int, str]:
    """Where a run's values stand: field, contestant, training, network, family."""
    return spec.field.name, spec.contestant.name, spec.training, spec.index, spec.family.name
