"""Coroutines for callers who cannot await."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lnagents.env.live.loop import LoopThread


@pytest.fixture(name="loop")
def _loop() -> Iterator[LoopThread]:
    loop = LoopThread("test loop")
    yield loop
    loop.close()


def test_results_and_errors_come_back(loop: LoopThread) -> None:
    async def where(fail: bool) -> str:
        await asyncio.sleep(0)
        if fail:
            raise LookupError("nothing there")
        return threading.current_thread().name

    assert loop.run(where(False)) == "test loop"
    with pytest.raises(LookupError, match="nothing there"):
        loop.run(where(True))


def test_tasks_live_on_between_calls_and_end_with_the_loop(loop: LoopThread) -> None:
    ended = threading.Event()
    tasks = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def begin() -> None:
        tasks.append(asyncio.ensure_future(wait_for_ever()))
        await asyncio.sleep(0)

    loop.run(begin())
    assert not ended.is_set()
    loop.close()
    assert ended.is_set()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run(begin())


def test_what_is_interrupted_is_cleaned_up_before_the_interrupt_goes_on(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned = threading.Event()
    began = threading.Event()

    async def slow() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    submit: Any = asyncio.run_coroutine_threadsafe

    def interrupted(*arguments: object) -> object:
        work = submit(*arguments)

        def result() -> None:
            began.wait()
            raise KeyboardInterrupt

        monkeypatch.setattr(work, "result", result)
        return work

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(slow())
    assert cleaned.is_set()
