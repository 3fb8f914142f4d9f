"""Adam (Kingma & Ba 2015), small on purpose.

torch's own loads its compiler stack the first time that an optimiser is made: several CPU-seconds
and over a hundred megabytes, in every daemon of a network, for nothing that is used here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

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
        self._means = [torch.zeros_like(one) for one in self._parameters]
        self._squares = [torch.zeros_like(one) for one in self._parameters]
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
        places = [place for place, one in enumerate(self._parameters) if one.grad is not None]
        # All parameters in one call each: most of them are small.
        gradients = [cast(Tensor, self._parameters[place].grad) for place in places]
        means = [self._means[place] for place in places]
        squares = [self._squares[place] for place in places]
        torch._foreach_lerp_(means, gradients, 1.0 - MEAN_DECAY)
        torch._foreach_mul_(squares, SQUARE_DECAY)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - SQUARE_DECAY)
        scales = torch._foreach_div(squares, square_start)
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, EPSILON)
        moved: list[Tensor] = [self._parameters[place] for place in places]
        torch._foreach_addcdiv_(moved, means, scales, -pace)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; the learning rate is not part of it."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: it belongs to other parameters.
        """
        means = [one.clone() for one in state["means"]]
        squares = [one.clone() for one in state["squares"]]
        shapes = [one.shape for one in self._parameters]
        if not shapes == [one.shape for one in means] == [one.shape for one in squares]:
            raise ValueError("the optimiser's state belongs to other parameters")
        self._means, self._squares, self._steps = means, squares, int(state["steps"])
