"""How the learners of an experiment came to be: curves of their trainings, from the logs.

A log has one line per iteration (`lnagents.learn.trainer.TrainReport`). What a log does not have,
such as measures of non-stationarity or of a model of opponents, is left out of the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.school import folder_of
from lnagents.evaluate.figures import COLOURS, style
from lnagents.evaluate.page import chart, number, table
from lnagents.evaluate.train_run import LOG

CURVES = (("episode_return", "return of an episode"), ("explained", "share of returns foreseen"))

KNOWN = {
    "iteration", "steps", "iteration_steps", "reward", "episode_return", "epochs", "divergence",
    "entropy", "value_loss", "explained", "gradient_norm", "collect_seconds", "train_seconds",
    "measures", "others_return",
}  # fmt: skip
"""What every report has; other numbers are diagnostics that a run was asked for."""

LAST = 10
"""Iterations at the end, of which diagnostics are told."""


def read_logs(definition: Definition, results: Path) -> dict[str, list[list[dict[str, Any]]]]:
    """The logs of each learner's trainings, as far as they are there."""
    logs: dict[str, list[list[dict[str, Any]]]] = {}
    if definition.learners is None:
        return logs
    for name, trainings in definition.learners.grid(definition.families).items():
        for training in trainings:
            path = folder_of(results, training) / LOG
            if path.is_file():
                lines = path.read_text(encoding="utf-8").splitlines()
                logs.setdefault(name, []).append([json.loads(line) for line in lines])
    return logs


def training_section(logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[str]:
    """Curves and diagnostics; nothing without logs."""
    if not logs:
        return []
    body = [
        "<h2>How the learners came to be</h2>",
        '<p class="note">Means over the trainings of a learner, and the range of single ones.'
        " Returns of different rewards are no one measure: compare the shapes.</p>",
    ]
    for key, title in CURVES:
        body.append(chart(_curves(logs, key, title), f"training-{key}"))
    return body + _diagnostics(logs)


def _curves(
    logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], key: str, title: str
) -> go.Figure:
    figure = go.Figure()
    for index, (name, runs) in enumerate(logs.items()):
        length = min(len(run) for run in runs)
        values = np.array([[float(line[key]) for line in run[:length]] for run in runs])
        steps = [line["steps"] for line in runs[0][:length]]
        colour = COLOURS[index % len(COLOURS)]
        if len(runs) > 1:
            figure.add_trace(
                go.Scatter(
                    x=[*steps, *steps[::-1]],
                    y=[*values.max(0), *values.min(0)[::-1]],
                    fill="toself",
                    fillcolor=colour,
                    opacity=0.12,
                    line={"width": 0},
                    hoverinfo="skip",
                    showlegend=False,
                    legendgroup=name,
                )
            )
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=values.mean(0),
                mode="lines",
                name=name,
                legendgroup=name,
                line={"color": colour, "dash": "solid" if index < len(COLOURS) else "dash"},
            )
        )
    style(figure, 380)
    figure.update_xaxes(title="steps of environments")
    figure.update_yaxes(title=title)
    return figure


def _diagnostics(logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[str]:
    """Numbers besides the usual ones, at the end of training."""
    names = {
        key
        for runs in logs.values()
        for run in runs
        for line in run[-1:]
        for key, value in line.items()
        if key not in KNOWN and isinstance(value, int | float)
    }
    if not names:
        return []
    order = sorted(names)
    rows = []
    for name, runs in logs.items():
        cells = []
        for key in order:
            found = [line[key] for run in runs for line in run[-LAST:] if line.get(key) is not None]
            cells.append(number(float(np.mean(found))) if found else "–")
        rows.append([name, *cells])
    return [
        "<h3>Non-stationarity and models of opponents</h3>",
        f'<p class="note">Means over the last {LAST} iterations and all trainings.</p>',
        table(["", *(key.replace("_", " ") for key in order)], rows),
    ]
