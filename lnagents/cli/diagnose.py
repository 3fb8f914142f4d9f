"""`lnagents diagnose`: how stable trained teams are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, counting, interruptible, print_json

if TYPE_CHECKING:
    from lnagents.evaluate.diagnose_run import Effort, FrozenRun
    from lnagents.evaluate.diagnosis import CrossPlay, Gap
    from lnagents.evaluate.statistics import Estimate
    from lnagents.learn.trainer import TrainReport


def diagnose(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs that `lnagents train` made.")],
    seats: Annotated[
        int, typer.Option(min=0, help="On which a newcomer is trained against each team; 0: none.")
    ] = 2,
    iterations: Annotated[int, typer.Option(min=1, help="Of a newcomer's training.")] = 100,
    episodes: Annotated[
        int, typer.Option(min=1, help="In each environment, for what is compared.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of seats, newcomers and episodes.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Measure what a newcomer gains against trained teams, and how teams do among each other.

    The best-response gap of each run, and the cross-play matrix if there are several. Ctrl-C saves
    the newcomers' training; the same command goes on. Results are kept in RUN/diagnosis.
    """
    import torch

    from lnagents.evaluate.diagnose_run import Effort, cross_play_of, frozen

    effort = Effort(seats=seats, iterations=iterations, episodes=episodes, seed=seed)
    chosen = [frozen(folder) for folder in runs]
    torch.set_num_threads(chosen[0].config.threads)
    gaps: list[tuple[FrozenRun, Gap]] = []
    for run in chosen if seats else ():
        gap = _best_response(run, effort)
        if gap is None:
            console.print("Saved; the same command goes on.", highlight=False)
            return
        gaps.append((run, gap))
    crossed = cross_play_of(chosen, effort) if len(chosen) > 1 else None
    if json_output:
        document: dict[str, Any] = {
            "best_response": {str(run.folder): gap.to_json() for run, gap in gaps},
            "cross_play": None if crossed is None else crossed.to_json(),
        }
        print_json(document)
        return
    if gaps:
        console.print(_gap_table(gaps))
    if crossed is not None:
        console.print(_cross_table(crossed))
        gap_ = crossed.gap()
        console.print(f"Among their own, less among strangers: {_said(gap_)}", highlight=False)


def _best_response(run: FrozenRun, effort: Effort) -> Gap | None:
    from lnagents.evaluate.diagnose_run import best_response

    total = effort.seats * effort.iterations
    with interruptible() as stopped, counting() as bar:
        shown = bar.add_task(f"newcomers against {run.name}", total=total)

        def progress(place: int, report: TrainReport) -> None:
            bar.update(shown, completed=place * effort.iterations + report.iteration)

        return best_response(run, effort, stopped=lambda: bool(stopped), progress=progress)


def _gap_table(gaps: list[tuple[FrozenRun, Gap]]) -> Table:
    table = Table(title="Best-response gap (return of an episode; 95 % intervals)")
    for name in ("run", "seats × networks", "newcomer", "team", "gap"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for run, gap in gaps:
        table.add_row(
            run.name,
            str(len(gap.units())),
            f"{gap.newcomer.mean():.4g}",
            f"{gap.team.mean():.4g}",
            _said(gap.estimate()),
        )
    return table


def _cross_table(crossed: CrossPlay) -> Table:
    table = Table(title="Cross-play: an agent of the row among agents of the column")
    table.add_column("")
    for name in crossed.names:
        table.add_column(name, justify="right")
    for one, name in enumerate(crossed.names):
        cells = [_said(crossed.cell(one, other)) for other in range(len(crossed.names))]
        table.add_row(name, *cells)
    return table


def _said(estimate: Estimate) -> str:
    return f"{estimate.value:+.4g} ({estimate.low:+.4g} to {estimate.high:+.4g})"
