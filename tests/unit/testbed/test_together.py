from __future__ import annotations

import asyncio
from typing import Any, NoReturn, cast

import pytest

from lnagents.model.errors import (
    BackendError,
    NodeDiedError,
    NodeUnavailableError,
    SettleTimeoutError,
)
from lnagents.testbed.backend import Backend
from lnagents.testbed.together import together, while_alive
from lnagents.testbed.waiting import wait_until


class FakeBackend:
    """A service dies after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def watch(self) -> NoReturn:
        await asyncio.sleep(self._seconds)
        raise NodeDiedError("bob ended by itself")


def backend(seconds: float) -> Backend:
    return cast(Backend, FakeBackend(seconds))


async def after(seconds: float, value: int, error: Exception | None = None) -> int:
    await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return value


async def test_results_come_in_order() -> None:
    assert await together([after(0.02, 1), after(0.0, 2), after(0.01, 3)]) == [1, 2, 3]
    assert await together([]) == []


async def test_the_first_failure_cancels_the_rest_and_is_raised_alone() -> None:
    ended: list[str] = []

    async def long() -> int:
        try:
            return await after(60, 1)
        finally:
            ended.append("long")

    with pytest.raises(BackendError, match="broken"):
        await together([long(), together_of_one()])
    assert ended == ["long"]


async def together_of_one() -> Any:
    return await together([after(0.01, 1, BackendError("broken"))])


async def test_a_death_ends_what_waits() -> None:
    with pytest.raises(NodeDiedError, match="bob"):
        await while_alive(backend(0.01), after(60, 1))


async def test_a_failure_that_a_death_explains_gives_the_death() -> None:
    with pytest.raises(NodeDiedError, match="bob") as caught:
        await while_alive(backend(0.05), after(0.0, 1, NodeUnavailableError("refused")))
    assert isinstance(caught.value.__cause__, NodeUnavailableError)


async def test_without_a_death_results_and_failures_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lnagents.testbed.together.DEATH_NOTICE_SECONDS", 0.01)
    assert await while_alive(backend(60), after(0.0, 5)) == 5
    with pytest.raises(NodeUnavailableError, match="refused"):
        await while_alive(backend(60), after(0.0, 1, NodeUnavailableError("refused")))


async def test_cancelling_cancels_both() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("work")

    task = asyncio.ensure_future(while_alive(backend(60), work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["work"]


async def test_waiting_ends_with_what_was_missing() -> None:
    left = 3

    async def condition() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    await wait_until(condition, timeout=5, complaint=lambda: "never", interval=0.001)
    with pytest.raises(SettleTimeoutError, match=r"-\d+ left, after 0\.05 s"):
        await wait_until(condition, timeout=0.05, complaint=lambda: f"{left} left", interval=0.001)
