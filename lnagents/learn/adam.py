"""Adam (Kingma & Ba 2015), small on purpose.

torch's own loads its compiler stack the first time that an optimiser is made: several CPU-seconds
and over a hundred megabytes, in every daemon of a network, for nothing that is used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MEAN_DECAY = 0.9
SQUARE_DECAY = 0.999
EPSILON = 1e-8


class Adam:
    """Moves parameters against their gradients, each at its own pace."""

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        self._parameters = list(parameters)
        self.learning_rate = learning_rate
        """May be changed between steps."""
        # All numbers side by side, so that a step is a few operations; the lists are views of them.
        self._mean, self._means = _side_by_side(self._parameters)
        self._square, self._squares = _side_by_side(self._parameters)
        self._move, self._moves = _side_by_side(self._parameters)
        self._steps = 0

    def clear(self) -> None:
        """Forget the gradients."""
        for one in self._parameters:
            one.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move along the gradients; parameters without one stay."""
        self._steps += 1
        mean_start = 1.0 - MEAN_DECAY**self._steps
        square_start = 1.0 - SQUARE_DECAY**self._steps
        pace = self.learning_rate / mean_start
        gradients = [one.grad for one in self._parameters]
        known = [one for one in gradients if one is not None]
        if len(known) == len(gradients):
            gradient = torch.cat([one.flatten() for one in known])
            self._follow(gradient, self._mean, self._square, self._move, pace, square_start)
            moved: list[Tensor] = [*self._parameters]
            torch._foreach_add_(moved, self._moves)
            return
        for place, given in enumerate(gradients):
            if given is not None:
                mean, square = self._means[place], self._squares[place]
                self._follow(given, mean, square, self._moves[place], pace, square_start)
                self._parameters[place].add_(self._moves[place])

    @staticmethod
    def _follow(
        gradient: Tensor,
        mean: Tensor,
        square: Tensor,
        move: Tensor,
        pace: float,
        square_start: float,
    ) -> None:
        """Take `gradient` into `mean` and `square`, and what comes of it into `move`."""
        mean.lerp_(gradient, 1.0 - MEAN_DECAY)
        square.mul_(SQUARE_DECAY).addcmul_(gradient, gradient, value=1.0 - SQUARE_DECAY)
        scale = torch.div(square, square_start).sqrt_().add_(EPSILON)
        torch.div(mean, scale, out=move).mul_(-pace)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; the learning rate is not part of it."""
        means, squares = ([one.clone() for one in of] for of in (self._means, self._squares))
        return {"means": means, "squares": squares, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: it belongs to other parameters.
        """
        shapes = [one.shape for one in self._parameters]
        means, squares = list(state["means"]), list(state["squares"])
        if not shapes == [one.shape for one in means] == [one.shape for one in squares]:
            raise ValueError("the optimiser's state belongs to other parameters")
        torch._foreach_copy_(self._means, means)
        torch._foreach_copy_(self._squares, squares)
        self._steps = int(state["steps"])


def _side_by_side(parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Zeros for all numbers, and views of them in the shapes of `parameters`."""
    sizes = [one.numel() for one in parameters]
    flat = torch.zeros(sum(sizes))
    shaped = zip(flat.split_with_sizes(sizes), parameters, strict=True)
    return flat, [part.view(one.shape) for part, one in shaped]
