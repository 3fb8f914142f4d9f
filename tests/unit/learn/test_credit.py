"""Credit for single rows: found out in a task whose rows are told apart by what they earn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lnagents.learn.credit import row_gains
from lnagents.learn.rollout import collect
from lnagents.learn.settings import AdvantageScale, TrainSettings
from lnagents.learn.task import Actions, Seen, StepResult, TaskShape
from lnagents.learn.trainer import Trainer

ROWS = 6


class Rows:
    """Each row earns most where its own feature says; an agent's reward is the sum of its rows."""

    def __init__(self, *, told: bool = True) -> None:
        self.shape = TaskShape(
            batch=3, agents=2, steps=4, rows=ROWS, row_features=("best",), actions=("level",)
        )
        self._told = told
        self._left = 0
        self._best = np.zeros((3, 2, ROWS), np.float32)

    def _seen(self) -> Seen:
        seen = Seen.blank(self.shape)
        seen.rows[..., 0] = self._best
        seen.mask[:, 1, ROWS // 2 :] = 0.0
        return seen

    def reset(self, seeds: Sequence[int]) -> Seen:
        self._left = self.shape.steps
        for place, seed in enumerate(seeds):
            self._best[place] = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, ROWS))
        return self._seen()

    def step(self, actions: Actions) -> StepResult:
        self._left -= 1
        seen = self._seen()
        missed = (actions.rows[..., 0] - self._best) ** 2
        rows = (1.0 - missed).astype(np.float32) * seen.mask
        return StepResult(
            seen=seen,
            rewards=rows.sum(-1),
            over=self._left == 0,
            row_rewards=rows if self._told else None,
        )

    def close(self) -> None:
        """Nothing."""


def settings(**changes: object) -> TrainSettings:
    given = {
        "iterations": 25,
        "discount": 0.0,
        "learning_rate": 1e-2,
        "initial_deviation": 0.5,
        "advantages": "team",
        "target_divergence": 0.2,
    }
    return TrainSettings.model_validate(given | changes)


def test_a_row_gains_what_it_earned_beyond_what_is_usual() -> None:
    trainer = Trainer(Rows(), settings(), 0)
    rollout = collect(trainer.task, trainer.policy, 1, 1)
    assert rollout.row_rewards is not None
    gains = row_gains(rollout, 0.0, final=False)
    mask = rollout.sight.mask[:-1] > 0.0
    assert gains.shape == mask.shape
    assert not gains[~mask].any()
    real, earned = gains[mask], rollout.row_rewards[mask].double()
    # A linear baseline takes away a constant, and what the feature foretells.
    assert abs(float(real.mean())) < 0.01
    assert float(torch.corrcoef(torch.stack((real, earned)))[0, 1]) > 0.9
    assert float(real.var()) <= float(earned.var())


def test_what_comes_later_counts_less() -> None:
    trainer = Trainer(Rows(), settings(), 0)
    rollout = collect(trainer.task, trainer.policy, 1, 1)
    assert rollout.row_rewards is not None
    rewards = rollout.row_rewards
    rewards.zero_()
    rewards[2, 0, 0, 0] = 1.0
    gains = row_gains(rollout, 0.5, final=True)[:, 0, 0, 0]
    other = row_gains(rollout, 0.5, final=True)[:, 0, 0, 1]
    assert (gains - other).tolist()[:2] == pytest.approx([0.25, 0.5], abs=0.1)
    assert float(gains[3]) == pytest.approx(float(other[3]), abs=0.1)


def test_credit_for_rows_learns_faster_than_sharing() -> None:
    def missed(credit: float) -> float:
        trainer = Trainer(Rows(), settings(row_credit=credit), 3)
        for _ in range(trainer.settings.iterations):
            report = trainer.iterate()
        return report.reward

    assert missed(1.0) > missed(0.0) + 0.05


def test_each_agents_rows_can_be_made_comparable_apart() -> None:
    chosen = settings(row_credit=0.5, advantages=AdvantageScale.AGENT, iterations=2)
    trainer = Trainer(Rows(), chosen, 0)
    assert [trainer.iterate().iteration for _ in range(2)] == [1, 2]


def test_a_task_that_does_not_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="row_credit: the task does not say"):
        Trainer(Rows(told=False), settings(row_credit=1.0), 0).iterate()
