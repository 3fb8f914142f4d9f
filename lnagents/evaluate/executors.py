"""Where jobs are done: in this process, in several, or on the machines of a Ray cluster.

A job depends on nothing but what it is given, so it may be done anywhere, and once more if its
process died. Only `cluster` knows Ray.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lnagents import __version__
from lnagents.evaluate.extensions import Extension
from lnagents.model.errors import LnagentsError

Job = TypeVar("Job")
Result = TypeVar("Result")

ATTEMPTS = 3
"""How often a job is begun at most, if the process that does it dies."""


class Executor(Protocol):
    """Does jobs."""

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """Positions and results of jobs, in the order in which they come.

        Args:
            function: of a module, as other processes have to find it.
            jobs: can be pickled.

        Raises:
            LnagentsError: processes died again and again.
            Exception: what `function` raised; other jobs are given up then.
        """

    def close(self) -> None:
        """End what was started."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function as another process calls it."""

    function: Callable[[Any], Any]
    extensions: tuple[Extension, ...] = ()
    version: str = __version__
    """Of lnagents, where the call comes from."""

    def __call__(self, job: Any) -> Any:
        """Do one job.

        Raises:
            LnagentsError: this process has another version of lnagents.
        """
        if self.version != __version__:
            problem = f"a worker has lnagents {__version__}, but {self.version} is needed"
            raise LnagentsError(problem)
        for extension in self.extensions:
            extension.load()
        return self.function(job)


class Here:
    """One job after the other, in this process."""

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor.run`."""
        return enumerate(map(function, jobs))

    def close(self) -> None:
        """Nothing was started."""


class Processes:
    """Several processes of this machine; one that dies costs only the jobs under way."""

    def __init__(self, count: int, extensions: tuple[Extension, ...] = ()) -> None:
        """`count` processes, which begin when there is something to do."""
        self._count = count
        self._extensions = extensions

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor.run`."""
        call = Call(function, self._extensions)
        waiting = set(range(len(jobs)))
        for _ in range(ATTEMPTS):
            # Not forked: numba's threads, and whatever else the caller has, would be copied half.
            context = multiprocessing.get_context("spawn")
            count = min(self._count, len(waiting)) or 1
            pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_process)
            try:
                futures: dict[Future[Result], int] = {
                    pool.submit(call, jobs[place]): place for place in sorted(waiting)
                }
                for future in as_completed(futures):
                    result = future.result()
                    waiting.remove(futures[future])
                    yield futures[future], result
            except BrokenProcessPool:
                continue  # with what is not done yet
            finally:
                pool.shutdown(cancel_futures=True)
            return
        raise LnagentsError(f"worker processes died {ATTEMPTS} times; see the system's log")

    def close(self) -> None:
        """Processes end with the jobs."""


def on_this_machine(count: int | None, extensions: tuple[Extension, ...] = ()) -> Executor:
    """`count` jobs at once; None takes the processors that may be used."""
    processes = count or len(os.sched_getaffinity(0))
    return Here() if processes == 1 else Processes(processes, extensions)


def _begin_process() -> None:
    """What each process does first."""
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its processes, and they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
