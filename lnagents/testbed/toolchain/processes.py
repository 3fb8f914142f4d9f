"""Runs helper programs to their end: builds, package managers, version probes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from lnagents.model.errors import ToolchainError

TAIL_LINES = 12
"""Last lines of output that an error repeats."""
LINE_LIMIT = 1 << 20
"""Longest line of output, in bytes."""


async def run_program(
    *command: str,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    on_error_line: Callable[[str], None] | None = None,
) -> str:
    """Run `command` and return its standard output.

    Cancelling ends the program and all that it started.

    Args:
        command: program and arguments.
        timeout: longest run time in seconds.
        environment: variables that differ from our own.
        directory: where it runs.
        on_error_line: called with each line of standard error, as it comes.

    Raises:
        ToolchainError: it is missing, fails, or takes too long; with its last lines.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            cwd=directory,
            limit=LINE_LIMIT,
            # A group of its own, so that a compiler's children end with it.
            start_new_session=True,
        )
    except OSError as exc:
        raise ToolchainError(f"{command[0]} cannot be run: {exc.strerror}") from exc
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        async with asyncio.timeout(timeout):
            output, _ = await asyncio.gather(
                _read_all(process), _read_errors(process, tail, on_error_line)
            )
            status = await process.wait()
    except TimeoutError as exc:
        raise ToolchainError(f"`{' '.join(command)}` did not end within {timeout:.0f} s") from exc
    finally:
        await _end(process)
    if status != 0:
        lines = list(tail) or output.splitlines()[-TAIL_LINES:]
        raise ToolchainError("\n".join([f"`{' '.join(command)}` failed (exit {status})", *lines]))
    return output


async def _read_all(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None  # noqa: S101 - we asked for a pipe
    return (await process.stdout.read()).decode("utf-8", "replace")


async def _read_errors(
    process: asyncio.subprocess.Process,
    tail: deque[str],
    on_error_line: Callable[[str], None] | None,
) -> None:
    assert process.stderr is not None  # noqa: S101 - we asked for a pipe
    async for raw in process.stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        tail.append(line)
        if on_error_line is not None:
            on_error_line(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
