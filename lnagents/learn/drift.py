"""How much the world of an agent changes because others learn, measured in every iteration.

**Drift**: KL(old || new) in nats per decision between the actors before and after an iteration's
update, exact and on the same observations throughout (the probe, taken from the first iteration).
It is a mean over agents; with weights of their own each moves apart, and the mean over the others
of an agent, averaged over agents, is the same number. With shared weights it is what everybody's
policy moved. For normal actions with means m, M and deviations s, S it is the sum over actions of
log(S / s) + (s² + (m - M)²) / (2 S²) - 1/2, for choices the sum of p log(p / P).

**Shift of values**: what a critic foresaw of the returns' variance when it was fitted, less what it
foresees of the next iteration's returns before it is fitted again, when all actors have moved:
(1 - var(R' - V) / var(R')) - (1 - var(R - V) / var(R)) with R' of the iteration before. In a world
that stands still it is only what a critic does worse on fresh episodes than on those it has seen.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from lnagents.learn.policy import Behaviour, Policy
from lnagents.learn.samples import Sight, mapped

PROBE = 64
"""Samples of all agents on which policies are compared."""

FITTED = 512
"""Samples of all agents on which a critic that has been fitted is judged."""


def spaced(count: int, most: int) -> slice:
    """At most `most` of `count` places, evenly apart."""
    return slice(None, None, max(1, -(-count // most)))


def drift(before: Behaviour, after: Behaviour, sight: Sight) -> Tensor:
    """[agents], KL(before || after) in nats per decision on what `sight` shows."""
    moved = torch.zeros(sight.mask.shape[1])
    if before.deviation.numel():
        old, new = before.deviation, after.deviation
        apart = (after.mean - before.mean) / new
        of_rows = ((new / old).log() + 0.5 * ((old / new).square() + apart.square()) - 0.5).sum(
            -1
        ) * sight.mask
        moved = moved + of_rows.sum((0, 2)) / sight.mask.sum((0, 2)).clamp(min=1.0)
    if before.odds.shape[-1]:
        # What cannot be chosen has no chance in either: minus infinity less itself is no number.
        apart = (before.odds - after.odds).masked_fill(sight.allowed == 0.0, 0.0)
        moved = moved + (before.odds.exp() * apart).sum(-1).mean(0)
    return moved


def foreseen(returns: Tensor, values: Tensor, counted: Tensor | None = None) -> float:
    """Share of the returns' variance that `values` foresee, 1 at best; 0 if there is none.

    Args:
        returns: of any shape.
        values: of the same shape and unit.
        counted: of the same shape, 0 for what does not count; None: all counts.
    """
    if counted is not None:
        returns, values = returns[counted > 0.0], values[counted > 0.0]
    variance = float(returns.var(correction=0))
    missed = float((returns - values).var(correction=0))
    return 1.0 - missed / variance if variance > 0.0 else 0.0


class Watch:
    """What is needed from one iteration to the next."""

    def __init__(self) -> None:
        self.probe: Sight | None = None
        """On which policies are compared."""
        self.fitted: float | None = None
        """Share of the returns' variance that the critic foresaw after the last update."""

    def begin(self, policy: Policy, sight: Sight) -> Behaviour:
        """How the actors behave before an update; the first `sight` of all gives the probe."""
        if self.probe is None:
            some = spaced(len(sight.mask), PROBE)
            self.probe = mapped(lambda one: one[some].clone(), sight)
        return policy.behaviour(self.probe)

    def drift(self, policy: Policy, before: Behaviour) -> float:
        """How far the actors are from `before`.

        Raises:
            ValueError: nothing has begun.
        """
        if self.probe is None:
            raise ValueError("there is nothing to compare policies on yet")
        return float(drift(before, policy.behaviour(self.probe), self.probe).mean())

    def shift(self, explained: float, fitted: float) -> float | None:
        """How much less was `explained` than when the critic was fitted last; None at first.

        Args:
            explained: before this iteration's update.
            fitted: after it, for the next time.
        """
        before, self.fitted = self.fitted, fitted
        return None if before is None else before - explained

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        probe = self.probe
        names = [] if probe is None else [one.name for one in fields(Sight)]
        return {"probe": {one: getattr(probe, one) for one in names}, "fitted": self.fitted}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.probe = Sight(**state["probe"]) if state["probe"] else None
        self.fitted = None if state["fitted"] is None else float(state["fitted"])
