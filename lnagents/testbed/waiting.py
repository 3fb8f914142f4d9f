"""Waiting for what no event announces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lnagents.model.errors import SettleTimeoutError

POLL_SECONDS = 0.02


async def wait_until(
    condition: Callable[[], Awaitable[bool]],
    *,
    timeout: float,
    complaint: Callable[[], str],
    interval: float = POLL_SECONDS,
) -> None:
    """Ask every `interval` s until `condition` holds.

    Raises:
        SettleTimeoutError: it does not after `timeout` s; `complaint` says what is missing then.
    """
    try:
        async with asyncio.timeout(timeout):
            while not await condition():  # noqa: ASYNC110 - nothing would set an event
                await asyncio.sleep(interval)
    except TimeoutError as exc:
        raise SettleTimeoutError(f"{complaint()}, after {timeout:g} s") from exc
