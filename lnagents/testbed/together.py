"""Running coroutines at the same time, with one plain exception when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from lnagents.model.errors import NodeDiedError
from lnagents.testbed.backend import Backend

Result = TypeVar("Result")

DEATH_NOTICE_SECONDS = 0.5
"""A call that fails because its node died may fail a moment before the death is noticed."""


async def together(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all and give their results in order; the first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failures:
        raise first_of(failures) from failures
    return [task.result() for task in tasks]


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group that is not itself a group."""
    first = failures.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def while_alive(backend: Backend, coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run `coroutine`, but give up as soon as a service dies.

    Raises:
        NodeDiedError: naming the service, with its last log lines; also when the coroutine fails
            because of that.
    """
    work = asyncio.ensure_future(coroutine)
    watch = asyncio.ensure_future(backend.watch())
    try:
        await asyncio.wait([work, watch], return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            raise _failure_of(watch)
        if work.exception() is not None:
            # Perhaps because a service died.
            await asyncio.wait([watch], timeout=DEATH_NOTICE_SECONDS)
            if watch.done() and isinstance(watch.exception(), NodeDiedError):
                raise _failure_of(watch) from work.exception()
        return work.result()
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.wait([work, watch])
        for task in (work, watch):
            if not task.cancelled():
                # Seen: asyncio complains about exceptions that nobody looked at.
                task.exception()


async def to_its_end(coroutine: Coroutine[Any, Any, object]) -> None:
    """Await something that must not be left half done, even if cancelled meanwhile."""
    work = asyncio.ensure_future(coroutine)
    cancelled = False
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        work.exception()
        raise asyncio.CancelledError
    work.result()


def _failure_of(task: asyncio.Future[Any]) -> BaseException:
    failure = task.exception()
    assert failure is not None  # noqa: S101 - `watch` never returns
    return failure
