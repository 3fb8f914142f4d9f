"""`lnagents bench opponent`: how well a trained model of other agents foresees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, error_console, print_json
from lnagents.model.errors import InputError

if TYPE_CHECKING:
    from lnagents.evaluate.bench_opponent import Comparison
    from lnagents.evaluate.statistics import Estimate


def opponent(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A run of `lnagents train` with `train.opponent_model`, or its checkpoint."
        ),
    ],
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="Who has every second seat: a heuristic by name, `as-found`, or `same` for the"
            " team itself; may be given several times. If not: clboss, lndg, aimd, proportional"
            " and same.",
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=4, help="Of each network; they are scale-free.")] = 16,
    agents: Annotated[int, typer.Option(min=2, help="In each network.")] = 6,
    networks: Annotated[int, typer.Option(min=2, help="Held-out ones, each of them a run.")] = 10,
    rounds: Annotated[int, typer.Option(min=2, help="Of each run.")] = 40,
    json_output: JsonOption = False,
) -> None:
    """Log likelihood and Brier score of what a team foresees of others, beside naive forecasts.

    What is foreseen: the next fee rate of each peer, the next median fee rate of those who compete
    for it and of its other channels, where the balances of these channels lie, and whether an
    amount passes them. The networks are none that were trained on; intervals are over networks.
    Naive forecasts are fitted to the very outcomes that are scored, the model is not.
    """
    from lnagents.env.heuristics import HEURISTICS
    from lnagents.evaluate.bench_opponent import RULES, bench_opponent, read_checkpoint
    from lnagents.evaluate.experiment.families import ScaleFree
    from lnagents.evaluate.opponents import AS_FOUND, SAME

    known = (SAME, AS_FOUND, *HEURISTICS)
    for rule in rules or ():
        if rule not in known:
            raise InputError("--rule", f"{rule!r} is none of {', '.join(known)}")
    if agents > nodes:
        raise InputError("--agents", f"{agents} is more than the networks' {nodes} nodes")
    family = ScaleFree(
        kind="scale-free", name=f"scale-free-{nodes}", nodes=nodes, degree=2, agents=agents
    )
    data = read_checkpoint(checkpoint)
    with error_console.status("Starting") as status:
        result = bench_opponent(
            data,
            family,
            rules=rules or RULES,
            networks=networks,
            rounds=rounds,
            progress=lambda text: status.update(text),
        )
    if json_output:
        print_json([one.to_json() for one in result])
    else:
        _show(result)


def _show(result: Sequence[Comparison]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("others", "foreseen", "measure"):
        table.add_column(title, no_wrap=True)
    for title in ("model", "best naive", "better by"):
        table.add_column(title, justify="right")
    for one in result:
        naive = one.best_naive
        table.add_row(
            one.rule,
            one.prediction,
            "nats" if one.measure == "log_likelihood" else "Brier",
            f"{one.model.value:.3f}",
            f"{one.naive[naive].value:.3f} {naive}",
            _span(one.gain[naive]),
        )
    console.print(table)


def _span(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
