"""Experience: whole episodes, which depend on the task, the actors and a seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnagents.learn.policy import Policy
from lnagents.learn.samples import Decision, JointState, Sight, joined
from lnagents.learn.task import Task


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
    measures: Mapping[str, float]
    """Means of what the task measured."""


def collect(task: Task, policy: Policy, seed: int, episodes: int) -> Rollout:
    """Live `episodes` episodes in every environment of `task`.

    Raises:
        ValueError: the task's episodes have not the length that it says.
    """
    seeds = np.random.SeedSequence(seed).spawn(episodes)
    lived = [_episode(task, policy, *one.generate_state(2).tolist()) for one in seeds]
    if episodes == 1:
        return lived[0]
    states = [one.state for one in lived if one.state is not None]
    return Rollout(
        sight=joined(torch.hstack, [one.sight for one in lived]),
        state=joined(torch.hstack, states) if states else None,
        decisions=joined(torch.hstack, [one.decisions for one in lived]),
        rewards=torch.hstack([one.rewards for one in lived]),
        measures=_means([one.measures for one in lived]),
    )


def _episode(task: Task, policy: Policy, task_seed: int, noise_seed: int) -> Rollout:
    generator = torch.Generator().manual_seed(noise_seed)
    sights: list[Sight] = []
    states: list[JointState] = []
    decisions: list[Decision] = []
    rewards: list[Tensor] = []
    measures: list[Mapping[str, float]] = []
    seen = task.reset(task_seed)
    over = False
    while not over:
        sights.append(Sight.of(seen, policy.algorithm))
        if policy.algorithm.joint_state:
            states.append(JointState.of(seen))
        decisions.append(policy.decide(sights[-1], generator))
        result = task.step(decisions[-1].actions(sights[-1].mask))
        rewards.append(torch.from_numpy(result.rewards))
        measures.append(result.measures)
        seen, over = result.seen, result.over
        if over != (len(rewards) == task.shape.steps):
            raise ValueError(f"an episode of {task.shape.steps} steps ended after {len(rewards)}")
    sights.append(Sight.of(seen, policy.algorithm))
    if policy.algorithm.joint_state:
        states.append(JointState.of(seen))
    return Rollout(
        sight=joined(torch.stack, sights),
        state=joined(torch.stack, states) if states else None,
        decisions=joined(torch.stack, decisions),
        rewards=torch.stack(rewards),
        measures=_means(measures),
    )


def _means(measures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in measures])) for name in measures[0]}
