"""An event loop in a thread of its own, for synchronous callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """Runs coroutines for whoever cannot await them.

    Everything that belongs to the loop (connections, tasks) has to be made and used within `run`.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The result of `coroutine`; one that is interrupted (Ctrl-C) is cancelled and awaited.

        Raises:
            RuntimeError: the loop was closed.
        """
        if not self._thread.is_alive():
            coroutine.close()
            raise RuntimeError("the event loop was closed")
        ended = threading.Event()
        work = asyncio.run_coroutine_threadsafe(_announce_end(coroutine, ended), self._loop)
        try:
            return work.result()
        except CancelledError:
            raise
        except BaseException:
            if not work.done():
                work.cancel()
                ended.wait()
            raise

    def close(self) -> None:
        """Cancel what still runs and end the thread; calling it again does nothing."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _announce_end(coroutine: Coroutine[Any, Any, Result], ended: threading.Event) -> Result:
    try:
        return await coroutine
    finally:
        ended.set()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
