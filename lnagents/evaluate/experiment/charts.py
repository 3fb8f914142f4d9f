"""The pictures of an experiment's report, as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from lnagents.evaluate.experiment.scores import PROFIT_SCORE, SEED, ContestantRow, FieldScores
from lnagents.evaluate.figures import COLOURS, style
from lnagents.evaluate.statistics import (
    estimate,
    interquartile_mean,
    performance_profile,
    pooled,
    profile_interval,
)

THRESHOLDS = 101
BAND_OPACITY = 0.12
SHOWN = 6
"""Contestants whose profiles are not a thicket."""
ROW_HEIGHT = 30
"""In pixels, of one contestant."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """One for each contestant, the same in all pictures."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def intervals(rows: Sequence[ContestantRow], baseline: str) -> go.Figure:
    """Profit scores and how likely each beats the baseline, with their intervals."""
    figure = go.Figure()
    names = [row.contestant for row in rows][::-1]
    for title, key, axis, colour in (
        ("profit score", "score", "x", COLOURS[0]),
        (f"probability of beating {baseline}", "better", "x2", COLOURS[1]),
    ):
        found = [getattr(row, key) for row in rows][::-1]
        figure.add_trace(
            go.Scatter(
                x=[one.value for one in found],
                y=names,
                xaxis=axis,
                mode="markers",
                name=title,
                marker={"color": colour, "size": 9},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [one.high - one.value for one in found],
                    "arrayminus": [one.value - one.low for one in found],
                    "color": colour,
                },
            )
        )
    style(figure, 150 + ROW_HEIGHT * len(rows))
    figure.update_layout(
        xaxis={"domain": [0.0, 0.56], "title": "profit score (interquartile mean)"},
        xaxis2={"domain": [0.62, 1.0], "title": f"P(better than {baseline})", "range": [0, 1]},
        yaxis={"automargin": True},
        showlegend=False,
    )
    return figure


def profiles(scores: FieldScores, order: Sequence[str]) -> go.Figure:
    """For each contestant the share of runs with a profit score above any threshold.

    Only the first `SHOWN` of `order` are shown at first, the others by a click on their names.
    """
    tables = {name: scores.values[name][PROFIT_SCORE] for name in order}
    everything = np.concatenate([table.ravel() for table in tables.values()])
    thresholds = np.linspace(min(0.0, everything.min()), everything.max(), THRESHOLDS)
    figure = go.Figure()
    colour = colours(list(tables))
    for index, (name, table) in enumerate(tables.items()):
        low, high = profile_interval(
            lambda some: performance_profile(some, thresholds), table, seed=SEED
        )
        line = {"color": colour[name], "dash": "solid" if index < len(COLOURS) else "dash"}
        visible = True if index < SHOWN else "legendonly"
        figure.add_trace(
            go.Scatter(
                x=np.concatenate([thresholds, thresholds[::-1]]),
                y=np.concatenate([high, low[::-1]]),
                fill="toself",
                line={"width": 0},
                fillcolor=colour[name],
                opacity=BAND_OPACITY,
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
                visible=visible,
            )
        )
        figure.add_trace(
            go.Scatter(
                x=thresholds,
                y=performance_profile(pooled(table), thresholds),
                mode="lines",
                name=name,
                line=line,
                legendgroup=name,
                visible=visible,
            )
        )
    style(figure, 480)
    figure.update_layout(margin={"b": 120})
    figure.update_xaxes(title="profit score τ")
    figure.update_yaxes(title="share of runs above τ", range=[0, 1.02])
    return figure


def by_family(scores: FieldScores, families: Sequence[str], order: Sequence[str]) -> go.Figure:
    """Profit scores family by family."""
    values = np.array(
        [
            [
                estimate(
                    interquartile_mean, scores.values[name][PROFIT_SCORE][..., [column]], seed=SEED
                ).value
                for column in range(len(families))
            ]
            for name in order
        ]
    )
    figure = go.Figure(
        go.Heatmap(
            z=np.log10(np.maximum(values, 0.01)),
            x=list(families),
            y=list(order),
            text=[[f"{value:.2f}" for value in row] for row in values],
            texttemplate="%{text}",
            colorscale="RdBu",
            zmid=0.0,
            showscale=False,
            hovertemplate="%{y} on %{x}: %{text}<extra></extra>",
        )
    )
    style(figure, 140 + ROW_HEIGHT * len(order))
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def price_of_profit(rows: Sequence[ContestantRow], titles: Mapping[str, str]) -> go.Figure:
    """What senders pay beside what the contestant earns; one point per contestant."""
    figure = go.Figure(
        go.Scatter(
            x=[row.means["price"].value for row in rows],
            y=[row.score.value for row in rows],
            text=[row.contestant for row in rows],
            mode="markers+text",
            textposition="top center",
            marker={"color": COLOURS[0], "size": 9},
            hovertemplate="%{text}: %{x:.0f} ppm, score %{y:.2f}<extra></extra>",
        )
    )
    style(figure, 420)
    figure.update_xaxes(title=titles["price"])
    figure.update_yaxes(title="profit score")
    return figure
