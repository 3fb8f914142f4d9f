"""`lnagents twin`: networks in the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, error_console, print_json, run
from lnagents.model.generate import Split
from lnagents.model.units import format_msat

app = typer.Typer(help="The simulated twin of a network.", no_args_is_help=True)

SplitOption = Annotated[
    Split,
    typer.Option(help="How the channels of a public network are split; only their ends know."),
]
NetworkArgument = Annotated[
    str,
    typer.Argument(
        help="A topology (a file, or the name of one that comes along), the JSON of"
        " `lncli describegraph`, or a snapshot (CSV); gzip is fine."
    ),
]


@app.callback()
def _group() -> None:
    # With a callback, a single command stays a command of the group.
    pass


@app.command()
def describe(
    network: NetworkArgument,
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
        f" the largest of {figures.components:,} connected components has"
        f" {figures.largest_component:,} nodes;"
        f" {100 * figures.disabled_share:.0f} % of the directions are disabled,"
        f" {100 * figures.inbound_fee_share:.0f} % of the others have inbound fees",
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


@app.command("run")
def run_payments(
    network: NetworkArgument,
    workload: Annotated[
        str | None,
        typer.Option(
            help="A workload file, or the name of one that comes along; without it, random nodes"
            " pay each other."
        ),
    ] = None,
    payments: Annotated[int, typer.Option(min=1, help="How many payments to make.")] = 1_000,
    seed: Annotated[
        int, typer.Option(help="Of the payments, and of balances that nobody knows.")
    ] = 0,
    max_parts: Annotated[
        int, typer.Option(min=1, help="Parts that LND may split a payment into.")
    ] = 1,
    split: SplitOption = Split.UNIFORM,
    bound: Annotated[
        bool,
        typer.Option(help="Also compute how much perfect knowledge could have delivered at most."),
    ] = True,
    json_output: JsonOption = False,
) -> None:
    """Let LND's senders make payments in the twin of a network, and say what became of them."""
    from lnagents.evaluate.networks import find_network
    from lnagents.evaluate.twin_run import find_traffic, run_in_twin
    from lnagents.twin.announced import Selection
    from lnagents.twin.balances import BalanceSettings

    selection = Selection(seed=seed, balances=BalanceSettings(split))
    found = find_network(network, selection)
    traffic = find_traffic(found, workload, payments, seed, max_parts=max_parts)
    with error_console.status("Paying"):
        result = run_in_twin(found, traffic, seed=seed, bound=bound)
    if json_output:
        print_json(result.to_json())
        return
    console.print(
        f"{result.settled:,} of {result.payments:,} payments settled:"
        f" {format_msat(result.settled_msat)} of {format_msat(result.offered_msat)}, for"
        f" {format_msat(result.fees_msat)} in fees; {result.failed_attempts:,} of"
        f" {result.attempts:,} attempts failed",
        highlight=False,
    )
    if result.bound_msat is not None:
        console.print(
            f"Perfect knowledge could have delivered {format_msat(result.bound_msat)} at most.",
            highlight=False,
        )


@app.command()
def replay(
    recordings: Annotated[
        list[Path],
        typer.Argument(help="Recordings of live runs (JSON), or folders of them."),
    ],
    explain: Annotated[
        bool, typer.Option(help="Show every payment step by step, both sides.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Let recorded live runs happen again in the twin, and say how well it agrees."""
    from lnagents.cli.fidelity_view import show_agreement
    from lnagents.evaluate.fidelity import compare_recordings, find_recordings
    from lnagents.evaluate.fidelity_explain import explain_case

    result = compare_recordings(find_recordings(recordings))
    if json_output:
        print_json(result.to_json())
        return
    if explain:
        for case in result.cases:
            console.print(explain_case(case), markup=False, highlight=False, soft_wrap=True)
    show_agreement(result)


@app.command()
def record(
    file: Annotated[Path, typer.Argument(help="Where to write the recording (JSON).")],
    topology: Annotated[
        str, typer.Option(help="A topology file, or the name of one that comes along.")
    ] = "default",
    workload: Annotated[
        str, typer.Option(help="A workload file, or the name of one that comes along.")
    ] = "default",
    payments: Annotated[int, typer.Option(min=1, help="How many payments to make.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the workload.")] = 1,
) -> None:
    """Run a workload on a live network, paid by LND's own senders, and record it for `replay`."""
    from lnagents.evaluate.fidelity import write_recording
    from lnagents.evaluate.fidelity_cases import workload_case
    from lnagents.evaluate.fidelity_live import record_case
    from lnagents.evaluate.workload import load_workload
    from lnagents.testbed import load_topology

    chosen = load_topology(topology)
    case = workload_case(chosen, load_workload(workload, chosen), payments, seed)
    with error_console.status("Starting the network") as status:
        recording = run(
            record_case(
                case,
                name=f"record-{chosen.name}",
                progress=lambda done, count: status.update(f"{done} of {count} payments"),
            )
        )
    write_recording(recording, file)
    settled = sum(payment.settled for payment in recording.payments)
    console.print(f"{settled} of {len(recording.payments)} payments settled; see {file}")
