"""All trainings and runs of an experiment; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lnagents.evaluate.executors import Executor, Here
from lnagents.evaluate.experiment import school
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.contestants import LearnedContestant
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.experiment.lessons import Training
from lnagents.evaluate.results import Results, RunResult


def run_experiment(
    definition: Definition,
    results: Results,
    executor: Executor,
    *,
    progress: Callable[[int, int], None],
    training: Callable[[int, int], None] = lambda done, count: None,
) -> int:
    """Train what is to compete, and make the runs that `results` lacks; returns how many were made.

    Each result is kept as soon as it is there, so an interrupted experiment goes on where it was.
    Results do not depend on where runs are made, or how many at once.

    Args:
        definition: what to run.
        results: where results are kept.
        executor: trains, and makes the runs.
        progress: told how many of all runs are done.
        training: told how many of all iterations of all trainings are done.

    Raises:
        CheckpointError: a training was begun by other code.
        ExperimentError: the results are damaged, or a learner's settings are wrong.
        TopologyError: the file that a family is taken from cannot be read.
        LnagentsError: processes died again and again.
    """
    _train_all(definition.trainings(), results.folder, executor, training)
    runs = definition.runs()
    done = results.done()
    waiting = [spec for spec in runs if spec.id not in done]
    before = len(runs) - len(waiting)
    progress(before, len(runs))
    made = 0
    try:
        jobs = [(spec, _team_of(spec, results.folder)) for spec in waiting]
        for _, result in executor.run(_play, jobs):
            results.append(result)
            made += 1
            progress(before + made, len(runs))
    finally:
        results.gather()
    return made


def _play(job: tuple[RunSpec, bytes | None]) -> RunResult:
    return play(*job)


def _team_of(spec: RunSpec, folder: Path) -> bytes | None:
    """What the contestant has learned."""
    if not isinstance(spec.contestant, LearnedContestant):
        return None
    return school.read_team(folder, spec.contestant.training)


def _train_all(
    trainings: Sequence[Training],
    results: Path,
    executor: Executor,
    progress: Callable[[int, int], None],
) -> None:
    """Finish all trainings; those that were interrupted go on."""
    if not trainings:
        return
    count = {one.id: one.settings().iterations for one in trainings}
    done = dict.fromkeys(count, 0)

    def note(training: Training, iteration: int) -> None:
        done[training.id] = iteration
        progress(sum(done.values()), sum(count.values()))

    waiting = []
    for one in trainings:
        finished = school.is_finished(school.folder_of(results, one))
        note(one, count[one.id] if finished else 0)
        if not finished:
            waiting.append(one)
    jobs = [(one, school.folder_of(results, one)) for one in waiting]
    if isinstance(executor, Here):
        for one, folder in jobs:
            school.train(one, folder, progress=partial(note, one))
        return
    for place, checkpoint in executor.run(school.trained, jobs):
        one, folder = jobs[place]
        school.keep(one, folder, checkpoint)
        note(one, count[one.id])
