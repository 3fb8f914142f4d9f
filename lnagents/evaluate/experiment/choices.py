"""What each choice of a learner's makes of it: its algorithm, and whether it has a model of others.

Learners that differ in one choice only are compared network by network. Their trainings are no
pairs, so luck in training is in the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.scores import PROFIT_SCORE, SEED, FieldScores
from lnagents.evaluate.page import stacked, table
from lnagents.evaluate.statistics import Estimate, interquartile_mean, mean, paired_difference


@dataclass(frozen=True, slots=True)
class Choice:
    """One learner less another one that differs in one choice only."""

    learner: str
    other: str
    score: Estimate
    """Of the profit score."""
    success: Estimate
    """Of the success rate, percentage points."""
    volume: Estimate
    """Of the volume settled, percentage points of the most possible."""


def choices(definition: Definition, field: FieldScores) -> list[Choice]:
    """Each algorithm, model of others and kind of memory, beside the first one of them."""
    learners = definition.learners
    if learners is None:
        return []
    usual = {
        "algorithm": learners.algorithms[0],
        "opponent_model": learners.opponent_models[0],
        "recurrence": learners.recurrences[0],
    }
    cells = learners.cells()
    pairs = [
        (cell, cell._replace(**{key: value}))
        for cell in cells
        for key, value in usual.items()
        if getattr(cell, key) != value
    ]
    # Not every model has to be tried with every reward.
    return [_choice(field, one.name, other.name) for one, other in pairs if other in cells]


def _choice(field: FieldScores, learner: str, other: str) -> Choice:
    first, second = field.values[learner], field.values[other]

    def less(key: str) -> Estimate:
        return paired_difference(mean, first[key], second[key], seed=SEED)

    score = paired_difference(
        interquartile_mean, first[PROFIT_SCORE], second[PROFIT_SCORE], seed=SEED
    )
    return Choice(learner, other, score, less("success_rate"), less("fraction_of_bound"))


def choices_section(found: Sequence[Choice]) -> list[str]:
    """HTML; nothing if no two learners differ in one choice."""
    if not found:
        return []
    rows = [
        [
            f"{escape(one.learner)}<br>less {escape(one.other)}",
            stacked(one.score),
            stacked(one.success),
            stacked(one.volume),
            _verdict(one),
        ]
        for one in found
    ]
    head = ("", "profit score", "success, points", "volume, points", "")
    return [
        "<h3>Does the algorithm matter, a model of others, or a memory?</h3>",
        '<p class="note">Learners that differ in this one thing, network by network; trainings are'
        f" resampled apart. Of {len(found)} comparisons about one in twenty in each column shows a"
        " difference by chance.</p>",
        table(head, rows),
    ]


def _verdict(found: Choice) -> str:
    told = [
        f"{'more' if one.low > 0.0 else 'less'} {what}"
        for what, one in (
            ("profit", found.score),
            ("success", found.success),
            ("volume", found.volume),
        )
        if one.low > 0.0 or one.high < 0.0
    ]
    return ", ".join(told) or "no difference shown"
