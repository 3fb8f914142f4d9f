"""How much hangs on luck in training: the trainings of each learner, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.scores import PROFIT_SCORE, SEED, FieldScores
from lnagents.evaluate.page import number, stacked, table
from lnagents.evaluate.statistics import (
    Estimate,
    estimate,
    interquartile_mean,
    mean,
    paired_difference,
)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One training of a learner; intervals are over networks."""

    learner: str
    training: int
    """By its seed."""
    score: Estimate
    success: Estimate
    """Less that of the baseline, percentage points."""
    volume: Estimate
    """Percent of the most possible."""


def trainings(definition: Definition, field: FieldScores) -> list[TrainingRow]:
    """Of all learners that have several."""
    base = field.values[definition.baseline]["success_rate"]
    rows = []
    for name, seeds in definition.trainings_of().items():
        for place, seed in enumerate(seeds if len(seeds) > 1 else ()):
            alone = {key: one[place] for key, one in field.values[name].items()}
            rows.append(
                TrainingRow(
                    learner=name,
                    training=seed,
                    score=estimate(interquartile_mean, alone[PROFIT_SCORE], seed=SEED),
                    success=paired_difference(mean, alone["success_rate"], base, seed=SEED),
                    volume=estimate(mean, alone["fraction_of_bound"], seed=SEED),
                )
            )
    return rows


def trainings_section(rows: Sequence[TrainingRow]) -> list[str]:
    """HTML; nothing if no learner has several trainings."""
    if not rows:
        return []
    learners = dict.fromkeys(row.learner for row in rows)
    side_by_side = [
        [escape(name)]
        + [
            " · ".join(number(getattr(row, key).value) for row in rows if row.learner == name)
            for key in ("score", "success", "volume")
        ]
        for name in learners
    ]
    each = [
        [
            f"{escape(row.learner)} {row.training}",
            stacked(row.score),
            stacked(row.success),
            stacked(row.volume),
        ]
        for row in rows
    ]
    head = ("", "profit score", "success less the baseline’s, points", "volume, % of the bound")
    return [
        "<h3>Training by training</h3>",
        '<p class="note">The same learners from other seeds, side by side: what luck in training'
        " makes.</p>",
        table(head, side_by_side),
        "<details><summary>Each with its interval, over networks</summary>",
        table(head, each),
        "</details>",
    ]
