"""A picture of a network: who is joined to whom, how channels are split, what they charge."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import rustworkx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lnagents.env.features import rate_scale, share
from lnagents.env.world import ChannelTruth
from lnagents.model.units import NodeKey

SIZE_INCHES = 7.0
DOTS_PER_INCH = 100
MANY_NODES = 40
"""From here on names would cover the picture."""

_AGENT = "#c2571a"
_OTHER = "#8a8f98"


def picture(
    channels: Sequence[ChannelTruth],
    names: Mapping[NodeKey, str],
    agents: Collection[str],
    round_number: int,
) -> NDArray[np.uint8]:
    """[height, width, 3]: nodes as discs, each half channel as wide as its balance.

    A half channel belongs to the node that it touches, is as long as its share of the balance, and
    darker the higher its fee rate. Agents are orange, other nodes grey. The same network always
    has the same layout.
    """
    places = _layout(channels, names)
    figure = Figure(figsize=(SIZE_INCHES, SIZE_INCHES), dpi=DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.95))
    axes.set_axis_off()
    largest = max((one.capacity_msat for one in channels), default=1)
    lines, widths, colours = [], [], []
    for one in channels:
        start, end = places[one.node1], places[one.node2]
        split = share(one.balance1_msat, one.balance2_msat, 0.5)
        middle = start + split * (end - start)
        width = 1.0 + 5.0 * math.sqrt(one.capacity_msat / largest)
        for ends, policy in (((start, middle), one.policy1), ((middle, end), one.policy2)):
            lines.append(ends)
            widths.append(width)
            shade = 0.85 - 0.8 * min(1.0, rate_scale(policy.fee_rate_ppm))
            colours.append((shade, shade, min(1.0, shade + 0.15)))
        axes.plot(*middle, marker="|", color="white", markersize=width, zorder=2)
    axes.add_collection(LineCollection(lines, linewidths=widths, colors=colours, zorder=1))
    for key, place in places.items():
        name = names[key]
        colour = _AGENT if name in agents else _OTHER
        axes.plot(*place, marker="o", color=colour, markersize=12, zorder=3)
        if len(places) < MANY_NODES:
            axes.annotate(
                name, tuple(place), (0, 9), textcoords="offset points", ha="center", zorder=4
            )
    axes.margins(0.08)
    figure.suptitle(f"round {round_number}", y=0.985)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba(), np.uint8)  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()


def _layout(
    channels: Sequence[ChannelTruth], names: Mapping[NodeKey, str]
) -> dict[NodeKey, NDArray[np.float64]]:
    """Where each node is drawn; by names, so that it does not depend on a network's keys."""
    keys = sorted(names, key=lambda key: names[key])
    graph: rustworkx.PyGraph[NodeKey, None] = rustworkx.PyGraph()
    index = dict(zip(keys, graph.add_nodes_from(keys), strict=True))
    joined = {tuple(sorted((index[one.node1], index[one.node2]))) for one in channels}
    graph.add_edges_from([(one, other, None) for one, other in sorted(joined)])
    found = rustworkx.spring_layout(graph, seed=0, num_iter=200)
    return {key: np.asarray(found[index[key]], np.float64) for key in keys}
