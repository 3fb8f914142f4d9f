"""Runs `lnagents` beside the event loop in which the test's network lives."""

from __future__ import annotations

import asyncio
import sys


async def run_command(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of `lnagents …`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lnagents", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(120.0):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
