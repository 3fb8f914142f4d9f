"""Blocking work, away from the event loop."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TypeVar

from lnagents.model.errors import BackendError

Result = TypeVar("Result")


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run what blocks on files in a thread, to its end even if the caller is cancelled.

    Raises:
        BackendError: the file system refused, for instance because the disk is full.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            # What it raised comes second to the cancellation.
            work.exception()
        raise
    except OSError as exc:
        cause = "the disk is full" if exc.errno == errno.ENOSPC else exc.strerror
        raise BackendError(f"{exc.filename}: {cause}") from exc
