"""Keeps actors within the divergence that one update may bring, step by step.

Adam's first steps move every weight by the whole learning rate, however small its gradient is, so
that a single one may lead several times too far, and in a direction that is mostly chance. A step
that led too far is shortened until it did not (as the line search of Schulman et al. 2015, TRPO),
and what follows goes at half the pace: many small steps find a better direction than a large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

TRIES = 3
"""Shorter steps that are tried before one is taken back as a whole."""

MARGIN = 0.9
"""Of the limit, which shortened steps aim at."""

SLOWEST = 0.1
"""At a slower pace than this nothing more is to be had from an update."""


class Look(Protocol):
    """Something that says how far the actors are from where they were."""

    @property
    def divergence(self) -> float:
        """KL(old || new), nats per decision."""


AnyLook = TypeVar("AnyLook", bound=Look)


class Leash:
    """Of one update; costs a copy of the parameters in each step unless one leads too far."""

    def __init__(self, parameters: Sequence[Parameter], limit: float) -> None:
        """A leash on `parameters`.

        Args:
            parameters: of all that decides; of the same networks others may be moved freely.
            limit: of the divergence from where they are now.
        """
        self._parameters: list[Tensor] = [*parameters]
        self._limit = limit
        self._before = [one.detach().clone() for one in self._parameters]
        """As they were before the last step."""
        self._known = 0.0
        """How far they were then."""
        self._farthest = 0.0
        self._steps = 0
        self._pace = 1.0

    @property
    def taut(self) -> bool:
        """Whether so many steps were too long that there is no use in going on."""
        return self._pace < SLOWEST

    @property
    def surely_slack(self) -> bool:
        """Whether the last step need not be looked at.

        The root of the divergence is about a distance. So no step that was looked at was longer
        than twice the farthest of these, and a last one leads at most three times as far.
        """
        free = self._steps > 1 and self._pace == 1.0
        return free and 9.0 * self._farthest <= self._limit

    def step(self, look: Look, move: Callable[[], float]) -> float:
        """Go one step; returns what `move` does.

        Args:
            look: at where the parameters are now.
            move: changes them.
        """
        torch._foreach_copy_(self._before, self._parameters)
        self._known = look.divergence
        self._farthest = max(self._farthest, look.divergence)
        self._steps += 1
        result = move()
        self._shorten(self._pace)
        return result

    def within(self, look: Callable[[], AnyLook]) -> AnyLook:
        """Look at where the last step led, and take back of it what led too far.

        Args:
            look: at where the parameters are when it is called.

        Returns:
            The last look, which is beyond the limit only if it already was where the step began.
        """
        seen = look()
        if not self._steps or not seen.divergence > self._limit:
            return seen
        for tries in range(TRIES + 1):
            self._shorten(self._shorter(seen.divergence) if tries < TRIES else 0.0)
            seen = look()
            if not seen.divergence > self._limit:
                break
        self._pace *= 0.5
        return seen

    def _shorter(self, divergence: float) -> float:
        """The part of the last step that stays within the limit if it led straight away."""
        begin, end = math.sqrt(self._known), math.sqrt(divergence)
        room = math.sqrt(MARGIN * self._limit) - begin
        return room / (end - begin) if room > 0.0 else 0.0

    @torch.no_grad()
    def _shorten(self, share: float) -> None:
        """Leave only a part of the last step."""
        if share < 1.0:
            torch._foreach_lerp_(self._parameters, self._before, 1.0 - share)
