"""`lnagents bench value`: what hints are worth, to whom, at which price, and what liars gain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lnagents.cli.output import (
    JsonOption,
    console,
    counting,
    error_console,
    interruptible,
    print_json,
    run,
)

if TYPE_CHECKING:
    from lnagents.evaluate.market.findings import Findings

VALUE_COLUMNS = (
    ("success_percent", "success, %"),
    ("failed_attempts", "failed attempts"),
    ("seconds", "seconds"),
    ("hints", "hints"),
    ("cost_sat_change", "cost, change"),
    ("buyers_profit_sat_change", "buyers' profit, change"),
    ("sellers_profit_sat_change", "sellers' profit, change"),
    ("rest_profit_sat_change", "others' profit, change"),
    ("rest_success_percent_change", "others' success, change"),
)


def value(
    folder: Annotated[
        Path, typer.Argument(help="Where results are kept; runs that are there are not made again.")
    ] = Path("bench/value"),
    seeds: Annotated[
        int, typer.Option(min=2, help="Networks of each family; more can be added later.")
    ] = 10,
    quick: Annotated[
        bool, typer.Option(help="A small study, of a minute or two; give it a folder of its own.")
    ] = False,
    show: Annotated[bool, typer.Option(help="Only show what is there.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Trade hints in the twin: with and without, at every price, with learned prices, with liars.

    Agents decide as daemons do. Ctrl-C saves; the same command goes on. Money is satoshi per
    payment of a buyer; changes are to the same networks and payments without a market.
    """
    from lnagents.evaluate.market.findings import Findings
    from lnagents.evaluate.market.study import MarketResult, quick_study, run_study, whole_study
    from lnagents.evaluate.results import Results

    results = Results(folder, MarketResult)
    if not show:
        study = quick_study(seeds) if quick else whole_study(seeds)
        with interruptible() as stopped, counting() as bar:
            shown = bar.add_task("runs")
            run_study(
                study,
                results,
                progress=lambda done, count: bar.update(shown, completed=done, total=count),
                stopped=lambda: bool(stopped),
            )
    findings = Findings(results)
    if json_output:
        print_json(findings.to_json())
        return
    for family in findings.families:
        _print(findings, family)


def _print(findings: Findings, family: str) -> None:
    worth = findings.value(family)
    table = Table(title=f"{family}: what a market of hints changes", title_justify="left")
    table.add_column("play")
    table.add_column("networks", justify="right")
    for _, title in VALUE_COLUMNS:
        table.add_column(title, justify="right")
    for play, row in worth.items():
        cells = [_said(row[name]) for name, _ in VALUE_COLUMNS]
        table.add_row(play, str(row["seeds"]), *cells)
    console.print(table)
    liars = Table(title=f"{family}: the first seller lies", title_justify="left")
    for title in (
        "play",
        "gain",
        "of it by routing",
        "buyers' cost",
        "hints sold",
        "dropped by",
        "hints until then",
        "hints if not",
    ):
        liars.add_column(title, justify="left" if title == "play" else "right")
    for play, row in findings.liars(family).items():
        liars.add_row(
            play,
            _said(row["gain_sat"]),
            _said(row["routing_gain_sat"]),
            _said(row["buyers_loss_sat"]),
            _said(row["hints_sold"]),
            f"{row['dropped']} of {row['buyers']}",
            _number(row["hints_until_dropped"]),
            _number(row["hints_if_not_dropped"]),
        )
    console.print(liars)
    others = Table(title=f"{family}: others", title_justify="left")
    others.add_column("difference")
    others.add_column("sat a payment", justify="right")
    for name, found in findings.others(family).items():
        others.add_row(name.replace("_", " "), _said(found))
    console.print(others)
    learned = findings.learned(family)
    if learned is not None:
        prices = ", ".join(_said(one) for one in learned["price_sat"])
        console.print(
            f"Learned prices over the thirds of {learned['periods']} periods, sat: {prices}",
            highlight=False,
        )


def _said(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    return f"{one['value']:.3g} [{one['low']:.3g}, {one['high']:.3g}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def value_live(
    folder: Annotated[
        Path, typer.Argument(help="Where results are kept; pairs that are there stay.")
    ] = Path("bench/value"),
    pairs: Annotated[int, typer.Option(min=2, help="Runs with and without buying.")] = 5,
    payments: Annotated[int, typer.Option(min=10, help="Of each run.")] = 100,
    show: Annotated[bool, typer.Option(help="Only show what is there.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Trade on real nodes: the same payments with daemons that buy, and with daemons that do not.

    Seven LND nodes, a daemon beside each, and three sellers with an Aperture each.
    """
    from lnagents.evaluate.market.live import (
        FIGURES,
        compare_live,
        read_live,
        run_live,
        with_sellers,
    )
    from lnagents.testbed import load_topology

    if not show:
        topology = with_sellers(load_topology("default"))
        with error_console.status("Starting") as status:
            run(
                run_live(
                    topology,
                    folder,
                    pairs=pairs,
                    payments=payments,
                    progress=lambda text: status.update(text),
                )
            )
    document = compare_live(read_live(folder))
    if json_output:
        print_json(document)
        return
    table = Table(title=f"{document['pairs']} pairs, per payment", title_justify="left")
    for title in ("", "without", "buying", "change"):
        table.add_column(title, justify="left" if not title else "right")
    for name in FIGURES:
        row = document[name]
        cells = [_said(row[column]) for column in ("without", "buying", "change")]
        table.add_row(name.replace("_", " "), *cells)
    console.print(table)
