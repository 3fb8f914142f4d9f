"""The report of an experiment: one HTML page that needs nothing else, made from its results."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lnagents.evaluate.experiment import charts
from lnagents.evaluate.experiment.contestants import SAME
from lnagents.evaluate.experiment.scores import MEASURES, ContestantRow, FieldScores, Scores
from lnagents.evaluate.page import chart, number, page, table, write_whole
from lnagents.evaluate.statistics import BOOTSTRAP_SAMPLES, Estimate

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
    " the baseline's mean income would be on others.",
    "Demand does not react to prices: who pays whom how much is fixed, and a sender takes every"
    " route below its fee limit. High fees therefore look better here than they would with senders"
    " who stay away, and what senders pay has to be read beside what routers earn.",
    "Fee churn is the mean |Δ ln(1 + ppm)| per round and channel. The most volume possible is a"
    " bound that perfect knowledge of all balances allows; no sender can know as much.",
    "All of it happened in the twin, with the default parameters of every contestant.",
)


def write_report(scores: Scores, folder: Path) -> Path:
    """Write the page and, as JSON, its figures into `folder`; returns the page's path.

    Blocking; each file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / DATA, json.dumps(scores.to_json(), indent=1, allow_nan=False) + "\n")
    write_whole(folder / PAGE, to_html(scores))
    return folder / PAGE


def to_html(scores: Scores) -> str:
    """The page."""
    definition = scores.definition
    body = [f"<h1>Experiment “{escape(definition.name)}”</h1>", _facts(scores)]
    rows_of = {field.field: scores.rows(field) for field in scores.fields}
    for field in scores.fields:
        told = escape(summarise(rows_of[field.field], definition.baseline, field.field))
        body.append(f'<p class="summary">{told}</p>')
    body += [f'<p class="note">{escape(note)}</p>' for note in NOTES]
    for field in scores.fields:
        body += _field(scores, field, rows_of[field.field])
    return page(f"lnagents experiment {definition.name}", body)


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
        f"{best.contestant} has the best profit score, {_estimate(best.score)}, where {baseline}"
        f" has {_estimate(base.score)}; it beats it with probability {_estimate(best.better)}."
    )
    apart = best.score.low > base.score.high
    if apart and best.score.value >= AIM * base.score.value:
        told.append("The intervals do not overlap.")
    elif apart:
        told.append(f"The intervals do not overlap, but the gain is below {AIM - 1:.0%}.")
    else:
        told.append("The intervals overlap, so this may be chance.")
    told.append(_second(rows))
    success, price = best.success, best.means["price"].value / base.means["price"].value
    if success.high < 0.0:
        told.append(f"It costs the network success: {_estimate(success)} percentage points.")
    elif success.low > 0.0:
        told.append(f"Success rises by {_estimate(success)} percentage points.")
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
        f"{len(definition.contestants)} contestants on {scores.networks} {definition.split.value}"
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


def _field(scores: Scores, field: FieldScores, rows: list[ContestantRow]) -> list[str]:
    baseline = scores.definition.baseline
    order = [row.contestant for row in rows]
    titles = {one.key: f"{one.title}, {one.unit}" for one in MEASURES}
    key = field.field
    return [
        f"<h2>{escape(_scene(field.field))}</h2>",
        chart(charts.intervals(rows, baseline), f"intervals-{key}"),
        _scores_table(rows, baseline),
        f"<h2>{escape(_scene(field.field))}: performance profiles</h2>",
        '<p class="note">The share of runs, over all families, with a profit score above τ, with'
        " 95 % bands. A line that is above another everywhere is better at every level.</p>",
        chart(charts.profiles(field), f"profiles-{key}"),
        f"<h2>{escape(_scene(field.field))}: family by family</h2>",
        '<p class="note">Interquartile means of profit scores; the baseline\'s mean income is 1 in'
        " each family.</p>",
        chart(charts.by_family(field, scores.families, order), f"families-{key}"),
        f"<h2>{escape(_scene(field.field))}: what it costs senders</h2>",
        chart(charts.price_of_profit(rows, titles), f"price-{key}"),
        f"<h2>{escape(_scene(field.field))}: all measures</h2>",
        '<p class="note">Means over families and networks; the interval is below each.</p>',
        _measures_table(rows, everyone=field.field == SAME),
    ]


def _scores_table(rows: Sequence[ContestantRow], baseline: str) -> str:
    head = (
        "", "profit score", f"P(better than {baseline})", f"success less that of {baseline}, points"
    )  # fmt: skip
    cells = [
        (
            escape(row.contestant),
            _estimate(row.score),
            "–" if row.contestant == baseline else _estimate(row.better),
            "–" if row.contestant == baseline else _estimate(row.success),
        )
        for row in rows
    ]
    return table(head, cells)


def _measures_table(rows: Sequence[ContestantRow], *, everyone: bool) -> str:
    """With everyone on the contestant's side, shares are 100 % and say nothing."""
    shown = [one for one in MEASURES if not (everyone and one.key.startswith("share_of"))]
    head = ("", *(f"{one.title}, {one.unit}" if one.unit else one.title for one in shown))
    cells = [
        (escape(row.contestant), *(_stacked(row.means[one.key]) for one in shown)) for row in rows
    ]
    return table(head, cells)


def _estimate(found: Estimate) -> str:
    if math.isnan(found.value):
        return "–"
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def _stacked(found: Estimate) -> str:
    if math.isnan(found.value):
        return "–"
    interval = f"{number(found.low)} … {number(found.high)}"
    return f'{number(found.value)}<br><span class="note">{interval}</span>'
