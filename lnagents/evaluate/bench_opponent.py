"""How well a trained model of other agents foresees those that it never met, on new networks.

A team from a checkpoint sits on every second seat of held-out networks; on the others are agents
that follow a rule, or the team itself. What the team's model says at each round is scored beside
naive forecasts, all on the same cases. The naive ones are fitted to these very cases, the model is
not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnagents.env.batch import LightningBatch
from lnagents.env.payments import WorkloadDemand
from lnagents.env.settings import EnvSettings
from lnagents.env.twin_world import TwinWorld
from lnagents.evaluate.experiment.families import Family, Split, draw_arena, seed_of
from lnagents.evaluate.opponents import OpponentSpec
from lnagents.evaluate.statistics import Estimate, estimate, mean, paired_difference
from lnagents.evaluate.train_run import CHECKPOINT
from lnagents.evaluate.training import LightningTask
from lnagents.model.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from lnagents.learn.opponent_scores import Cases, Score
    from lnagents.learn.policy import Policy

RULES = ("clboss", "lndg", "aimd", "proportional", "same")
"""Who is met: rules that move fees in different ways, and the team itself."""

SHARE = 0.5

Scores = dict[str, dict[str, "Score"]]
"""By prediction and forecaster."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of one prediction: the model beside naive forecasts."""

    rule: str
    prediction: str
    measure: str
    model: Estimate
    naive: dict[str, Estimate]
    gain: dict[str, Estimate]
    """By how much the model is better than each of them, run by run."""

    @property
    def best_naive(self) -> str:
        """The forecaster that the model is the least better than."""
        return min(self.gain, key=lambda name: self.gain[name].value)

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "rule": self.rule,
            "prediction": self.prediction,
            "measure": self.measure,
            "model": self.model._asdict(),
            "naive": {name: one._asdict() for name, one in self.naive.items()},
            "gain": {name: one._asdict() for name, one in self.gain.items()},
        }


def read_checkpoint(path: Path) -> bytes:
    """The checkpoint at `path`, or that of the training run in this folder.

    Raises:
        CheckpointError: it cannot be read.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    try:
        return file.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{file} cannot be read: {exc.strerror}") from exc


def bench_opponent(
    checkpoint: bytes,
    family: Family,
    *,
    rules: Sequence[str] = RULES,
    networks: int = 10,
    rounds: int = 40,
    split: Split = Split.HELD_OUT,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """Score the model in `checkpoint` against each rule; each run is another network.

    Args:
        checkpoint: of a team that was trained with a model of others.
        family: from which networks are drawn; `split` says which of them.
        rules: who sits on the other seats, see `lnagents.evaluate.opponents.OpponentSpec`.
        networks: how many runs, at least two.
        rounds: of each.
        split: `HELD_OUT` unless the training itself is looked at.
        progress: is told what is done.

    Raises:
        CheckpointError: it is none, or of other columns.
        InputError: the team has no model of others.
    """
    from lnagents.learn.trainer import load_policy

    comparisons = []
    policy: Policy | None = None
    for rule in rules:
        progress(f"{rule}: {networks} networks of {family.name}")
        tasks = [_task(family, split, index, rule, rounds) for index in range(networks)]
        try:
            if policy is None:
                policy = load_policy(checkpoint, tasks[0].shape)
            runs = [
                _cases(policy, task, seed_of("foresight", family.name, split.value, index))
                for index, task in enumerate(tasks)
            ]
        finally:
            for task in tasks:
                task.close()
        comparisons += compare(rule, runs, tasks[0].shape.move_sizes)
    return comparisons


def compare(
    rule: str, runs: Sequence[dict[str, Cases]], sizes: Sequence[float]
) -> list[Comparison]:
    """The model beside naive forecasts, which are fitted to all runs together.

    Args:
        rule: who was met.
        runs: the cases of each.
        sizes: see `TaskShape.move_sizes`.
    """
    from lnagents.learn.opponent_learner import joined_cases
    from lnagents.learn.opponent_scores import MODEL, scores

    fitted = joined_cases(runs)
    by_run: list[Scores] = [scores(run, sizes, fitted) for run in runs]
    found = []
    for prediction, forecasters in scores(fitted, sizes).items():
        told = [one[prediction] for one in by_run if prediction in one]
        for measure, sign in (("log_likelihood", 1.0), ("brier", -1.0)):
            values = {
                who: np.array([[getattr(one[who], measure)] for one in told]) for who in forecasters
            }
            model = values.pop(MODEL)
            found.append(
                Comparison(
                    rule,
                    prediction,
                    measure,
                    estimate(mean, model, seed=0),
                    {who: estimate(mean, one, seed=0) for who, one in values.items()},
                    {who: _gain(model, one, sign) for who, one in values.items()},
                )
            )
    return found


def _gain(model: NDArray[np.float64], naive: NDArray[np.float64], sign: float) -> Estimate:
    return paired_difference(mean, sign * model, sign * naive, seed=0)


def _task(family: Family, split: Split, index: int, rule: str, rounds: int) -> LightningTask:
    arena = draw_arena(family, split, index)
    batch = LightningBatch(
        [TwinWorld(arena.network, arena.agents)],
        WorkloadDemand(arena.workload),
        EnvSettings(rounds=rounds),
    )
    others = OpponentSpec(share=SHARE, kinds=(rule,))
    return LightningTask(batch, opponents=others, foresight=True)


def _cases(policy: Policy, task: LightningTask, seed: int) -> dict[str, Cases]:
    """One episode: what the team's seats foresaw, and what came of it."""
    from lnagents.learn.opponent_learner import foreseen_cases
    from lnagents.learn.rollout import collect

    rollout = collect(task, policy, seed, 1)
    if policy.opponents is None or rollout.others is None:
        problem = "was trained without a model of other agents (train.opponent_model)"
        raise InputError("checkpoint", problem)
    sight = rollout.sight
    if rollout.learns is not None:
        sight = replace(sight, mask=sight.mask * rollout.learns.unsqueeze(-1))
    return foreseen_cases(policy.opponents, task.shape, sight, rollout.others)
