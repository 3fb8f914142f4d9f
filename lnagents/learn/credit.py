"""What single rows gained: credit for a decision where its effect shows first.

All rows of an agent (its channels) share the agent's reward, so a row's advantage carries the noise
of all the others: with eight channels about eight times its variance. Where a task knows which part
of a reward is due to which row, a row can be given the gain of its own part instead. That is less
noisy and a little wrong, as it leaves out what a decision does to the other rows, so the two are
mixed (`TrainSettings.row_credit`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lnagents.learn.rollout import Rollout

RIDGE = 1e-3
"""Weight of the penalty on the baseline's coefficients, per sample."""


def row_gains(rollout: Rollout, discount: float, *, final: bool) -> Tensor:
    """How much more each row earned, discounted, than rows like it do.

    What rows like it earn is a linear function of what is seen of a row and its agent, fitted to
    this experience (ridge regression, in closed form).

    Args:
        rollout: experience.
        discount: weight of the next step's reward.
        final: whether nothing is worth anything after the last step; else a row goes on earning
            its mean.

    Returns:
        [steps, episodes, agents, rows], 0 for padding and for seats that are not the learner's.

    Raises:
        ValueError: the task does not say which rewards are due to which rows.
    """
    if rollout.row_rewards is None:
        raise ValueError("row_credit: the task does not say which rewards are due to which rows")
    mask = rollout.sight.mask[:-1].double()
    if rollout.counted is not None:
        mask = mask * rollout.counted.unsqueeze(-1)
    rewards = rollout.row_rewards.double() * mask
    returns = torch.empty_like(rewards)
    last = torch.zeros_like(rewards[0])
    if not final:
        last = rewards.mean(0) / max(1.0 - discount, 1.0 / len(rewards))
    for step in reversed(range(len(rewards))):
        last = rewards[step] + discount * last
        returns[step] = last
    rows = rollout.sight.rows[:-1].double()
    whole = rollout.sight.whole[:-1].double().unsqueeze(-2)
    seen = torch.cat((rows, whole.expand(*rows.shape[:-1], -1), torch.ones_like(rows[..., :1])), -1)
    real = mask > 0.0
    inputs, outputs = seen[real], returns[real]
    gains = torch.zeros_like(returns)
    if len(inputs):
        penalty = RIDGE * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ outputs)
        gains[real] = outputs - inputs @ weights
    return gains
