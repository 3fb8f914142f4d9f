"""The picture of a study: how good actors were after so many steps, beside simple rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lnagents.evaluate.figures import COLOURS
from lnagents.evaluate.reference.study import LearnResult, Score, TaskName

PICTURE = "curves.png"

TITLES = {
    TaskName.SPREAD: "simple_spread: return, summed over agents",
    TaskName.CROWD: "crowd: wait in a step, negative",
}
WIDTH, HEIGHT, DOTS = 6.4, 4.4, 110
"""Inches of one task's part, and dots per inch."""


def draw(
    results: Sequence[LearnResult], rules: Mapping[TaskName, Mapping[str, Score]], path: Path
) -> None:
    """Write the picture: a line for each run, its end score with its interval, a line per rule."""
    tasks = [task for task in TaskName if any(one.task is task for one in results)]
    figure = Figure(figsize=(WIDTH * len(tasks), HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    for place, task in enumerate(tasks, start=1):
        axes = figure.add_subplot(1, len(tasks), place)
        _draw_task(axes, [one for one in results if one.task is task], rules.get(task, {}))
        axes.set_title(TITLES[task])
    figure.savefig(path, dpi=DOTS, metadata={"Software": None})


def _draw_task(axes: Axes, results: Sequence[LearnResult], rules: Mapping[str, Score]) -> None:
    names = list(dict.fromkeys(one.algorithm for one in results))
    colours = dict(zip(names, COLOURS, strict=False))
    for one in results:
        colour = colours[one.algorithm]
        steps = [point.steps / 1e6 for point in one.curve]
        axes.plot(steps, [point.score for point in one.curve], color=colour, linewidth=1.2)
        below, above = one.final.mean - one.final.low, one.final.high - one.final.mean
        axes.errorbar(
            [steps[-1]], [one.final.mean], yerr=[[below], [above]], color=colour, marker="o"
        )
    for name in names:
        axes.plot([], [], color=colours[name], label=name)
    for name, score in rules.items():
        axes.axhline(score.mean, color="#8d99a6", linestyle="--", linewidth=1.0)
        axes.annotate(
            f"{name} {score.mean:.3g}",
            (1.0, score.mean),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="#5c6670",
        )
    axes.set_xlabel("steps of environments, millions")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.12), frameon=False)
    axes.grid(alpha=0.25)
