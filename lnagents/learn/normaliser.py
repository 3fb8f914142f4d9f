"""Returns are millisatoshi of any size; critics learn numbers near one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lnagents.learn.networks import Layer

DECAY = 0.9
"""Weight of the past at each update of the statistics."""


@dataclass(slots=True)
class ReturnNormaliser:
    """Running mean and mean square of returns, corrected for their start at zero.

    When the statistics move, the critic's last layer is rescaled, so that what it predicts in
    msat stays the same (PopArt, van Hasselt et al. 2016). Only the first time its zeros stay zeros
    and come to mean the mean.
    """

    mean_sum: float = 0.0
    square_sum: float = 0.0
    weight: float = 0.0

    @property
    def mean(self) -> float:
        """Mean return so far, 0 before the first."""
        return self.mean_sum / self.weight if self.weight else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation so far, 1 before the first and never near zero."""
        if not self.weight:
            return 1.0
        variance = self.square_sum / self.weight - self.mean**2
        return max(math.sqrt(max(0.0, variance)), 1e-3 * max(1.0, abs(self.mean)))

    def update(self, returns: Sequence[float], last: Layer) -> None:
        """Take in `returns`; `last` is the layer that predicts them."""
        count = len(returns)
        squares = math.fsum(value * value for value in returns)
        self.absorb(math.fsum(returns) / count, squares / count, last)

    def absorb(self, mean: float, mean_square: float, last: Layer) -> None:
        """Take in returns of which only their mean and their mean square are told."""
        first = not self.weight
        old_mean, old_deviation = self.mean, self.deviation
        share = 1.0 - DECAY
        self.mean_sum = DECAY * self.mean_sum + share * mean
        self.square_sum = DECAY * self.square_sum + share * mean_square
        self.weight = DECAY * self.weight + share
        if first:
            return
        with torch.no_grad():
            last.weight.mul_(old_deviation / self.deviation)
            last.bias.mul_(old_deviation).add_(old_mean - self.mean).div_(self.deviation)

    def normalise(self, value: float) -> float:
        """From msat to the critic's unit."""
        return (value - self.mean) / self.deviation

    def restore(self, value: float) -> float:
        """From the critic's unit to msat."""
        return value * self.deviation + self.mean
