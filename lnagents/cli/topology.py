"""`lnagents topology`: topology files, without any live network."""

from __future__ import annotations

from typing import Annotated

import typer

from lnagents.model.generate import Shape, Split, generate_topology
from lnagents.model.topology import dump_topology

app = typer.Typer(help="Make topology files.", no_args_is_help=True)


@app.command()
def generate(
    shape: Annotated[Shape, typer.Argument(help="How the nodes are joined.")],
    nodes: Annotated[int, typer.Option(help="How many nodes.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same network.")] = 0,
    degree: Annotated[
        int,
        typer.Option(
            help="Channels per newcomer (barabasi-albert) or neighbours per side (watts-strogatz)."
        ),
    ] = 2,
    rewiring: Annotated[
        float, typer.Option(help="Share of channels that become short cuts (watts-strogatz).")
    ] = 0.1,
) -> None:
    """Print a network as YAML, for instance for `lnagents testbed up`."""
    topology = generate_topology(shape, nodes, seed, degree=degree, rewiring=rewiring)
    typer.echo(dump_topology(topology), nl=False)


@app.command()
def sample(
    network: Annotated[
        str,
        typer.Argument(help="The JSON of `lncli describegraph`, a snapshot (CSV), or a topology."),
    ],
    nodes: Annotated[int, typer.Option(help="How many nodes.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same part.")] = 0,
    split: Annotated[
        Split, typer.Option(help="How channels are split; only their ends know.")
    ] = Split.UNIFORM,
    name: Annotated[str, typer.Option(help="Of the topology.")] = "sample",
) -> None:
    """Print a connected part of a real network as YAML, for instance for `lnagents testbed up`."""
    from lnagents.evaluate.networks import find_network
    from lnagents.twin.announced import Selection
    from lnagents.twin.balances import BalanceSettings
    from lnagents.twin.sample import sample as part_of
    from lnagents.twin.sample import to_topology

    whole = find_network(network, Selection(seed=seed, balances=BalanceSettings(split)))
    typer.echo(dump_topology(to_topology(part_of(whole, nodes, seed), name)), nl=False)
