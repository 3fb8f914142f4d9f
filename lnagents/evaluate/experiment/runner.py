"""All runs of an experiment, over several processes; what is done already is not done again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.results import Results, RunResult
from lnagents.model.errors import LnagentsError

ATTEMPTS = 3
"""How often the processes are started anew after one of them died."""


def run_experiment(
    definition: Definition,
    results: Results,
    *,
    processes: int | None = None,
    progress: Callable[[int, int], None],
) -> int:
    """Make the runs that `results` lacks, and gather them; returns how many were made.

    Each result is kept as soon as it is there, so an interrupted experiment goes on where it was.
    Results do not depend on the number of processes.

    Args:
        definition: what to run.
        results: where results are kept.
        processes: how many at once; None takes the processors that may be used.
        progress: told how many of all runs are done.

    Raises:
        ExperimentError: the results are damaged.
        TopologyError: the file that a family is taken from cannot be read.
        LnagentsError: processes died again and again.
    """
    runs = definition.runs()
    made = 0
    try:
        for _ in range(ATTEMPTS):
            done = results.done()
            waiting = [spec for spec in runs if spec.id not in done]
            progress(len(runs) - len(waiting), len(runs))
            try:
                for number, result in enumerate(_play_all(waiting, processes), start=1):
                    results.append(result)
                    made += 1
                    progress(len(runs) - len(waiting) + number, len(runs))
            except BrokenProcessPool:
                continue  # with what is not done yet
            return made
        raise LnagentsError(f"processes of the experiment died {ATTEMPTS} times; see the system")
    finally:
        results.gather()


def _play_all(runs: Sequence[RunSpec], processes: int | None) -> Iterator[RunResult]:
    """Results in the order in which they come."""
    count = min(processes or len(os.sched_getaffinity(0)), len(runs))
    if count <= 1:
        yield from map(play, runs)
        return
    # Not forked: numba's threads, and whatever else the caller has, would be copied half.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_process)
    try:
        futures: list[Future[RunResult]] = [pool.submit(play, spec) for spec in runs]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


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
