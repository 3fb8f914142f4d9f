"""`mpe2.simple_spread_v3` with discrete actions, for many environments at once.

N agents shall cover N landmarks without bumping into each other. The physics and the reward are
those of MPE2 1.1 (Farama Foundation; after Lowe et al. 2017 and Mordatch & Abbeel 2018); a test
holds this copy to mpe2 itself, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lnagents.learn.task import Actions, Seen, StepResult, TaskShape

FloatArray = NDArray[np.float32]
Coordinates = NDArray[np.float64]

AGENTS = 3
STEPS = 25
LOCAL_RATIO = 0.5
"""Weight of an agent's own collisions; the rest is that of the distances, which all share."""

SECONDS = 0.1
"""Of one step."""
KEPT = 0.75
"""Share of the speed that is left after a step."""
PUSH = 5.0
"""Acceleration that an action brings."""
RADIUS = 0.15
"""Of an agent; landmarks are no obstacles."""
STIFFNESS, SOFTNESS = 100.0, 1e-3
"""Of the force between agents that touch, and over which distance it sets in."""

CHOICES = ("stay", "left", "right", "down", "up")
_PUSHES = PUSH * np.array([[0.0, -1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0, 1.0]])

NEIGHBOUR_FEATURES = ("x", "y", "x_change", "y_change")
"""Means over the other agents: where they are, seen from the agent, and how far they moved in the
last step, which tells what they did."""


class SpreadTask:
    """The task as trainers take it.

    What an agent sees is what mpe2 shows it: its velocity and position, where the landmarks and the
    other agents are, seen from it, and what the others say, which is nothing. The joint state is
    one vector: velocities and positions of all agents, positions of all landmarks. The end of an
    episode is no end of the world: mpe2 cuts it off.
    """

    def __init__(self, batch: int, agents: int = AGENTS, steps: int = STEPS) -> None:
        from lnagents.learn.task import TaskShape

        others = agents - 1
        axes = ("x", "y")
        self.shape: TaskShape = TaskShape(
            batch=batch,
            agents=agents,
            steps=steps,
            whole_features=(
                *(f"velocity_{axis}" for axis in axes),
                *axes,
                *(f"landmark{i}_{axis}" for i in range(agents) for axis in axes),
                *(f"other{i}_{axis}" for i in range(others) for axis in axes),
                *(f"other{i}_says{word}" for i in range(others) for word in range(2)),
            ),
            neighbour_features=NEIGHBOUR_FEATURES,
            state_rows=1,
            state_features=(
                *(f"agent{i}_velocity_{axis}" for i in range(agents) for axis in axes),
                *(f"agent{i}_{axis}" for i in range(agents) for axis in axes),
                *(f"landmark{i}_{axis}" for i in range(agents) for axis in axes),
            ),
            choices=CHOICES,
        )
        # Environments last, so that what is computed for all of them lies side by side.
        self._position: Coordinates = np.zeros((agents, 2, batch))
        self._velocity: Coordinates = np.zeros((agents, 2, batch))
        self._landmarks: Coordinates = np.zeros((agents, 2, batch))
        self._before: FloatArray | None = None
        self._step = steps
        self._pairs = np.triu_indices(agents, 1)
        self._others = np.array([[j for j in range(agents) if j != i] for i in range(agents)], int)

    def reset(self, seeds: Sequence[int]) -> Seen:
        """Everything somewhere in the square from -1 to 1, agents at rest."""
        shape = (2, *self._position.shape[:2])
        drawn = [np.random.default_rng(seed).uniform(-1.0, 1.0, shape) for seed in seeds]
        agents, landmarks = np.stack(drawn, -1)
        return self.place(agents, np.zeros_like(agents), landmarks)

    def place(self, position: Coordinates, velocity: Coordinates, landmarks: Coordinates) -> Seen:
        """Begin episodes from where things are said to be, each [agents, 2, environments]."""
        self._position, self._velocity = position.copy(), velocity.copy()
        self._landmarks = landmarks.copy()
        self._step = 0
        self._before = None
        return self._seen()

    def step(self, actions: Actions) -> StepResult:
        """Push all agents, move them, and see how well they cover the landmarks."""
        from lnagents.learn.task import StepResult

        if self._step >= self.shape.steps:
            raise RuntimeError("no episodes are under way")
        self._step += 1
        force = _PUSHES[:, actions.choice].transpose(2, 0, 1) + self._contact()
        self._position += SECONDS * self._velocity
        self._velocity *= KEPT
        self._velocity += SECONDS * force
        uncovered, collisions = self._uncovered(), self._collisions()
        rewards = -(1.0 - LOCAL_RATIO) * uncovered - LOCAL_RATIO * collisions
        return StepResult(
            seen=self._seen(),
            rewards=np.ascontiguousarray(rewards.T, dtype=np.float32),
            over=self._step == self.shape.steps,
            measures={"uncovered": uncovered, "collisions": collisions.mean(0)},
        )

    def close(self) -> None:
        """Nothing is held."""

    def _contact(self) -> Coordinates:
        """Force on each agent from all others, [agents, 2, environments]."""
        first, second = self._pairs
        apart = self._position[first] - self._position[second]
        distance = np.sqrt(np.square(apart).sum(1))
        depth = np.logaddexp(0.0, (2.0 * RADIUS - distance) / SOFTNESS) * SOFTNESS
        push = apart * (STIFFNESS * depth / distance)[:, None]
        force = np.zeros_like(self._position)
        for pair, (one, other) in enumerate(zip(first, second, strict=True)):
            force[one] += push[pair]
            force[other] -= push[pair]
        return force

    def _uncovered(self) -> Coordinates:
        """Distances from the landmarks to their nearest agents, summed, [environments]."""
        apart = self._landmarks[:, None] - self._position[None]
        nearest: Coordinates = np.sqrt(np.square(apart).sum(2).min(1)).sum(0)
        return nearest

    def _collisions(self) -> Coordinates:
        """How many others each agent touches, [agents, environments]."""
        first, second = self._pairs
        apart = self._position[first] - self._position[second]
        touching = np.sqrt(np.square(apart).sum(1)) < 2.0 * RADIUS
        count = np.zeros((len(self._position), self._position.shape[-1]))
        for pair, (one, other) in enumerate(zip(first, second, strict=True)):
            count[one] += touching[pair]
            count[other] += touching[pair]
        return count

    def _seen(self) -> Seen:

        agents, _, batch = self._position.shape
        whole = np.zeros((agents, len(self.shape.whole_features), batch), np.float32)
        whole[:, 0:2] = self._velocity
        whole[:, 2:4] = self._position
        landmarks = self._landmarks[None] - self._position[:, None]
        whole[:, 4 : 4 + 2 * agents] = landmarks.reshape(agents, 2 * agents, batch)
        others = self._position[self._others] - self._position[:, None]
        place = slice(4 + 2 * agents, 4 + 2 * agents + 2 * (agents - 1))
        whole[:, place] = others.reshape(agents, 2 * (agents - 1), batch)
        observation = np.ascontiguousarray(whole.transpose(2, 0, 1))
        neighbours = neighbourhood(observation, self._before)
        self._before = observation
        state = np.concatenate((self._velocity, self._position, self._landmarks))
        state = state.reshape(1, -1, batch).transpose(2, 0, 1)
        return seen_of(
            self.shape, observation, neighbours, np.ascontiguousarray(state, dtype=np.float32)
        )


def seen_of(
    shape: TaskShape, observation: FloatArray, neighbours: FloatArray, state: FloatArray
) -> Seen:
    """What there is to see, from observations [batch, agents, 18 if there are three]."""
    from lnagents.learn.task import Seen

    batch, agents = observation.shape[:2]
    return Seen(
        rows=np.zeros((batch, agents, 0, 0), np.float32),
        mask=np.ones((batch, agents, 0), np.float32),
        whole=observation,
        neighbours=neighbours,
        state=state,
        state_mask=np.ones((batch, shape.state_rows), np.float32),
        choice_mask=np.ones((batch, agents, len(shape.choices)), np.float32),
    )


def neighbourhood(observation: FloatArray, before: FloatArray | None) -> FloatArray:
    """[batch, agents, `NEIGHBOUR_FEATURES`], from what agents see and saw one step before.

    Args:
        observation: [batch, agents, features], as mpe2 shows it.
        before: likewise; None at the start of an episode, when nothing has moved.
    """
    mean = _mean_of_others(observation)
    if before is None:
        return np.concatenate((mean, np.zeros_like(mean)), -1)
    moved = observation[..., 2:4] - before[..., 2:4] + mean - _mean_of_others(before)
    return np.concatenate((mean, moved), -1)


def _mean_of_others(observation: FloatArray) -> FloatArray:
    agents = observation.shape[1]
    others = observation[..., 4 + 2 * agents : 4 + 2 * agents + 2 * (agents - 1)]
    mean: FloatArray = others.reshape(*others.shape[:-1], agents - 1, 2).mean(-2)
    return mean
