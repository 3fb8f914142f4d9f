"""Train a learner of a study until it is good enough, then see how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnagents.evaluate import train_run
from lnagents.evaluate.reference import crowd, mpe
from lnagents.evaluate.reference.crowd import CrowdTask
from lnagents.evaluate.reference.spread import SpreadTask
from lnagents.evaluate.reference.study import (
    CurvePoint,
    LearnResult,
    LearnRun,
    Score,
    TaskName,
    read_rules,
    write_rules,
)
from lnagents.evaluate.statistics import estimate, mean
from lnagents.model.errors import ConfigError
from lnagents.model.files import validate

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy
    from lnagents.learn.settings import TrainSettings
    from lnagents.learn.trainer import Trainer, TrainReport

Numbers = NDArray[np.float64]

LOOKS = "looks.jsonl"
"""In a run's folder: its curve so far."""

LOOK_EPISODES, LOOK_SEED = 500, 1_000_000
FINAL_EPISODES, FINAL_SEED = 1_000, 2_000_000
"""Training draws its seeds otherwise: it meets none of these episodes."""
BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, after each iteration."""

    run: LearnRun
    steps: int
    """Of environments so far."""
    explored: float
    """Score of the last iteration, exploring."""
    score: float | None
    """At the last look."""


def train(
    run: LearnRun,
    folder: Path,
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> LearnResult | None:
    """Go on with `run` in `folder` until it is good enough or at its end; None if interrupted.

    What is in the folder is gone on with, bit for bit as if there had been no interruption.

    Args:
        run: what is trained.
        folder: of its checkpoint, its log, and its curve so far; made if it does not exist.
        stopped: asked after every iteration.
        progress: told of every iteration.

    Raises:
        ConfigError: the run's settings are wrong.
        CheckpointError: the checkpoint is damaged, or of another task, settings or code.
        LnagentsError: mpe2 is needed, but not installed.
    """
    import torch

    from lnagents.learn.trainer import Trainer

    torch.set_num_threads(1)
    task = make_task(run.task, run.spec.environments)
    trainer = Trainer(task, settings_of(run), run.seed)
    folder.mkdir(parents=True, exist_ok=True)
    looks = _Looks(run, folder, trainer)
    checkpoint = folder / train_run.CHECKPOINT
    if checkpoint.exists():
        trainer.load(checkpoint.read_bytes())
    looks.keep(trainer.iteration)

    def told(report: TrainReport) -> None:
        looks.note(report)
        progress(Progress(run, report.steps, looks.unit * report.episode_return, looks.score))

    if not looks.enough:
        interrupted = False

        def ends() -> bool:
            nonlocal interrupted
            looks.look_if_due()
            interrupted = not looks.enough and stopped()
            return looks.enough or interrupted

        train_run.train(trainer, folder, stopped=ends, progress=told)
        if interrupted and not trainer.finished:
            return None
    scores = final_scores(run.task, trainer.policy)
    return LearnResult(
        task=run.task,
        algorithm=run.algorithm,
        seed=run.seed,
        spec=run.spec,
        stopped="enough" if looks.enough else "steps",
        episodes=len(scores),
        final=score_of(scores),
        curve=tuple(looks.points),
    )


def make_task(name: TaskName, environments: int) -> SpreadTask | CrowdTask:
    """A fresh task."""
    return SpreadTask(environments) if name is TaskName.SPREAD else CrowdTask(environments)


def settings_of(run: LearnRun) -> TrainSettings:
    """How `run` trains.

    Raises:
        ConfigError: naming the key.
    """
    from lnagents.learn.settings import TrainSettings

    episodes = run.spec.train.get("episodes", 1)
    steps = make_task(run.task, 1).shape.steps * run.spec.environments
    if isinstance(episodes, int) and episodes >= 1:
        steps *= episodes
    given = {"algorithm": run.algorithm, "iterations": max(1, run.spec.steps // steps)}
    source = f"tasks.{run.task.value}.{run.algorithm}: train"
    for key in given:
        if key in run.spec.train:
            raise ConfigError(source, f"{key}: unknown key")
    return validate(run.spec.train | given, source, TrainSettings, ConfigError)


def score_unit(name: TaskName) -> float:
    """By what the mean of an agent's episode is multiplied to be a score.

    Spread: the sum over agents and steps, as it is reported everywhere. Crowd: the mean wait in a
    step, with the opposite sign.
    """
    return float(SpreadTask(1).shape.agents) if name is TaskName.SPREAD else 1.0 / crowd.STEPS


def final_scores(name: TaskName, policy: Policy) -> Numbers:
    """Scores of `FINAL_EPISODES` episodes: spread in mpe2 itself, crowd in the task."""
    if name is TaskName.SPREAD:
        return mpe.play(mpe.most_likely(policy), FINAL_EPISODES, FINAL_SEED)
    return _scores(name, policy, FINAL_EPISODES, FINAL_SEED)


def rules(name: TaskName) -> dict[str, Score]:
    """What is reached in the final episodes without learning."""
    if name is TaskName.SPREAD:
        return {
            "random": score_of(mpe.play(mpe.at_random(0), FINAL_EPISODES, FINAL_SEED)),
            "greedy": score_of(mpe.play(mpe.greedy, FINAL_EPISODES, FINAL_SEED)),
        }
    capacity = crowd.capacities(range(FINAL_SEED, FINAL_SEED + FINAL_EPISODES))
    blind = crowd.random_wait(capacity, crowd.AGENTS)
    least = crowd.least_wait(capacity, crowd.AGENTS)
    return {
        "random": score_of(-blind),
        "drawn by capacity": score_of(-crowd.even_wait(capacity, crowd.AGENTS)),
        "optimum after a random first step": score_of(-least - (blind - least) / crowd.STEPS),
        "optimum": score_of(-least),
    }


def keep_rules(folder: Path, name: TaskName) -> None:
    """See to it that the folder knows of the task's rules."""
    known = read_rules(folder)
    if name not in known:
        write_rules(folder, known | {name: rules(name)})


def score_of(scores: Numbers) -> Score:
    """Their mean, with the interval of a bootstrap."""
    found = estimate(mean, scores[:, None], seed=BOOTSTRAP_SEED)
    return Score(mean=found.value, low=found.low, high=found.high)


def _scores(name: TaskName, policy: Policy, episodes: int, seed: int) -> Numbers:
    """Scores of the actors in the task itself, [episodes].

    In a crowd actors draw what they do, because what is best there is a mixture: if all did what is
    most likely, all would go the same way.
    """
    import torch

    generator = None if name is TaskName.SPREAD else torch.Generator().manual_seed(seed)
    task = make_task(name, episodes)
    seen, over = task.reset(range(seed, seed + episodes)), False
    total = np.zeros(episodes)
    while not over:
        result = task.step(policy.act(seen, generator))
        total += result.rewards.mean(1)
        seen, over = result.seen, result.over
    return total * score_unit(name)


class _Looks:
    """The curve of a run: a line in a file for each look at its actors."""

    def __init__(self, run: LearnRun, folder: Path, trainer: Trainer) -> None:
        self._run, self._trainer = run, trainer
        self._file, self._log = folder / LOOKS, folder / train_run.LOG
        self.unit = score_unit(run.task)
        shape = trainer.task.shape
        self._iteration_steps = shape.steps * shape.batch * trainer.settings.episodes
        self._every = max(1, run.spec.check // self._iteration_steps)
        self.points: list[CurvePoint] = []
        self._explored: list[float] = []
        self._cpu_seconds = 0.0

    @property
    def score(self) -> float | None:
        """At the last look."""
        return self.points[-1].score if self.points else None

    @property
    def enough(self) -> bool:
        """Whether the last look was good enough."""
        limit = self._run.spec.enough
        return self.score is not None and limit is not None and self.score >= limit

    def keep(self, iteration: int) -> None:
        """Go on after so many iterations: what came later happens again."""
        steps = iteration * self._iteration_steps
        if self._file.exists():
            lines = self._file.read_text(encoding="utf-8").splitlines()
            points = [CurvePoint.model_validate_json(line) for line in lines]
            self.points = [point for point in points if point.steps <= steps]
        self._write()
        seen = self.points[-1].steps if self.points else 0
        logged: list[dict[str, Any]] = []
        if self._log.exists():
            text = self._log.read_text(encoding="utf-8").splitlines()[:iteration]
            logged = [json.loads(line) for line in text]
        self._cpu_seconds = sum(one["collect_seconds"] + one["train_seconds"] for one in logged)
        self._explored = [
            self.unit * one["episode_return"] for one in logged if one["steps"] > seen
        ]

    def note(self, report: TrainReport) -> None:
        """Take in an iteration."""
        self._explored.append(self.unit * report.episode_return)
        self._cpu_seconds += report.collect_seconds + report.train_seconds

    def look_if_due(self) -> None:
        """After so many iterations, and after the last."""
        iteration = self._trainer.iteration
        if iteration % self._every and not self._trainer.finished:
            return
        scores = _scores(self._run.task, self._trainer.policy, LOOK_EPISODES, LOOK_SEED)
        point = CurvePoint(
            steps=iteration * self._iteration_steps,
            explored=float(np.mean(self._explored)),
            score=float(scores.mean()),
            cpu_seconds=round(self._cpu_seconds, 2),
        )
        self.points.append(point)
        self._explored = []
        self._write()

    def _write(self) -> None:
        partial = self._file.with_suffix(".part")
        partial.write_text("".join(f"{point.model_dump_json()}\n" for point in self.points))
        partial.replace(self._file)
