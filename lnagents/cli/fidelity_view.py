"""How the command line shows the agreement of twin and live network."""

from __future__ import annotations

from rich.table import Table

from lnagents.cli.output import console
from lnagents.evaluate.fidelity import FidelityBench
from lnagents.evaluate.fidelity_compare import Agreement, agreement, wilson

_TITLES = {
    "outcome": "outcome",
    "first_route": "first route",
    "sequence": "all attempts",
}


def show_agreement(bench: FidelityBench) -> None:
    """A table of the sets, and the first divergences."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("payments", justify="right")
    for title in _TITLES.values():
        table.add_column(f"same {title} (95 % interval)", justify="right")
    table.add_column("balances that differ", justify="right")
    table.add_column("ties", justify="right")
    for case_set, counted in bench.sets.items():
        _add_row(table, case_set.value, counted)
    if len(bench.sets) > 1:
        _add_row(table, "all", bench.total)
    if bench.repeated:
        _add_row(table, "LND against itself", agreement(bench.repeated))
    console.print(table)
    for text in bench.divergences:
        console.print()
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _add_row(table: Table, name: str, counted: Agreement) -> None:
    cells = []
    for _, successes in counted.shares():
        low, high = wilson(successes, counted.payments)
        share = successes / max(1, counted.payments)
        cells.append(f"{100 * share:.2f} % ({100 * low:.2f}–{100 * high:.2f})")
    ties = str(counted.ties)
    if counted.after_ties:
        ties += f" (and {counted.after_ties} after them)"
    table.add_row(
        name,
        f"{counted.payments:,}",
        *cells,
        f"{counted.balance_mismatches:,} of {2 * counted.channels_compared:,}",
        ties,
    )
