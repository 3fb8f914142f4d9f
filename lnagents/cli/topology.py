"""`lnagents topology`: topology files, without any network."""

from __future__ import annotations

from typing import Annotated

import typer

from lnagents.model.generate import Shape, generate_topology
from lnagents.model.topology import dump_topology

app = typer.Typer(help="Make topology files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # With a callback, `generate` stays a command of the group although it is the only one.
    pass


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
