"""How good forecasts are, beside naive ones.

Log likelihood (nats, the higher the better) and Brier score (the lower the better) are proper:
nobody scores better, on average, than who says what is true.

A target is a distribution: one class for a move; for liquidity the shares of the capacity in each
bin, so that scores are those of a channel drawn by its capacity. Whether an amount passes such a
channel is a forecast of its own, made from the same bins: the amounts are 1/bins, 2/bins, … of the
capacity. That balances lie anywhere, all equally likely, is the prior of the field: an amount then
passes with probability 1 - amount / capacity (Pickhardt et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MODEL = "model"
UNIFORM = "uniform"
FREQUENCY = "frequency"
LAST_VALUE = "last_value"
HALF = "half"
CAPACITY = "capacity_proportional"

LIQUIDITY = "liquidity"
PASSING = "passing"

_SPREADS = np.geomspace(1e-2, 1e2, 200)
"""Among which that of `last_value` is fitted, in the unit of the moves' sizes."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one forecaster on one set of outcomes."""

    log_likelihood: float
    """Mean, nats."""
    brier: float
    """Mean; of several classes the sum over them, 0 to 2."""


def score_classes(log_probs: Tensor, targets: Tensor) -> Score:
    """How likely the classes were found.

    Args:
        log_probs: [cases, classes], or [classes] if it is the same forecast for all.
        targets: [cases, classes], each a distribution.
    """
    likely = torch.where(targets > 0.0, targets * log_probs, 0.0).sum(-1)
    probs = log_probs.exp()
    # The mean over outcomes drawn from the target of the squared distance to them.
    distance = probs.square().sum(-1) - 2.0 * (probs * targets).sum(-1) + 1.0
    return Score(float(likely.mean()), float(distance.mean()))


def score_passing(log_probs: Tensor, targets: Tensor) -> Score:
    """How well it is foreseen whether an amount passes, mean over the amounts between the bins.

    Args:
        log_probs: [cases, bins], or [bins], of the balance as a share of the capacity.
        targets: [cases, bins], each a distribution.
    """
    below = log_probs.logcumsumexp(-1)[..., :-1]
    above = log_probs.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
    passes = targets.flip(-1).cumsum(-1).flip(-1)[..., 1:].clamp(0.0, 1.0)
    fails = 1.0 - passes
    likely = torch.where(passes > 0.0, passes * above, 0.0)
    likely = likely + torch.where(fails > 0.0, fails * below, 0.0)
    distance = passes * below.exp().square() + fails * above.exp().square()
    return Score(float(likely.mean()), float(distance.mean()))


def naive_moves(frequency: Tensor, sizes: Sequence[float]) -> dict[str, Tensor]:
    """Naive forecasts of moves, log probabilities [classes] each.

    `uniform` knows nothing. `last_value` says that nothing moves, but for a share of moves that are
    spread around it (Laplace's distribution). `frequency` is how often each class came. Share,
    spread and frequencies are fitted to the very outcomes that are scored, so no forecasts of their
    kind can be better.

    Args:
        frequency: [classes], the mean of the targets.
        sizes: see `TaskShape.move_sizes`.
    """
    count = len(frequency)
    rest = count // 2
    shares = frequency.double().numpy()
    begins, ends = np.array((0.0, *sizes)), np.array((*sizes, np.inf))
    best, most = shares, -math.inf
    for spread in _SPREADS:
        side = 0.5 * (1.0 - shares[rest]) * (np.exp(-begins / spread) - np.exp(-ends / spread))
        probs = np.concatenate((side[::-1], shares[rest : rest + 1], side))
        came = shares > 0.0
        likely = float((shares[came] * np.log(np.maximum(probs[came], 1e-300))).sum())
        if likely > most:
            best, most = probs, likely
    return {
        UNIFORM: torch.full((count,), -math.log(count)),
        LAST_VALUE: torch.from_numpy(best).float().log(),
        FREQUENCY: frequency.log(),
    }


def naive_liquidity(frequency: Tensor) -> dict[str, Tensor]:
    """Naive forecasts of liquidity, log probabilities [bins] each.

    Args:
        frequency: [bins], the mean of the targets: the best forecast that is the same for all.
    """
    bins = len(frequency)
    return {UNIFORM: torch.full((bins,), -math.log(bins)), FREQUENCY: frequency.log()}


def naive_passing(frequency: Tensor) -> dict[str, Tensor]:
    """Naive forecasts of whether amounts pass, as log probabilities [bins].

    `half` gives every amount an even chance, `capacity_proportional` 1 - amount / capacity.
    """
    bins = len(frequency)
    half = torch.full((bins,), -math.inf)
    half[0] = half[-1] = math.log(0.5)
    uniform = torch.full((bins,), -math.log(bins))
    return {HALF: half, CAPACITY: uniform, FREQUENCY: frequency.log()}


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """Forecasts and what came of them, for one prediction."""

    log_probs: Tensor
    """[cases, classes], the model's."""
    targets: Tensor
    """[cases, classes], each a distribution."""


def scores(
    cases: Mapping[str, Cases], sizes: Sequence[float], naive: Mapping[str, Cases] | None = None
) -> dict[str, dict[str, Score]]:
    """Scores by prediction and forecaster; predictions of which there are no cases are left out.

    Args:
        cases: by prediction: a move's name, or `LIQUIDITY`.
        sizes: of the classes of moves.
        naive: what naive forecasts are fitted to; None: the same cases.
    """
    result: dict[str, dict[str, Score]] = {}
    for name, one in cases.items():
        if not len(one.targets):
            continue
        fitted = (naive or cases)[name].targets.mean(0)
        if name == LIQUIDITY:
            result[name] = {
                who: score_classes(probs, one.targets)
                for who, probs in {MODEL: one.log_probs, **naive_liquidity(fitted)}.items()
            }
            result[PASSING] = {
                who: score_passing(probs, one.targets)
                for who, probs in {MODEL: one.log_probs, **naive_passing(fitted)}.items()
            }
        else:
            result[name] = {
                who: score_classes(probs, one.targets)
                for who, probs in {MODEL: one.log_probs, **naive_moves(fitted, sizes)}.items()
            }
    return result
