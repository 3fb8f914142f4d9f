"""`lnagents bench`: how quick things are on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, error_console, print_json, run

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)


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
        result = run(bench_startup(chosen, backend=kind, progress=lambda text: status.update(text)))
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


@app.command()
def payments(
    topology: Annotated[
        str, typer.Option(help="A line of at least five nodes: a file, or the name of one.")
    ] = "line5",
    count: Annotated[
        int, typer.Option("--payments", min=8, help="Per measurement; a quarter of it if serial.")
    ] = 160,
    json_output: JsonOption = False,
) -> None:
    """Payments a second over 1, 2 and 4 hops, alone and with an agent on every node.

    All payments are LND's own, so the ratio is what the agents beside the nodes cost them.
    """
    from lnagents.evaluate.bench_payments import bench_payments
    from lnagents.testbed import load_topology

    chosen = load_topology(topology)
    with error_console.status("Starting") as status:
        result = run(
            bench_payments(chosen, payments=count, progress=lambda text: status.update(text))
        )
    if json_output:
        print_json(result.to_json())
        return
    table = Table(box=None, pad_edge=False)
    for title in ("hops", "at once", "plain, payments/s", "with agents, payments/s", "ratio"):
        table.add_column(title, justify="right")
    for plain, agents in result.pairs:
        table.add_row(
            str(plain.hops),
            str(plain.concurrency),
            f"{plain.payments_per_second:.1f}",
            f"{agents.payments_per_second:.1f}",
            f"{agents.payments_per_second / plain.payments_per_second:.2f}",
        )
    console.print(table)
    console.print(f"With agents: {100 * result.agents_ratio:.0f} % of the plain rate.")
