"""All runs of an experiment; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Callable

from lnagents.evaluate.executors import Executor
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.results import Results


def run_experiment(
    definition: Definition,
    results: Results,
    executor: Executor,
    *,
    progress: Callable[[int, int], None],
) -> int:
    """Make the runs that `results` lacks, and gather them; returns how many were made.

    Each result is kept as soon as it is there, so an interrupted experiment goes on where it was.
    Results do not depend on where runs are made, or how many at once.

    Args:
        definition: what to run.
        results: where results are kept.
        executor: makes the runs.
        progress: told how many of all runs are done.

    Raises:
        ExperimentError: the results are damaged.
        TopologyError: the file that a family is taken from cannot be read.
        LnagentsError: processes died again and again.
    """
    runs = definition.runs()
    done = results.done()
    waiting = [spec for spec in runs if spec.id not in done]
    before = len(runs) - len(waiting)
    progress(before, len(runs))
    made = 0
    try:
        for _, result in executor.run(play, waiting):
            results.append(result)
            made += 1
            progress(before + made, len(runs))
    finally:
        results.gather()
    return made
