"""Sections of an experiment's page that not every experiment has: each is left out without data."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lnagents.evaluate.experiment.choices import choices, choices_section
from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.diagnosis_section import diagnosis_section
from lnagents.evaluate.experiment.report import Further
from lnagents.evaluate.experiment.scores import Scores
from lnagents.evaluate.experiment.stress import Collusion, Resilience, collusion, resilience
from lnagents.evaluate.experiment.training_log import read_logs, training_section
from lnagents.evaluate.experiment.trainings import trainings, trainings_section
from lnagents.evaluate.page import number, table
from lnagents.evaluate.results import Results
from lnagents.evaluate.statistics import Estimate


def further_of(definition: Definition, results: Results, scores: Scores) -> Further:
    """What `results` tell besides the scores of the plain runs.

    Raises:
        ExperimentError: the results are damaged.
    """
    stressed = definition.stress is not None
    left = resilience(definition, results) if stressed else []
    prices = collusion(definition, results) if stressed else []
    of_field = {}
    for field in scores.fields:
        order = [row.contestant for row in scores.rows(field)]
        of_field[field.field] = [
            *choices_section(choices(definition, field)),
            *trainings_section(trainings(definition, field)),
            *resilience_section([one for one in left if one.field == field.field], order),
            *collusion_section([one for one in prices if one.field == field.field], order),
        ]
    return Further(
        learned=frozenset(definition.names()) - {one.name for one in definition.contestants},
        of_field=of_field,
        after=[
            *diagnosis_section(results.folder),
            *training_section(read_logs(definition, results.folder)),
        ],
    )


def resilience_section(found: Sequence[Resilience], order: Sequence[str]) -> list[str]:
    """What disturbances leave, contestants in `order`."""
    cells = {(one.contestant, one.disturbance): one for one in found}
    kinds = list(dict.fromkeys(one.disturbance for one in found))
    names = [name for name in order if any((name, kind) in cells for kind in kinds)]
    if not names:
        return []
    body = [
        "<h3>When something goes wrong</h3>",
        '<p class="note">From the beginning of a disturbance to the end of the run, beside the same'
        " rounds without it: means over all networks, with 95 % intervals. 100 % is no harm; more"
        " is possible, for what others lose a contestant may win.</p>",
    ]
    for title, key, scale in (
        ("Income of the contestant that is left, %", "income", 100.0),
        ("Volume of all payments that is left, %", "volume", 100.0),
        ("Rounds until the volume is 90 % of what it would be", "rounds", 1.0),
    ):
        rows = [
            [
                escape(name),
                *(
                    _interval(getattr(cells[name, kind], key), scale)
                    if (name, kind) in cells
                    else "–"
                    for kind in kinds
                ),
            ]
            for name in names
        ]
        body.append(f"<h4>{title}</h4>" + table(["", *kinds], rows))
    return body


def collusion_section(found: Sequence[Collusion], order: Sequence[str]) -> list[str]:
    """How far prices are from a best response, contestants in `order`."""
    known = {one.contestant: one.ratio for one in found}
    rows = [
        [escape(name), _interval(known[name]), _verdict(known[name])]
        for name in order
        if name in known
    ]
    if not rows:
        return []
    return [
        "<h3>Do they collude?</h3>",
        '<p class="note">One seat of the contestant charges multiples of what it decides, in runs'
        " of their own. The table tells its prices as a multiple of what would have earned it most"
        " while all others stay as they are. Above 1 undercutting would pay, which a cartel has to"
        " keep its members from; below 1 it is too cheap. Prices above a best response are a sign"
        " of collusion, no proof.</p>",
        table(("", "price / best response", ""), rows),
    ]


def _verdict(found: Estimate) -> str:
    if found.low > 1.0:
        return "above best response"
    return "below best response" if found.high < 1.0 else "no difference shown"


def _interval(found: Estimate, scale: float = 1.0) -> str:
    value, low, high = (number(scale * one) for one in found)
    return f'{value}<br><span class="note">{low} … {high}</span>'
