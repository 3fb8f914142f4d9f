"""The report of an experiment: one HTML page that needs nothing else, made from its results."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import yaml

from lnagents.evaluate.experiment import charts
from lnagents.evaluate.experiment.contestants import SAME
from lnagents.evaluate.experiment.scores import (
    MEASURES,
    ContestantRow,
    Duel,
    FieldScores,
    Scores,
    duel,
)
from lnagents.evaluate.page import chart, estimate, page, stacked, table, write_whole
from lnagents.evaluate.statistics import BOOTSTRAP_SAMPLES

PAGE = "report.html"
DATA = "report.json"

AIM = 1.2
"""Times the baseline's profit; what counts as a clear gain."""

NOTES = (
    "A run is one network with its payments; all contestants meet the same networks, seats and"
    " payments. Profit scores are profit divided by the baseline's mean income on the same family"
    " against the same field, so 1 is about what the baseline makes. Intervals are 95 % percentile"
    f" intervals of {BOOTSTRAP_SAMPLES:,} stratified bootstrap resamples (Agarwal et al., 2021):"
    " they cover which networks and payments were drawn, not which families were chosen, nor what"
    " the baseline's mean income would be on others. Differences are taken network by network.",
    "“No difference shown” means that the interval of the difference reaches 0: it does not mean"
    " that there is none. Nothing is corrected for how many contestants are compared, so the best"
    " of many is a little too good.",
    "Who pays whom how much does not depend on fees; each payment has a highest fee that its sender"
    " accepts. What senders pay has to be read beside what routers earn.",
    "Fee churn is the mean |Δ ln(1 + ppm)| per round and channel. The most volume possible is a"
    " bound that perfect knowledge of all balances allows; no sender can know as much.",
    "All of it happened in the twin. Heuristics have their default parameters.",
)

LEARNED_NOTE = (
    "Every training of a learner plays all networks. Where there are several, intervals come from"
    " resampling trainings, too, each with all its runs; from so few they are a little too narrow."
    " Of a single training they say nothing about what another one would have brought."
)


@dataclass(frozen=True, slots=True)
class Further:
    """What else there is to show; nothing of it is needed."""

    learned: frozenset[str] = frozenset()
    """Which contestants were trained."""
    of_field: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """HTML about contests against a field, by its name, below what is known of them otherwise."""
    after: Sequence[str] = ()
    """HTML below all fields."""


def write_report(scores: Scores, folder: Path, further: Further | None = None) -> Path:
    """Write the page and, as JSON, its figures into `folder`; returns the page's path.

    Blocking; each file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / DATA, json.dumps(scores.to_json(), indent=1, allow_nan=False) + "\n")
    write_whole(folder / PAGE, to_html(scores, further))
    return folder / PAGE


def to_html(scores: Scores, further: Further | None = None) -> str:
    """The page."""
    definition = scores.definition
    further = further or Further()
    body = [f"<h1>Experiment “{escape(definition.name)}”</h1>", _facts(scores)]
    rows_of = {one.field: scores.rows(one) for one in scores.fields}
    for one in scores.fields:
        told = [summarise(rows_of[one.field], definition.baseline, one.field)]
        told += learners_told(one, rows_of[one.field], further.learned)
        paragraphs = "".join(f"<p>{escape(sentences)}</p>" for sentences in told)
        body.append(f'<div class="summary">{paragraphs}</div>')
    for one in scores.fields:
        body += _field(scores, one, rows_of[one.field])
        body += further.of_field.get(one.field, ())
    body += further.after
    body += _what_was_run(scores)
    notes = (*NOTES, LEARNED_NOTE) if further.learned else NOTES
    body.append("<h2>How to read it, and its limits</h2>")
    body.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>")
    return page(f"lnagents experiment {definition.name}", body)


def learners_told(
    scores: FieldScores, rows: Sequence[ContestantRow], learned: frozenset[str]
) -> list[str]:
    """The best learner beside the best rule, in plain sentences; nothing unless there are both."""
    best = [
        next((row.contestant for row in rows if (row.contestant in learned) is kind), None)
        for kind in (True, False)
    ]
    if best[0] is None or best[1] is None:
        return []
    rule = best[1]
    told = [_best_told(duel(scores, best[0], rule)), _aim_told(scores, rule, learned)]
    return [*told, _volume_told(rows, learned)]


def _best_told(found: Duel) -> str:
    told = f"The best learner, {found.first}, beside the best rule, {found.second}: "
    if found.score.low > 0.0:
        told += f"its profit score is higher by {estimate(found.score)}"
    elif found.score.high < 0.0:
        told += f"its profit score is lower, by {estimate(found.score)}"
    else:
        told += f"no difference shown, {estimate(found.score)}"
    if not math.isnan(found.gain):
        told += f" ({found.gain:+.0%})"
    told += "; the intervals do not overlap" if found.apart else "; the intervals overlap"
    return told + f". Success differs by {estimate(found.success)} percentage points."


def _aim_told(scores: FieldScores, rule: str, learned: frozenset[str]) -> str:
    """Which learners reach the aim."""
    duels = [duel(scores, name, rule) for name in scores.values if name in learned]
    # Success is no lower unless its interval says so.
    reached = [
        one.first
        for one in duels
        if one.apart and one.gain >= AIM - 1.0 and one.success.high >= 0.0
    ]
    aim = f"The aim, {AIM - 1:.0%} more profit than {rule} at no lower success, is"
    return f"{aim} reached by {', '.join(reached)}." if reached else f"{aim} reached by no learner."


def _volume_told(rows: Sequence[ContestantRow], learned: frozenset[str]) -> str:
    """Who brings the network most."""

    def most(*, trained: bool) -> str:
        best = max(
            (row for row in rows if (row.contestant in learned) is trained),
            key=lambda row: row.means["fraction_of_bound"].value,
        )
        return f"{best.contestant}, {estimate(best.means['fraction_of_bound'])} %"

    told = f"Of the most possible volume, most settles with the learner {most(trained=True)},"
    return f"{told} and with the rule {most(trained=False)}."


def summarise(rows: Sequence[ContestantRow], baseline: str, field: str) -> str:
    """What came out against one field, in plain sentences, whichever way it fell.

    Args:
        rows: of all contestants, the one with the best profit first.
        baseline: the name of the contestant that the others are compared with.
        field: the name of who had the other seats.
    """
    best = rows[0]
    base = next(row for row in rows if row.contestant == baseline)
    told = [f"{_scene(field)}:"]
    if best is base:
        told.append(f"no contestant has a better profit score than {baseline}.")
        return " ".join(told)
    told.append(
        f"{best.contestant} has the best profit score, {estimate(best.score)}, where {baseline}"
        f" has {estimate(base.score)}; it beats it with probability {estimate(best.better)}."
    )
    apart = best.score.low > base.score.high
    if apart and best.score.value >= AIM * base.score.value:
        told.append("The intervals do not overlap.")
    elif apart:
        told.append(f"The intervals do not overlap, but the gain is below {AIM - 1:.0%}.")
    elif best.gain.low > 0.0:
        told.append(
            f"The intervals overlap; network by network it is ahead by {estimate(best.gain)}."
        )
    else:
        told.append("No difference to the baseline is shown.")
    told.append(_second(rows))
    success, price = best.success, best.means["price"].value / base.means["price"].value
    if success.high < 0.0:
        told.append(f"It costs the network success: {estimate(success)} percentage points.")
    elif success.low > 0.0:
        told.append(f"Success rises by {estimate(success)} percentage points.")
    else:
        told.append("Success does not change clearly.")
    told.append(f"Senders pay {price:.2f} times what they pay with {baseline}.")
    return " ".join(told)


def _second(rows: Sequence[ContestantRow]) -> str:
    """Whether the best one stands alone."""
    best = rows[0]
    close = [row.contestant for row in rows[1:] if row.score.high >= best.score.low]
    if not close:
        return "No other contestant's interval reaches its own."
    return f"It cannot be told apart from {', '.join(close)}."


def _scene(field: str) -> str:
    if field == SAME:
        return "Where a contestant has all agents' seats"
    return f"Where half of the agents' seats are those of {field}"


def _facts(scores: Scores) -> str:
    definition = scores.definition
    whole = len(definition.runs())
    facts = [
        f"{len(scores.fields[0].values)} contestants on {scores.networks} {definition.split.value}"
        f" networks of each of {len(definition.families)} families"
        f" ({', '.join(scores.families)}), {definition.rounds} rounds each.",
        f"lnagents {', '.join(scores.versions)}.",
    ]
    if not scores.complete:
        facts.append(
            f"NOT COMPLETE: {scores.runs:,} of {whole:,} runs have results; only networks of"
            " which all runs are there are counted."
        )
    return f'<p class="facts">{escape(" ".join(facts))}</p>'


def _what_was_run(scores: Scores) -> list[str]:
    """All that is needed to run it again."""
    definition = scores.definition
    numbers = definition.numbers
    given = definition.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
    rows = [
        ("runs that are counted", f"{scores.runs:,}"),
        ("processor time of these", f"{scores.seconds / 3_600:,.2f} h"),
        ("networks of each family", f"{scores.networks}, numbers {numbers[0]} to {numbers[-1]}"),
        ("version of lnagents", escape(", ".join(scores.versions))),
    ]
    return [
        "<h2>What was run</h2>",
        table(("", ""), rows),
        f"<details><summary>The definition</summary><pre>{escape(text)}</pre></details>",
    ]


def _field(scores: Scores, field: FieldScores, rows: list[ContestantRow]) -> list[str]:
    baseline = scores.definition.baseline
    order = [row.contestant for row in rows]
    titles = {one.key: f"{one.title}, {one.unit}" for one in MEASURES}
    key = field.field
    return [
        f"<h2>{escape(_scene(field.field))}</h2>",
        chart(charts.intervals(rows, baseline), f"intervals-{key}"),
        _scores_table(rows, baseline),
        "<h3>Performance profiles</h3>",
        '<p class="note">The share of runs, over all families, with a profit score above τ, with'
        " 95 % bands. A line that is above another everywhere is better at every level.</p>",
        chart(charts.profiles(field, order), f"profiles-{key}"),
        "<h3>Family by family</h3>",
        '<p class="note">Interquartile means of profit scores; the baseline\'s mean income is 1 in'
        " each family.</p>",
        chart(charts.by_family(field, scores.families, order), f"families-{key}"),
        "<h3>What it costs senders</h3>",
        chart(charts.price_of_profit(rows, titles), f"price-{key}"),
        "<h3>All measures</h3>",
        '<p class="note">Means over families and networks; the interval is below each.</p>',
        _measures_table(rows, everyone=field.field == SAME),
    ]


def _scores_table(rows: Sequence[ContestantRow], baseline: str) -> str:
    head = (
        "", "profit score", f"less that of {baseline}, network by network",
        f"P(better than {baseline})", f"success less that of {baseline}, points",
    )  # fmt: skip
    cells = [
        (
            escape(row.contestant),
            estimate(row.score),
            "–" if row.contestant == baseline else estimate(row.gain),
            "–" if row.contestant == baseline else estimate(row.better),
            "–" if row.contestant == baseline else estimate(row.success),
        )
        for row in rows
    ]
    return table(head, cells)


def _measures_table(rows: Sequence[ContestantRow], *, everyone: bool) -> str:
    """With everyone on the contestant's side, shares are 100 % and say nothing."""
    shown = [one for one in MEASURES if not (everyone and one.key.startswith("share_of"))]
    head = ("", *(f"{one.title}, {one.unit}" if one.unit else one.title for one in shown))
    cells = [
        (escape(row.contestant), *(stacked(row.means[one.key]) for one in shown)) for row in rows
    ]
    return table(head, cells)
