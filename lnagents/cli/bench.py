"""`lnagents bench`: how quick things are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lnagents.cli import bench_value
from lnagents.cli.bench_learn import learn
from lnagents.cli.bench_opponent import opponent
from lnagents.cli.bench_shift import shift
from lnagents.cli.output import JsonOption, console, error_console, print_json, run
from lnagents.model.errors import InputError

if TYPE_CHECKING:
    from lnagents.evaluate.recording import CaseSet

app = typer.Typer(help="Measure this machine, and the learners.", no_args_is_help=True)
app.command()(learn)
app.command()(shift)
app.command()(opponent)
app.command("value")(bench_value.value)
app.command("value-live")(bench_value.value_live)


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


@app.command()
def fidelity(
    cases: Annotated[int, typer.Option(min=1, help="Random networks per set.")] = 10,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="`single` (the default), `bimodal`, `multipart`, `concurrent`, `held`, `stale`,"
            " or `all`; may be given several times.",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the recordings of the live side. What is there is not run again,"
            " so an interrupted bench goes on; `lnagents twin replay` reads them."
        ),
    ] = None,
    twice: Annotated[
        bool,
        typer.Option(help="Run the live side twice, to see how far LND agrees with itself."),
    ] = False,
    explain: Annotated[
        int | None,
        typer.Option(metavar="CASE", help="Show this case of each set step by step, nothing else."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """How well the twin agrees with real LND: the same payments on random networks, both sides.

    LND's own senders pay on a live network per case. The twin gets its start and the times of the
    payments, and has to come to the same attempts, failures, fees and balances by itself.
    """
    from lnagents.cli.fidelity_view import show_agreement
    from lnagents.evaluate.fidelity import bench_fidelity
    from lnagents.evaluate.fidelity_explain import explain_case

    chosen = _case_sets(sets or ["single"])
    with error_console.status("Starting") as status:
        result = run(
            bench_fidelity(
                chosen,
                cases=range(cases) if explain is None else [explain],
                seed=seed,
                directory=record,
                twice=twice,
                progress=lambda text: status.update(text),
            )
        )
    if json_output:
        print_json(result.to_json())
    elif explain is not None:
        for case in result.cases:
            console.print(explain_case(case), markup=False, highlight=False, soft_wrap=True)
    else:
        show_agreement(result)


@app.command()
def market(
    topology: Annotated[
        str, typer.Option(help="With a seller: a topology file, or the name of one.")
    ] = "default",
    purchases: Annotated[int, typer.Option(min=10, help="Serial, and again at once.")] = 100,
    requests: Annotated[int, typer.Option(min=10, help="With one paid token.")] = 2_000,
    challenges: Annotated[int, typer.Option(min=10, help="That nobody pays.")] = 1_000,
    pairs: Annotated[
        int, typer.Option(min=2, help="Blocks of payments with and without an agent that decides.")
    ] = 24,
    rounds: Annotated[
        int, typer.Option(min=2, help="Of holders of passes against others, seeds 0, 1, ...")
    ] = 10,
    json_output: JsonOption = False,
) -> None:
    """The market on real nodes: purchases, paid tokens, a flood, and priority on forwards.

    How many purchases and requests with a paid token a second, also while others leave challenges
    unpaid; how quickly an agent decides on forwards, what that costs its node, and how much better
    holders of passes fare than others when twice as much is sent as a channel can carry.
    """
    from lnagents.evaluate.bench_market import bench_market
    from lnagents.testbed import load_topology

    chosen = load_topology(topology)
    with error_console.status("Starting") as status:
        result = run(
            bench_market(
                chosen,
                purchases=purchases,
                token_requests=requests,
                challenges=challenges,
                pairs=pairs,
                rounds=rounds,
                progress=lambda text: status.update(text),
            )
        )
    if json_output:
        print_json(result.to_json())
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("measure")
    table.add_column("", justify="right")
    figures = result.to_json()
    for name, value in {**figures, **figures.pop("forwarding")}.items():
        if isinstance(value, dict):
            shown = f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        else:
            shown = f"{value:.2f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    console.print(table)


@app.command()
def env(
    graph: Annotated[
        Path | None,
        typer.Option(
            help="A network's file, as for `twin describe`; without it, a Barabási-Albert network"
            " of 100 nodes and 475 channels."
        ),
    ] = None,
    agents: Annotated[int, typer.Option(min=1, help="Nodes with an agent.")] = 10,
    payments: Annotated[int, typer.Option(min=1, help="In each round.")] = 50,
    json_output: JsonOption = False,
) -> None:
    """What each layer above the twin costs: arrays for trainers, and the PettingZoo form."""
    from lnagents.evaluate.bench_env import bench_env
    from lnagents.twin.generate import barabasi_albert
    from lnagents.twin.loaders import load_network

    network = barabasi_albert(100, 1) if graph is None else load_network(graph)
    if agents > network.nodes:
        raise InputError("--agents", f"{agents} is more than the network's {network.nodes} nodes")
    with error_console.status("Starting") as status:
        result = bench_env(
            network,
            agents=agents,
            payments_per_round=payments,
            progress=lambda text: status.update(text),
        )
    if json_output:
        print_json(result.to_json())
        return
    table = Table(box=None, pad_edge=False)
    for title in ("form", "payments/CPU-second", "of the twin's"):
        table.add_column(title, justify="left" if title == "form" else "right")
    for name, rate in (
        ("the twin itself", result.twin),
        ("arrays", result.array),
        ("PettingZoo", result.pettingzoo),
    ):
        table.add_row(name, f"{rate:,.0f}", f"{rate / result.twin:.2f}")
    console.print(table)
    console.print(
        f"{result.nodes} nodes, {result.channels} channels, {result.agents} agents,"
        f" {result.payments_per_round} payments a round",
        highlight=False,
    )


@app.command()
def twin(
    graph: Annotated[
        Path | None,
        typer.Option(
            help="A network's file, as for `twin describe`; without it, Barabási-Albert networks"
            " of 100, 500, 1,000 and 5,000 nodes."
        ),
    ] = None,
    payments: Annotated[int, typer.Option(min=1, help="On each network.")] = 20_000,
    batch: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many small networks at once to measure besides, with one thread and with all"
            " processors: Barabási-Albert networks of 100 nodes, or the file's so many times."
            " By default 64 without a file, none with one.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Payments of the twin per second of one processor, and the memory it takes."""
    from lnagents.evaluate import bench_batch
    from lnagents.evaluate.bench_twin import NODES, bench_twin
    from lnagents.twin.generate import barabasi_albert
    from lnagents.twin.loaders import load_network

    many = (bench_batch.NETWORKS if graph is None else 0) if batch is None else batch
    together = None
    with error_console.status("Starting") as status:
        result = bench_twin(
            NODES if graph is None else (graph,),
            payments=payments,
            progress=lambda text: status.update(text),
        )
        if many:
            networks = (
                [barabasi_albert(bench_batch.NODES, seed) for seed in range(1, many + 1)]
                if graph is None
                else [load_network(graph)] * many
            )
            together = bench_batch.bench_batch(networks, progress=lambda text: status.update(text))
    if json_output:
        whole = result.to_json()
        print_json(whole if together is None else {**whole, "batch": together.to_json()})
        return
    table = Table(box=None, pad_edge=False)
    for title in (
        "nodes",
        "channels",
        "payments/CPU-second",
        "success",
        "peak RSS, MB",
        "bytes/channel",
    ):
        table.add_column(title, justify="right")
    for row in result.rows:
        table.add_row(
            f"{row.nodes:,}",
            f"{row.channels:,}",
            f"{row.payments_per_cpu_second:,.0f}",
            f"{100 * row.success:.1f} %",
            f"{row.peak_rss_mb:.0f}",
            f"{row.bytes_per_channel:,.0f}",
        )
    console.print(table)
    if result.growth:
        console.print(
            f"The time for a payment grows with nodes^{result.growth['nodes']:.2f},"
            f" or channels^{result.growth['channels']:.2f}.",
            highlight=False,
        )
    if together is not None:
        rates = ", ".join(
            f"{rate:,.0f} with {number} thread{'s' if number > 1 else ''}"
            for number, rate in together.payments_per_second.items()
        )
        console.print(
            f"{together.networks} networks at once, payments/second: {rates}"
            f" ({together.scaling:.2f} times as many)",
            highlight=False,
        )


@app.command()
def train(
    graph: Annotated[
        Path | None,
        typer.Option(
            help="A network's file, as for `twin describe`; without it, a Barabási-Albert network."
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=6, help="Of the network, without a file.")] = 10,
    agents: Annotated[int, typer.Option(min=1, help="Nodes with an agent.")] = 10,
    payments: Annotated[int, typer.Option(min=0, help="In each round.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="Of an episode.")] = 50,
    environments: Annotated[int, typer.Option(min=1, help="At once.")] = 8,
    hidden: Annotated[int, typer.Option(min=1, help="Width of every hidden layer.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over an iteration's batch.")] = 6,
    minibatches: Annotated[int, typer.Option(min=1, help="Of each pass.")] = 1,
    turns: Annotated[int, typer.Option(min=1, help="Iterations of each side that count.")] = 5,
    benchmarl: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON",
            help="The interpreter of an environment with BenchMARL; by default the one that"
            " `make bench-env` makes, bench/.venv/bin/python in the checkout.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Training, in environment steps per second of one processor, against BenchMARL's IPPO.

    All collect and learn on the same environment, with the same batch, passes over it, and width
    of hidden layers; they take turns, and the quickest turn of each counts. BenchMARL runs with
    our networks; with its own MLP; with ours on an environment without infos; and with ours on our
    own batch of environments.
    """
    from lnagents.evaluate.bench_train import INTERPRETER, TrainBenchSpec, bench_train

    spec = TrainBenchSpec(
        graph=None if graph is None else str(graph.resolve()),
        nodes=nodes,
        agents=agents,
        payments=payments,
        rounds=rounds,
        environments=environments,
        hidden=hidden,
        epochs=epochs,
        minibatches=minibatches,
    )
    with error_console.status("Starting") as status:
        result = bench_train(
            spec,
            interpreter=benchmarl or INTERPRETER,
            turns=turns,
            progress=lambda text: status.update(text),
        )
    if json_output:
        print_json(result.to_json())
        return
    table = Table(box=None, pad_edge=False)
    for title in ("", "steps/CPU-second", "parameters", "microseconds a step"):
        table.add_column(
            title, justify="right" if title in ("steps/CPU-second", "parameters") else "left"
        )
    for name, side in {"ours": result.ours, **result.rivals}.items():
        where = ", ".join(f"{part} {time:,.0f}" for part, time in side.where.items())
        table.add_row(name, f"{side.steps_per_cpu_second:,.0f}", f"{side.parameters:,}", where)
    console.print(table)
    ratios = ", ".join(f"{result.ratio(name):.1f} (to {name})" for name in result.rivals)
    console.print(f"Times as fast: {ratios}.", highlight=False)


def _case_sets(names: list[str]) -> list[CaseSet]:
    from lnagents.evaluate.recording import CaseSet

    if "all" in names:
        return list(CaseSet)
    known = [case_set.value for case_set in CaseSet]
    for name in names:
        if name not in known:
            raise InputError("--set", f"no set {name!r} ({', '.join(known)}, all)")
    return [CaseSet(name) for name in dict.fromkeys(names)]
