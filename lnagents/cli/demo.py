"""`lnagents demo`: the main job with a live table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lnagents.cli.output import JsonOption, console, error_console, print_json, run

if TYPE_CHECKING:
    from lnagents.evaluate.demo import DemoResult


def demo(
    payments: Annotated[
        int, typer.Option(min=1, help="How many payments each of the two runs makes.")
    ] = 400,
    topology: Annotated[
        str, typer.Option(help="A topology file, or the name of one that comes along.")
    ] = "default",
    workload: Annotated[
        str, typer.Option(help="A workload file, or the name of one that comes along.")
    ] = "default",
    backend: Annotated[
        str, typer.Option(help="`native` (plain processes) or `compose` (Docker).")
    ] = "native",
    seed: Annotated[int, typer.Option(min=0, help="Of the traffic and of the agents.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("out/demo"),
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Leave the network running; `lnagents testbed down` ends it later."
        ),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Start a real network, let agents learn on it, compare them with LND's defaults, and report.

    Brings up bitcoind, LND nodes and Aperture, runs one agent daemon per node, makes seeded
    payments through them, makes the same payments on the same network with LND's own defaults, and
    writes report.html and report.json. Everything is stopped at the end. What stays random in a
    live run: node keys, and the order in which simultaneous payments arrive.
    """
    from lnagents.cli.demo_view import DemoView
    from lnagents.cli.testbed import backend_kind
    from lnagents.evaluate.demo import DemoSettings, run_demo
    from lnagents.testbed import load_topology

    settings = DemoSettings(
        topology=load_topology(topology),
        out=out,
        workload=workload,
        payments=payments,
        seed=seed,
        backend=backend_kind(backend),
        keep=keep,
    )
    with DemoView(error_console) as view:
        result = run(run_demo(settings, view))
    if json_output:
        print_json({"page": str(result.page), "document": str(result.document)})
    else:
        _print(result, keep)


def _print(result: DemoResult, keep: bool) -> None:
    from lnagents.cli.demo_view import comparison_table
    from lnagents.evaluate.report import summarise

    console.print(comparison_table(result.experiment.comparisons))
    console.print(summarise(result.experiment.comparisons))
    console.print(f"Report: {result.page}  (data: {result.document})", soft_wrap=True)
    if keep:
        console.print(
            "The network is still running; see `lnagents testbed status`,"
            " end it with `lnagents testbed down`."
        )
