"""Puts the groups of commands together and turns exceptions into exit codes."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from lnagents import __version__
from lnagents.cli import (
    agent,
    bench,
    demo,
    diagnose,
    experiment,
    market,
    testbed,
    toolchain,
    topology,
    train,
    twin,
)
from lnagents.cli.output import FAILURE, INPUT_ERROR, error_console
from lnagents.model.errors import InputError, LnagentsError

app = typer.Typer(
    name="lnagents",
    help="A real Lightning network in which every node is a learning agent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("setup")(toolchain.setup)
app.command("doctor")(toolchain.doctor)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("resume")(train.resume)
app.command("diagnose")(diagnose.diagnose)
app.add_typer(testbed.app, name="testbed")
app.add_typer(agent.app, name="agent")
app.add_typer(market.app, name="market")
app.add_typer(topology.app, name="topology")
app.add_typer(twin.app, name="twin")
app.add_typer(bench.app, name="bench")
app.add_typer(experiment.app, name="experiment")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"lnagents {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every expected error becomes one sentence and an exit code."""
    try:
        app()
    except InputError as exc:
        _complain(exc)
        sys.exit(INPUT_ERROR)
    except LnagentsError as exc:
        _complain(exc)
        sys.exit(FAILURE)
    except (KeyboardInterrupt, asyncio.CancelledError):
        error_console.print("Interrupted.", style="yellow")
        sys.exit(130)


def _complain(exc: Exception) -> None:
    error_console.print("Error:", style="bold red", end=" ")
    error_console.print(str(exc), markup=False, highlight=False, soft_wrap=True)
