"""What all commands share: how they print, how they fail, and how they run coroutines."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from lnagents.model.errors import LnagentsError

if TYPE_CHECKING:
    from rich.progress import Progress

Result = TypeVar("Result")

INPUT_ERROR = 2
"""Exit code for bad input: nothing was changed."""
FAILURE = 1
"""Exit code for everything else that went wrong."""

console = Console()
"""Standard output, for people."""
error_console = Console(stderr=True)
"""Progress and complaints, so that `--json` output stays clean."""

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document, for scripts, instead of text.")
]


ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Work on the machines of this Ray cluster; `local` begins one on this machine.",
    ),
]


def counting() -> Progress:
    """Progress of long work by counts, with the time that is left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=error_console)


def print_json(document: Any) -> None:
    """Write one JSON document to standard output, undecorated."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run one coroutine to its end; Ctrl-C and SIGTERM cancel it, so that it can clean up.

    Task groups wrap what went wrong in exception groups; the first expected error in one is what
    the user needs to know, and is raised by itself.
    """

    async def supervised() -> Result:
        task = asyncio.ensure_future(coroutine)
        loop = asyncio.get_running_loop()
        # Also SIGINT: by asyncio's own handler a second Ctrl-C would end the cleaning up, too.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(supervised())
    except BaseExceptionGroup as group:
        expected = group.subgroup(LnagentsError)
        if expected is None:
            raise
        raise _first(expected) from group


def _first(group: BaseExceptionGroup[LnagentsError]) -> LnagentsError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """A list that the first Ctrl-C (or SIGTERM) puts something into; the second interrupts."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        error_console.print("Saving after this iteration; once more stops at once.", style="yellow")

    before = {one: signal.signal(one, note) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
