"""A small task with everything that a task may have: rows, choices, neighbours, joint state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnagents.learn.task import Actions, Seen, StepResult, TaskShape


class MatchTask:
    """Each row says which action it wants, each agent which choice; better matches earn more.

    The wanted action is the row's first feature, the wanted choice the one whose whole feature is
    largest among the allowed. Rows differ in number from agent to agent.
    """

    def __init__(
        self,
        batch: int = 8,
        agents: int = 3,
        steps: int = 5,
        *,
        actions: bool = True,
        choices: bool = True,
        garbage: float = 0.0,
        final: bool = False,
    ) -> None:
        self.shape = TaskShape(
            batch=batch,
            agents=agents,
            steps=steps,
            rows=4,
            row_features=("wanted", "noise"),
            whole_features=("first", "second", "third"),
            neighbour_features=("mean wanted",),
            state_rows=agents,
            state_features=("first", "second", "third"),
            actions=("level",) if actions else (),
            choices=("first", "second", "third") if choices else (),
            final=final,
        )
        self._garbage = garbage
        self._randoms: list[np.random.Generator] = []
        self._step = 0
        self._seen = Seen.blank(self.shape)

    def reset(self, seeds: Sequence[int]) -> Seen:
        self._randoms = [np.random.default_rng(seed) for seed in seeds]
        self._step = 0
        self._seen = self._draw()
        return self._seen

    def _draw(self) -> Seen:
        drawn = [self._draw_one(random) for random in self._randoms]
        names = [one.name for one in fields(Seen) if getattr(drawn[0], one.name) is not None]
        return Seen(
            **{name: np.concatenate([getattr(one, name) for one in drawn]) for name in names}
        )

    def _draw_one(self, random: np.random.Generator) -> Seen:
        shape = self.shape
        agents = (1, shape.agents)
        count = random.integers(1, shape.rows + 1, (*agents, 1))
        mask = (np.arange(shape.rows) < count).astype(np.float32)
        rows = random.uniform(-0.8, 0.8, (*agents, shape.rows, 2)).astype(np.float32)
        rows = np.where(mask[..., None] > 0.0, rows, np.float32(self._garbage))
        whole = random.normal(size=(*agents, 3)).astype(np.float32)
        allowed = np.ones((*agents, len(shape.choices)), np.float32)
        if shape.choices:
            allowed[..., 0] = random.integers(0, 2, agents)
        wanted = (rows[..., 0] * mask).mean((1, 2), keepdims=False)
        neighbours = np.repeat(wanted[:, None, None], shape.agents, 1)
        state_mask = np.ones((1, shape.state_rows), np.float32)
        return Seen(rows, mask, whole, neighbours, whole.copy(), state_mask, allowed)

    def step(self, actions: Actions) -> StepResult:
        seen = self._seen
        rewards: NDArray[np.float64] = np.zeros((self.shape.batch, self.shape.agents))
        if self.shape.actions:
            assert not (actions.rows * (1.0 - seen.mask[..., None])).any()
            miss = np.abs(actions.rows[..., 0] - seen.rows[..., 0]) * seen.mask
            rewards -= miss.sum(-1) / seen.mask.sum(-1)
        if self.shape.choices:
            taken = np.take_along_axis(seen.choice_mask, actions.choice[..., None], -1)
            assert taken.all()
            wanted = np.where(seen.choice_mask > 0.0, seen.whole, -np.inf).argmax(-1)
            rewards += actions.choice == wanted
        self._step += 1
        self._seen = self._draw()
        return StepResult(
            self._seen,
            rewards.astype(np.float32),
            self._step == self.shape.steps,
            {"reward": rewards},
        )

    def close(self) -> None:
        pass


class GuessTask(MatchTask):
    """The same with something to foresee: a hint says how a rate moves next, in 4 of 5 cases.

    There are 5 classes of moves; the hidden liquidity lies where the row's wanted action does. All
    that is drawn for it is drawn apart, so everything else is as in a `MatchTask` of the same seed.
    """

    CERTAIN = 0.8
    CLASSES = 5
    BINS = 4

    def __init__(self, batch: int = 8, agents: int = 3, steps: int = 5, **given: Any) -> None:
        super().__init__(batch, agents, steps, **given)
        self.shape = replace(
            self.shape,
            foresight_features=(*(f"hint {place}" for place in range(self.CLASSES)), "noise"),
            moves=("rate",),
            move_sizes=(0.1,),
            liquidity_bins=self.BINS,
        )
        self._hints: NDArray[np.int64] | None = None

    def reset(self, seeds: Sequence[int]) -> Seen:
        self._guesses = [np.random.default_rng((seed, 1)) for seed in seeds]
        self._hints = None
        return super().reset(seeds)

    def _draw(self) -> Seen:
        seen, before = super()._draw(), self._hints
        shape = (1, *seen.mask.shape[1:])
        each = [
            (
                random.integers(0, self.CLASSES, shape),
                random.normal(size=shape),
                random.random(shape) < self.CERTAIN,
                random.integers(1, self.CLASSES, shape),
            )
            for random in self._guesses
        ]
        hint, noise, certain, other = (np.concatenate(one) for one in zip(*each, strict=True))
        self._hints = hint
        moves = np.full_like(hint, -1)
        if before is not None:
            moves = np.where(certain, before, (before + other) % self.CLASSES)
        place = np.clip((seen.rows[..., 0] + 1.0) / 2.0 * self.BINS, 0, self.BINS - 1)
        liquidity = np.eye(self.BINS, dtype=np.float32)[place.astype(np.int64)]
        features = np.concatenate((np.eye(self.CLASSES)[hint], noise[..., None]), -1)
        real = seen.mask[..., None] > 0.0
        return replace(
            seen,
            foresight=np.where(real, features, self._garbage).astype(np.float32),
            moves=np.where(real, moves[..., None], 0),
            liquidity=liquidity,
        )
