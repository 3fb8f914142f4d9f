"""The report's pictures, as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import plotly.graph_objects as go
import rustworkx
from plotly.subplots import make_subplots

from lnagents.evaluate.record import NetworkSample, RunRecord
from lnagents.model.topology import Topology
from lnagents.model.units import MSAT_PER_SAT, format_short_channel_id

COLOURS = ("#2f6db5", "#d9822b", "#3a9b6a", "#b5447c", "#7a5ac2", "#8a7a2f", "#3aa0a8", "#a04a3a")
"""One per node, in the topology's order; readable on white and told apart by most eyes."""

RUN_COLOURS = {"baseline": "#8d99a6", "agents": "#2f6db5"}

PANEL_COLUMNS = 2
PANEL_HEIGHT = 190
"""In pixels, of one node's panel."""

SUCCESS_WINDOW = 40
"""Payments in the moving success rate."""


def style(figure: go.Figure, height: int) -> go.Figure:
    """What all pictures have in common."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 40, "b": 80},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "yanchor": "top", "yref": "container", "y": 0.06},
        hovermode="closest",
    )
    return figure


def _colours(names: Sequence[str]) -> dict[str, str]:
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def network(topology: Topology) -> go.Figure:
    """The network: nodes, and channels as wide as they are large."""
    names = [node.name for node in topology.nodes]
    graph: rustworkx.PyGraph[str, float] = rustworkx.PyGraph()
    index = dict(zip(names, graph.add_nodes_from(names), strict=True))
    for channel in topology.channels:
        graph.add_edge(index[channel.source], index[channel.target], 1.0)
    position = rustworkx.spring_layout(graph, seed=7, num_iter=300)
    figure = go.Figure()
    largest = max((channel.capacity_sat for channel in topology.channels), default=1)
    for channel in topology.channels:
        (x0, y0), (x1, y1) = position[index[channel.source]], position[index[channel.target]]
        figure.add_trace(
            go.Scatter(
                x=[x0, (x0 + x1) / 2, x1],
                y=[y0, (y0 + y1) / 2, y1],
                mode="lines",
                line={"width": 1 + 5 * channel.capacity_sat / largest, "color": "#c5ccd3"},
                text=f"{channel.source} – {channel.target}: {channel.capacity_sat:,} sat",
                hoverinfo="text",
                showlegend=False,
            )
        )
    colours = _colours(names)
    selling = {seller.node for seller in topology.sellers}
    figure.add_trace(
        go.Scatter(
            x=[position[index[name]][0] for name in names],
            y=[position[index[name]][1] for name in names],
            mode="markers+text",
            marker={"size": 26, "color": [colours[name] for name in names]},
            text=[f"{name} (sells hints)" if name in selling else name for name in names],
            textposition="top center",
            hoverinfo="text",
            showlegend=False,
        )
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return style(figure, 380)


def success(runs: Sequence[RunRecord]) -> go.Figure:
    """Share of settled payments among the last `SUCCESS_WINDOW`, over time."""
    figure = go.Figure()
    for run in runs:
        outcomes = sorted(run.outcomes, key=lambda o: o.started_at)
        settled = [int(outcome.settled) for outcome in outcomes]
        sums = [0, *accumulate(settled)]
        share = [
            100.0
            * (sums[i + 1] - sums[max(0, i + 1 - SUCCESS_WINDOW)])
            / min(i + 1, SUCCESS_WINDOW)
            for i in range(len(settled))
        ]
        figure.add_trace(
            go.Scatter(
                x=[outcome.started_at for outcome in outcomes],
                mode="lines",
                y=share,
                name=run.title,
                line={"color": RUN_COLOURS[run.name]},
            )
        )
    figure.update_xaxes(title="seconds since the run began")
    figure.update_yaxes(title=f"% settled of the last {SUCCESS_WINDOW}", range=[0, 102])
    return style(figure, 340)


def fees(runs: Sequence[RunRecord]) -> go.Figure:
    """Routing fees earned by all nodes together, cumulated over time."""
    figure = go.Figure()
    for run in runs:
        forwards = sorted(run.forwards, key=lambda f: f.at_seconds)
        figure.add_trace(
            go.Scatter(
                x=[0.0, *(forward.at_seconds for forward in forwards)],
                mode="lines",
                y=[0.0, *accumulate(forward.fee_msat / MSAT_PER_SAT for forward in forwards)],
                name=run.title,
                line={"color": RUN_COLOURS[run.name], "shape": "hv"},
            )
        )
    figure.update_xaxes(title="seconds since the run began")
    figure.update_yaxes(title="sat earned, all nodes")
    return style(figure, 340)


def income(runs: Sequence[RunRecord], names: Sequence[str]) -> go.Figure:
    """Routing fees per node, in both runs."""
    figure = go.Figure()
    for run in runs:
        earned = dict.fromkeys(names, 0)
        for forward in run.forwards:
            earned[forward.node] += forward.fee_msat
        figure.add_trace(
            go.Bar(
                x=list(names),
                y=[earned[name] / MSAT_PER_SAT for name in names],
                name=run.title,
                marker={"color": RUN_COLOURS[run.name]},
            )
        )
    figure.update_yaxes(title="sat earned by routing")
    return style(figure, 340)


def _per_node(names: Sequence[str], y_title: str) -> tuple[go.Figure, dict[str, tuple[int, int]]]:
    rows = -(-len(names) // PANEL_COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=PANEL_COLUMNS,
        subplot_titles=list(names),
        shared_xaxes=True,
        vertical_spacing=0.3 / rows,
    )
    figure.update_yaxes(title=y_title, col=1)
    cells = {name: (i // PANEL_COLUMNS + 1, i % PANEL_COLUMNS + 1) for i, name in enumerate(names)}
    return figure, cells


def policies(samples: Sequence[NetworkSample], names: Sequence[str]) -> go.Figure:
    """Fee rates of every edge over time, one panel per node that decides them."""
    figure, cells = _per_node(names, "ppm")
    _edge_lines(figure, cells, samples, names, "fee_rate_ppm", 1.0)
    figure.update_yaxes(type="log")
    return style(figure, PANEL_HEIGHT * -(-len(names) // PANEL_COLUMNS) + 120)


def balances(samples: Sequence[NetworkSample], names: Sequence[str]) -> go.Figure:
    """Local share of every channel over time, one panel per node."""
    figure, cells = _per_node(names, "% local")
    _edge_lines(figure, cells, samples, names, "local_share", 100.0)
    figure.update_yaxes(range=[0, 100])
    return style(figure, PANEL_HEIGHT * -(-len(names) // PANEL_COLUMNS) + 120)


def _edge_lines(
    figure: go.Figure,
    cells: dict[str, tuple[int, int]],
    samples: Sequence[NetworkSample],
    names: Sequence[str],
    what: str,
    scale: float,
) -> None:
    colours = _colours(names)
    seen: set[str] = set()
    for name in names:
        lines: dict[int, tuple[str, list[float], list[float]]] = {}
        for sample in samples:
            for edge in sample.edges.get(name, ()):
                _, times, values = lines.setdefault(edge.scid, (edge.peer, [], []))
                times.append(sample.at_seconds)
                values.append(scale * getattr(edge, what))
        row, column = cells[name]
        for scid, (peer, times, values) in lines.items():
            figure.add_trace(
                go.Scatter(
                    x=times,
                    mode="lines",
                    y=values,
                    name=f"to {peer}",
                    legendgroup=peer,
                    showlegend=peer not in seen,
                    line={"color": colours.get(peer, "#555555"), "shape": "hv", "width": 1.5},
                    hovertemplate=f"{name} → {peer} ({format_short_channel_id(scid)})<br>"
                    "%{x:.0f} s: %{y:.1f}<extra></extra>",
                ),
                row=row,
                col=column,
            )
            seen.add(peer)


def rewards(run: RunRecord) -> go.Figure:
    """Cumulated reward of every agent, round by round."""
    figure = go.Figure()
    colours = _colours([agent.name for agent in run.agents])
    for agent in run.agents:
        figure.add_trace(
            go.Scatter(
                y=[reward / MSAT_PER_SAT for reward in accumulate(agent.rewards)],
                mode="lines",
                name=agent.name,
                line={"color": colours[agent.name]},
            )
        )
    figure.update_xaxes(title="round")
    figure.update_yaxes(title="cumulated reward, sat")
    return style(figure, 340)
