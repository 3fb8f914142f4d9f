"""`lnagents setup` and `lnagents doctor`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from lnagents.cli.output import (
    FAILURE,
    JsonOption,
    console,
    error_console,
    print_json,
    run,
)

if TYPE_CHECKING:
    from lnagents.testbed.toolchain import Progress, ProgressEvent, Toolchain

MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failed": "[red]✗[/]"}


def setup(as_json: JsonOption = False) -> None:
    """Find bitcoind, lnd and aperture, or provide them."""
    toolchain = run(_provide())
    if as_json:
        print_json([dataclasses.asdict(program) for program in toolchain.programs])
        return
    for program in toolchain.programs:
        note = " with --dev options" if program.has_dev_build else ""
        line = f"{program.name:11} {program.version} from the {program.origin.value}{note}"
        console.print(f"{line}, {program.path}", markup=False, highlight=False, soft_wrap=True)


def doctor(as_json: JsonOption = False) -> None:
    """Check this machine, one line per requirement, with what to do about each failing one."""
    from lnagents.testbed.doctor import Status, examine

    checks = run(examine())
    healthy = all(check.status is not Status.FAILED for check in checks)
    if as_json:
        print_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = MARKS[check.status.value]
            advice = f" → {check.advice}" if check.advice else ""
            console.print(mark, f"{check.name:{width}}", end=" ")
            console.print(check.found + advice, markup=False, highlight=False, soft_wrap=True)
    if not healthy:
        raise typer.Exit(FAILURE)


async def _provide() -> Toolchain:
    from lnagents.testbed.toolchain import ensure_toolchain

    if not error_console.is_terminal:
        return await ensure_toolchain(_lines())
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.fields[product]:9}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bars(*columns, console=error_console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(event: ProgressEvent) -> None:
            if event.product not in tasks:
                tasks[event.product] = bars.add_task("", total=None, product=event.product)
            bars.update(
                tasks[event.product],
                description=event.text,
                completed=event.done,
                total=event.total or None,
            )

        return await ensure_toolchain(show)


def _lines() -> Progress:
    """Progress for logs: one line per step, and one for every tenth of a long one."""
    told: dict[str, tuple[str, int]] = {}

    def show(event: ProgressEvent) -> None:
        tenth = 10 * event.done // event.total if event.total else 0
        if told.get(event.product) != (event.message, tenth):
            told[event.product] = (event.message, tenth)
            error_console.print(str(event), markup=False, highlight=False, soft_wrap=True)

    return show
