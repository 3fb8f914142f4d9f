"""`lnagents twin`: networks in the simulator."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, print_json
from lnagents.model.units import format_msat

app = typer.Typer(help="The simulated twin of a network.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # With a callback, a single command stays a command of the group.
    pass


@app.command()
def describe(
    network: Annotated[
        str,
        typer.Argument(
            help="A topology (a file, or the name of one that comes along), the JSON of"
            " `lncli describegraph`, or a snapshot (CSV); gzip is fine."
        ),
    ],
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Of a public network also what is disabled or apart from the largest component.",
        ),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Say how large a network is, what its nodes charge, and how its channels are split."""
    from lnagents.evaluate.networks import find_network
    from lnagents.twin.announced import Selection
    from lnagents.twin.describe import LEVELS
    from lnagents.twin.describe import describe as figures_of

    selection = Selection(both_ways=not everything, largest_component=not everything)
    figures = figures_of(find_network(network, selection))
    if json_output:
        print_json(figures.to_json())
        return
    console.print(
        f"{figures.nodes:,} nodes, {figures.channels:,} channels between {figures.pairs:,} pairs,"
        f" {format_msat(figures.capacity_sat * 1_000)};"
        f" {figures.largest_component:,} nodes can reach each other"
        f" ({figures.components:,} parts); {100 * figures.disabled_share:.0f} % of the directions"
        f" are disabled, {100 * figures.inbound_fee_share:.0f} % of the others have inbound fees",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for level in LEVELS:
        table.add_column(f"{100 * level:.0f} %", justify="right")
    for title, quantiles in (
        ("capacity, sat", figures.capacity_sat_quantiles),
        ("fee rate, ppm", figures.fee_rate_ppm_quantiles),
        ("base fee, msat", figures.base_fee_msat_quantiles),
        ("time lock, blocks", figures.time_lock_delta_quantiles),
        ("channels per node", figures.channels_per_node_quantiles),
        ("smaller side, %", [100 * x for x in figures.smaller_share_quantiles]),
    ):
        table.add_row(title, *(f"{value:,.0f}" for value in quantiles))
    console.print(table)
