"""Proximal policy optimisation as functions of tensors (Schulman et al. 2016, 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from lnagents.learn.adam import Adam

Number = TypeVar("Number", float, Tensor)


def advantages(
    rewards: Sequence[Number],
    values: Sequence[Number],
    last_value: Number,
    discount: float,
    trace_decay: float,
) -> list[Number]:
    """Generalised advantage estimates of consecutive steps: numbers, or tensors of one shape.

    If the last step was the end of everything, `last_value` is 0; if it was only the last that is
    known of, it is the critic's estimate.

    Args:
        rewards: what each step brought.
        values: the critic's estimate before each step, in the rewards' unit.
        last_value: its estimate after the last step.
        discount: weight of what comes one step later.
        trace_decay: 0 trusts the critic after one step, 1 only what really came.

    Raises:
        ValueError: the numbers of rewards and values differ.
    """
    if len(rewards) != len(values):
        raise ValueError(f"{len(rewards)} rewards, but {len(values)} values")
    following: list[Number] = list(values[1:])
    following.append(last_value)
    estimate: Number = 0.0 * last_value
    estimates: list[Number] = []
    for reward, value, after in reversed(list(zip(rewards, values, following, strict=True))):
        surprise = reward + discount * after - value
        estimate = surprise + discount * trace_decay * estimate
        estimates.append(estimate)
    return estimates[::-1]


def standardised(
    values: Tensor, dims: tuple[int, ...] = (), weights: Tensor | None = None
) -> Tensor:
    """Mean 0 and standard deviation 1 over `dims` (all if none are given); zeros if all are equal.

    What is left when equal numbers are subtracted from each other does not count as a difference.

    Args:
        values: of any shape.
        dims: over which they are made comparable.
        weights: of the same shape, 1 for what counts, 0 for what does not and becomes 0; None: all
            counts.
    """
    dims = dims or tuple(range(values.ndim))

    def mean(of: Tensor) -> Tensor:
        if weights is None:
            return of.mean(dims, keepdim=True)
        counted = weights.sum(dims, keepdim=True).clamp(min=1.0)
        return (of * weights).sum(dims, keepdim=True) / counted

    centred = values - mean(values)
    deviation = mean(centred.square()).sqrt()
    least = 1e-8 + 1e-6 * mean(values.abs())
    scaled = torch.where(deviation > least, centred / deviation.clamp(min=1e-8), 0.0)
    return scaled if weights is None else scaled * weights


def normal_log_prob(sample: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Log density of a normal distribution, summed over the last axis."""
    return standard_log_prob((sample - mean) * deviation.reciprocal(), deviation)


def standard_log_prob(scaled: Tensor, deviation: Tensor) -> Tensor:
    """The same of a sample that is `scaled` deviations away from the mean."""
    # A product with a vector: sums over an axis of a few numbers take five times as long.
    density = scaled.square() @ scaled.new_full(scaled.shape[-1:], -0.5)
    constant = 0.5 * math.log(2.0 * math.pi) * scaled.shape[-1]
    return density - deviation.log().sum(-1) - constant


def normal_entropy(deviation: Tensor) -> Tensor:
    """Entropy in nats of a normal distribution, summed over the last axis."""
    return (deviation.log() + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1)


def clipped_objective(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's surrogate per decision, to be maximised: no reward for leaving the trusted region."""
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def divergence(log_ratio: Tensor) -> Tensor:
    """Estimate per decision of KL(old || new), never negative (Schulman's k3 estimator)."""
    return log_ratio.expm1() - log_ratio


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the entries whose mask is 1; None: over all. 0 if there are none."""
    if mask is None:
        return values.sum() / max(1, values.numel())
    return (values * mask).sum() / mask.sum().clamp(min=1.0)


def descend(
    loss: Tensor,
    optimiser: Adam,
    actor: nn.Module,
    critic: nn.Module,
    max_gradient_norm: float,
) -> float:
    """Go down the gradients of `loss`, see `move`."""
    optimiser.clear()
    torch.autograd.backward(loss)
    return move(optimiser, actor, critic, max_gradient_norm)


def move(
    optimiser: Adam,
    actor: nn.Module,
    critic: nn.Module,
    max_gradient_norm: float,
    common: Sequence[nn.Parameter] = (),
) -> float:
    """One step of `optimiser` along the gradients; the norm of the actor's before it was clipped.

    The networks are clipped apart: a critic that is far off must not silence the actor. So is what
    they have in `common`.
    """
    norm = clip(actor.parameters(), max_gradient_norm)
    clip(critic.parameters(), max_gradient_norm)
    if common:
        clip(common, max_gradient_norm)
    optimiser.step()
    return float(norm)


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale gradients to a norm of at most `most`; the norm before that.

    As `torch.nn.utils.clip_grad_norm_`, which looks for devices first, for as long as this takes.
    """
    gradients = [one.grad for one in parameters if one.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.cat([one.flatten() for one in gradients]))
    scale = most / (float(norm) + 1e-6)
    if not scale >= 1.0:  # what is not a number spreads
        torch._foreach_mul_(gradients, scale)
    return norm
