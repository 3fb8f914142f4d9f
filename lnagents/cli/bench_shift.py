"""`lnagents bench shift`: what counter-measures against others that learn are good for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, counting, interruptible, print_json

COLUMNS = (
    ("episode_return", "return"),
    ("drift", "drift (KL)"),
    ("value_shift", "value shift"),
    ("best_response_gap", "best-response gap"),
    ("cross_play_gap", "cross-play gap"),
)


def shift(
    study: Annotated[
        Path, typer.Argument(help="A folder with an `ablation.yaml`; the result goes there.")
    ] = Path("bench/shift"),
    work: Annotated[
        Path, typer.Option(help="Folder of the runs, from which an interrupted bench goes on.")
    ] = Path("out/shift"),
    json_output: JsonOption = False,
) -> None:
    """Train a team with and without each counter-measure, and diagnose all teams.

    Ctrl-C saves; the same command goes on.
    """
    import torch

    from lnagents.evaluate.bench_shift import load_ablation, run_ablation, write_result

    ablation = load_ablation(study)
    torch.set_num_threads(ablation.threads)
    made: dict[str, int] = {}
    with interruptible() as stopped, counting() as bar:
        shown = bar.add_task("iterations", total=ablation.iterations())

        def progress(name: str, iterations: int) -> None:
            made[name] = iterations
            bar.update(shown, completed=sum(made.values()), description=name)

        document = run_ablation(ablation, work, stopped=lambda: bool(stopped), progress=progress)
    if document is None:
        console.print("Saved; the same command goes on.", highlight=False)
        return
    path = write_result(study, document)
    if json_output:
        print_json(document)
        return
    console.print(_table(document["variants"]))
    console.print(f"Means over seeds with 95 % intervals; kept in {path}", highlight=False)


def _table(variants: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table()
    table.add_column("variant")
    for _, title in COLUMNS:
        table.add_column(title, justify="right")
    for name, figures in variants.items():
        cells = [_said(figures[key]) for key, _ in COLUMNS]
        table.add_row(name, *cells)
    return table


def _said(one: Mapping[str, float]) -> str:
    return f"{one['value']:.4g} ({one['low']:.4g} to {one['high']:.4g})"
