"""Experience: whole episodes, which depend on the task, the actors and a seed alone.

What happens in one environment depends on the seed of the iteration and the environment's index,
so it does not matter which environments live side by side, or where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnagents.learn.policy import Policy
from lnagents.learn.samples import Decision, JointState, Noise, Sight, joined, some
from lnagents.learn.task import Task, TaskShape

SeedArray: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """Episodes side by side, all of one length."""

    sight: Sight
    """Tensors that begin with [steps + 1, episodes, agents]: before every step, and at the end."""
    state: JointState | None
    """Likewise without agents; None if no critic sees it."""
    decisions: Decision
    """Tensors that begin with [steps, episodes, agents]."""
    rewards: Tensor
    """[steps, episodes, agents]."""
    measures: Mapping[str, NDArray[np.float64]]
    """[steps, episodes] each: what the task measured."""

    def means(self) -> dict[str, float]:
        """Of what the task measured."""
        return {name: float(values.mean()) for name, values in self.measures.items()}


def collect(task: Task, policy: Policy, seed: int, episodes: int) -> Rollout:
    """Live `episodes` episodes in every environment of `task`.

    Raises:
        ValueError: the task's episodes have not the length that it says.
    """
    seeds = episode_seeds(seed, episodes, range(task.shape.batch))
    return side_by_side([live(task, policy, one) for one in seeds])


def episode_seeds(seed: int, episodes: int, environments: range) -> SeedArray:
    """[episodes, environments, 2], of what happens and of what is drawn in each."""
    return np.array(
        [
            [np.random.SeedSequence((seed, *place)).generate_state(2) for place in row]
            for row in ([(episode, one) for one in environments] for episode in range(episodes))
        ],
        np.uint32,
    )


def side_by_side(rollouts: Sequence[Rollout]) -> Rollout:
    """All of them as one."""
    first, *others = rollouts
    if not others:
        return first
    states = [one.state for one in rollouts if one.state is not None]
    return Rollout(
        sight=joined(torch.hstack, [one.sight for one in rollouts]),
        state=joined(torch.hstack, states) if states else None,
        decisions=joined(torch.hstack, [one.decisions for one in rollouts]),
        rewards=torch.hstack([one.rewards for one in rollouts]),
        measures={
            name: np.hstack([one.measures[name] for one in rollouts]) for name in first.measures
        },
    )


def live(task: Task, policy: Policy, seeds: SeedArray) -> Rollout:
    """One episode in every environment; `seeds` [environments, 2] are those of `episode_seeds`.

    Raises:
        ValueError: the task's episodes have not the length that it says.
    """
    algorithm, shape = policy.algorithm, task.shape
    noise = _noise(shape, seeds[:, 1].tolist())
    sights: list[Sight] = []
    states: list[JointState] = []
    decisions: list[Decision] = []
    rewards: list[Tensor] = []
    measures: list[Mapping[str, NDArray[np.float64]]] = []
    seen = task.reset(seeds[:, 0].tolist())
    over = False
    while not over:
        sights.append(Sight.of(seen, algorithm))
        if algorithm.joint_state:
            states.append(JointState.of(seen))
        decisions.append(_decide(policy, sights[-1], some(noise, len(rewards))))
        result = task.step(decisions[-1].actions(sights[-1].mask))
        rewards.append(torch.from_numpy(result.rewards))
        measures.append(result.measures)
        seen, over = result.seen, result.over
        if over != (len(rewards) == shape.steps):
            raise ValueError(f"an episode of {shape.steps} steps ended after {len(rewards)}")
    sights.append(Sight.of(seen, algorithm))
    if algorithm.joint_state:
        states.append(JointState.of(seen))
    return Rollout(
        sight=joined(torch.stack, sights),
        state=joined(torch.stack, states) if states else None,
        decisions=joined(torch.stack, decisions),
        rewards=torch.stack(rewards),
        measures={name: np.stack([one[name] for one in measures]) for name in measures[0]},
    )


def _noise(shape: TaskShape, seeds: Sequence[int]) -> Noise:
    """Tensors that begin with [steps, environments, agents]; each environment's are its own."""
    drawn = [Noise.drawn(shape, shape.steps, torch.Generator().manual_seed(one)) for one in seeds]
    return joined(lambda parts: torch.stack(parts, 1), drawn)


def _decide(policy: Policy, sight: Sight, noise: Noise) -> Decision:
    """For as many environments at once as the settings say."""
    count, together = len(sight.mask), policy.settings.together
    if together is None or together >= count:
        return policy.decide(sight, noise)
    groups = [slice(begin, begin + together) for begin in range(0, count, together)]
    return joined(torch.cat, [policy.decide(some(sight, one), some(noise, one)) for one in groups])
