"""All trainings and runs of an experiment; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
    Results do not depend on where runs are made, or how many at once. A learner is trained only if
    there are runs to be made with it. All its runs are made with the same team: if what is trained
    now is not what made the results that are there, as other code or another processor may have it,
    these are made again.

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
    runs = definition.runs()
    made_by = _teams_of_results(results)
    _train_all(definition.trainings(), _needed(runs, made_by), results.folder, executor, training)
    teams = _teams(definition.trainings(), results.folder)
    digests = {training: school.digest(team) for training, team in teams.items()}
    waiting = [spec for spec in runs if _is_waiting(spec, made_by, digests)]
    before = len(runs) - len(waiting)
    progress(before, len(runs))
    made = 0
    try:
        jobs = [(spec, _team_of(spec, teams)) for spec in waiting]
        for _, result in executor.run(_play, jobs):
            results.append(result)
            made += 1
            progress(before + made, len(runs))
    finally:
        results.gather()
    return made


def _play(job: tuple[RunSpec, bytes | None]) -> RunResult:
    return play(*job)


def _teams_of_results(results: Results) -> dict[str, str]:
    """The digest of the team that made each result, by the run's id."""
    if not results.done():
        return {}
    found = results.query("SELECT run, team FROM runs")
    return {run: team or "" for run, team in zip(found["run"], found["team"], strict=True)}


def _needed(runs: Sequence[RunSpec], made_by: Mapping[str, str]) -> set[str]:
    """Ids of the trainings that still have runs to make."""
    return {
        spec.contestant.training.id
        for spec in runs
        if isinstance(spec.contestant, LearnedContestant) and spec.id not in made_by
    }


def _teams(trainings: Sequence[Training], folder: Path) -> dict[str, bytes]:
    """The checkpoints that are there, by the training's id."""
    finished = [one for one in trainings if school.is_finished(school.folder_of(folder, one))]
    return {one.id: school.read_team(folder, one) for one in finished}


def _team_of(spec: RunSpec, teams: Mapping[str, bytes]) -> bytes | None:
    """What the contestant has learned; None if it learns nothing."""
    player = spec.contestant
    return teams[player.training.id] if isinstance(player, LearnedContestant) else None


def _is_waiting(spec: RunSpec, made_by: Mapping[str, str], digests: Mapping[str, str]) -> bool:
    """Whether there is no result, or that of another team than the one that is there."""
    made, player = made_by.get(spec.id), spec.contestant
    if made is None or not isinstance(player, LearnedContestant):
        return made is None
    return digests.get(player.training.id, made) != made


def _train_all(
    trainings: Sequence[Training],
    needed: Collection[str],
    results: Path,
    executor: Executor,
    progress: Callable[[int, int], None],
) -> None:
    """Finish the trainings with the `needed` ids; those that were interrupted go on."""
    if not trainings:
        return
    count = {one.id: one.settings().iterations for one in trainings}
    done = dict.fromkeys(count, 0)

    def note(training: Training, iteration: int) -> None:
        done[training.id] = iteration
        progress(sum(done.values()), sum(count.values()))

    waiting = []
    for one in trainings:
        finished = one.id not in needed or school.is_finished(school.folder_of(results, one))
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
