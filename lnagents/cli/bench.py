"""`lnagents bench`: how quick things are on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, error_console, print_json, run

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # With a callback, a single command stays a command of the group.
    pass


@app.command()
def startup(
    topology: Annotated[
        str, typer.Option(help="A topology file, or the name of one that comes along.")
    ] = "star_ring",
    backend: Annotated[
        str, typer.Option(help="`native` (plain processes) or `compose` (Docker).")
    ] = "native",
    json_output: JsonOption = False,
) -> None:
    """Seconds from nothing to funded, channels active, and gossip known to all nodes."""
    from lnagents.cli.testbed import backend_kind
    from lnagents.evaluate.bench_startup import bench_startup
    from lnagents.testbed import load_topology

    chosen, kind = load_topology(topology), backend_kind(backend)
    with error_console.status("Starting") as status:
        result = run(
            bench_startup(chosen, backend=kind, progress=lambda text: status.update(text))
        )
    if json_output:
        print_json(result.to_json())
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("phase")
    table.add_column("seconds", justify="right")
    for name, seconds in result.phases.items():
        table.add_row(name, f"{seconds:.2f}")
    console.print(table)
    console.print(
        f"{result.nodes} nodes, {result.channels} channels: {result.seconds:.2f} s;"
        f" a fee change is known to all after {result.gossip_seconds:.2f} s;"
        f" reset takes {result.reset_seconds:.2f} s",
        highlight=False,
    )
