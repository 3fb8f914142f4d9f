"""How the command line shows the agreement of twin and live network."""

from __future__ import annotations

from rich.table import Table

from lnagents.cli.output import console
from lnagents.evaluate.fidelity import FidelityBench
from lnagents.evaluate.fidelity_compare import Agreement, agreement
from lnagents.evaluate.statistics import wilson

_TITLES = {
    "outcome": "outcome",
    "first_route": "first route",
    "sequence": "all attempts",
}


def show_agreement(bench: FidelityBench) -> None:
    """A table of the sets, and the first divergences."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("payments", justify="right", no_wrap=True)
    for title in _TITLES.values():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("balances", justify="right", no_wrap=True)
    table.add_column("ties", justify="right", no_wrap=True)
    for case_set, counted in bench.sets.items():
        _add_row(table, case_set.value, counted)
    if len(bench.sets) > 1:
        _add_row(table, "all", bench.total)
    if bench.repeated:
        _add_row(table, "LND itself", agreement(bench.repeated))
    console.print(table)
    console.print(
        "% of the payments that are the same, with 95 % intervals. Balances: channels that differ,"
        " of those in cases where all attempts agree. Ties: payments that LND decided by the order"
        " of a hash map, and those after them in the same cases; neither is in the shares.",
        style="dim",
    )
    for text in bench.divergences:
        console.print()
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _add_row(table: Table, name: str, counted: Agreement) -> None:
    cells = []
    for _, successes in counted.shares():
        low, high = wilson(successes, counted.payments)
        share = successes / max(1, counted.payments)
        cells.append(f"{100 * share:.2f}\n{100 * low:.2f}–{100 * high:.2f}")
    ties = f"{counted.ties} +{counted.after_ties}" if counted.ties else "0"
    table.add_row(
        name,
        f"{counted.payments:,}",
        *cells,
        f"{counted.balance_mismatches:,}/{counted.channels_compared:,}",
        ties,
    )
