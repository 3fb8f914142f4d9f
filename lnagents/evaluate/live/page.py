"""The page of a live comparison, and its section for other pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from lnagents.evaluate.live.plan import Scenario
from lnagents.evaluate.live.scores import AFTER, FIRST_HALF, MEASURES, SECOND_HALF, LiveScores
from lnagents.evaluate.page import chart, estimate, number, page, stacked, table, write_whole

PAGE = "live.html"
DATA = "live.json"

AIM_PERCENT = 5.0
"""How far fees and success on real nodes may be from those in the twin."""

HAPPENS = {
    Scenario.STEADY: "Nothing changes within a run.",
    Scenario.COMPETITOR: "A further router, too dear for anyone at first, undercuts all others from"
    " round {} on.",
    Scenario.DRAIN: "Before round {} every router loses what it has on half of its channels.",
}

NOTES = (
    "One daemon runs beside every node. Those of the routers are compared; the others leave their"
    " fees as they are. All daemons live their rounds at the same time, between the payments of one"
    " round and those of the next, and LND itself sends the payments, so that every condition meets"
    " the same traffic. Each seed is another network with other payments, none of them used in"
    " training; all conditions of a seed run on the same nodes, which are put back in between.",
    "Intervals are 95 % percentile intervals of the bootstrap over seeds. They cover which networks"
    " and payments were drawn.",
    "The twin lives through the same network, seed, payments and actors; who explores draws the"
    " same lots for the same channels. As long as payments that overlap end in the same order, both"
    " agree to the millisatoshi; the first payment that ends otherwise, which happens sooner on a"
    " busy machine, leaves other balances behind, which agents then see.",
)


def write_live_page(scores: LiveScores, folder: Path) -> Path:
    """Write the page and, as JSON, its figures into `folder`; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = scores.plan.name
    write_whole(folder / DATA, json.dumps(scores.to_json(), indent=1, allow_nan=False) + "\n")
    where = "On real nodes" if scores.world == "live" else "In the twin"
    body = [f"<h1>{where}: “{escape(name)}”</h1>", *live_section(scores)]
    write_whole(folder / PAGE, page(f"lnagents experiment live {name}", body))
    return folder / PAGE


def live_section(scores: LiveScores) -> list[str]:
    """The body of the page."""
    plan = scores.plan
    happens = HAPPENS[plan.scenario].format(plan.changes_at)
    facts = (
        f"{len(scores.seeds)} of {plan.seeds} seeds, {plan.rounds} rounds each. {happens}"
        f" lnagents {', '.join(scores.versions)}."
    )
    return [
        f'<p class="facts">{escape(facts)}</p>',
        f'<p class="summary">{escape(" ".join(summarise_live(scores)))}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in NOTES),
        "<h2>All measures</h2>",
        _means(scores),
        f"<h2>Less {escape(plan.baseline)} on the same seeds</h2>",
        _differences(scores),
        *([_heading_of_learning(scores), _learning(scores)] if scores.learning else []),
        "<h2>Income round by round</h2>",
        chart(_curves(scores), f"curves-{plan.name}"),
        *(["<h2>Real nodes against the twin</h2>", _gaps(scores)] if scores.gaps else []),
    ]


def summarise_live(scores: LiveScores) -> list[str]:
    """What came out, in plain sentences, whichever way it fell."""
    plan = scores.plan
    told = []
    for condition, row in scores.against.items():
        gain = row["profit"]
        if gain.low > 0.0 or gain.high < 0.0:
            verb = "earned more than" if gain.low > 0.0 else "earned less than"
            told.append(f"{condition} {verb} {plan.baseline}, by {estimate(gain)} sat a round.")
        else:
            told.append(f"{condition} cannot be told from {plan.baseline} ({estimate(gain)}).")
    who = "those who learn on" if plan.learners == "all" else "the one who learns on"
    for name, when in (
        (AFTER, "After the change"),
        (FIRST_HALF, "in the first half of it"),
        (SECOND_HALF, "in the second half"),
    ):
        if name in scores.learning:
            found = scores.learning[name]
            gain = found.gain
            verdict = (
                "more" if gain.low > 0.0 else "less" if gain.high < 0.0 else "not clearly more"
            )
            told.append(
                f"{when[0].upper()}{when[1:]}, {who} earned {verdict} than frozen:"
                f" {estimate(gain)} sat a round, {found.better} of {len(scores.seeds)} seeds"
                f" better."
            )
            if found.taught is not None:
                told.append(f"Without learning from payments it is {estimate(found.taught)} less.")
    for gap in scores.gaps:
        within = gap.fees.value <= AIM_PERCENT and gap.success.value <= AIM_PERCENT
        told.append(
            f"Gap to the twin, {gap.condition}: fees {estimate(gap.fees)} %,"
            f" success {estimate(gap.success)} points,"
            f" {'within' if within else 'beyond'} {AIM_PERCENT:g} %."
        )
    return told


def _means(scores: LiveScores) -> str:
    head = ("", *(f"{one.title}, {one.unit}" if one.unit else one.title for one in MEASURES))
    cells = [
        (escape(condition), *(stacked(row[one.key]) for one in MEASURES))
        for condition, row in scores.means.items()
    ]
    return table(head, cells)


def _heading_of_learning(scores: LiveScores) -> str:
    learners = "all routers" if scores.plan.learners == "all" else "one router, others frozen"
    return f"<h2>What learning on is worth: {learners}</h2>"


def _learning(scores: LiveScores) -> str:
    head = (
        "rounds", "profit, learning on, sat a round", "profit, frozen, sat a round",
        "difference, paired", "seeds better", "difference, all routers",
        *(["untaught", "learning on less untaught, paired"] if scores.plan.untaught else []),
    )  # fmt: skip
    cells = [
        (
            escape(name),
            stacked(one.online),
            stacked(one.frozen),
            stacked(one.gain),
            f"{one.better} of {len(scores.seeds)}",
            stacked(one.everyone),
            *(stacked(extra) for extra in (one.untaught, one.taught) if extra is not None),
        )
        for name, one in scores.learning.items()
    ]
    return table(head, cells)


def _differences(scores: LiveScores) -> str:
    head = ("", *(f"{one.title}, {one.unit}" if one.unit else one.title for one in MEASURES))
    cells = [
        (escape(condition), *(stacked(row[one.key]) for one in MEASURES))
        for condition, row in scores.against.items()
    ]
    return table(head, cells)


def _gaps(scores: LiveScores) -> str:
    head = (
        "", "fees, |live - twin|, %", "fees, live - twin, %", "success, |live - twin|, points",
        "payments with the same end, %", "first round apart, by seed",
    )  # fmt: skip
    cells = [
        (
            escape(row.condition),
            stacked(row.fees),
            stacked(row.fees_signed),
            stacked(row.success),
            number(row.same),
            ", ".join("–" if one is None else str(one) for one in row.apart),
        )
        for row in scores.gaps
    ]
    return table(head, cells)


def _curves(scores: LiveScores) -> go.Figure:
    figure = go.Figure()
    for condition, curve in scores.curves.items():
        smooth = _smoothed(curve.mean(axis=0))
        figure.add_scatter(y=smooth, name=condition, mode="lines")
    at = scores.plan.changes_at
    if at is not None:
        figure.add_vline(x=at, line_dash="dot")
    figure.update_layout(
        xaxis_title="round",
        yaxis_title="routers' income, sat a round (mean over seeds, 5 rounds)",
        template="plotly_white",
    )
    return figure


def _smoothed(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Sequence[float]:
    return [float(values[max(0, place - 4) : place + 1].mean()) for place in range(len(values))]
