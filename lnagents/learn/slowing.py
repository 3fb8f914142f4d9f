"""Others hit a moving target less if it moves slowly, or if not all move at once.

Both take back a part of what an update did to the actor; the critic keeps all of it, so that values
follow the policies better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

LEAST = 1e-6
"""A smaller share of an update is none."""


def turn(agents: int, groups: int, iteration: int) -> Tensor | None:
    """[agents], 1 for those whose turn it is to learn; every `groups`-th. None: everybody's.

    Args:
        agents: of a team.
        groups: that learn one after the other.
        iteration: which one.
    """
    if groups == 1:
        return None
    return (torch.arange(agents) % groups == iteration % groups).float()


def taken(actor: nn.Module) -> list[Tensor]:
    """The actor's parameters as they are now."""
    return [one.detach().clone() for one in actor.parameters()]


@torch.no_grad()
def draw_back(actor: nn.Module, before: Sequence[Tensor], share: float | Tensor) -> None:
    """Leave only a part of the way from `before` to where the actor is.

    Args:
        actor: is changed.
        before: its parameters as they were.
        share: from 0, as before, to 1; or [agents], for actors with weights of their own.
    """
    for one, old in zip(actor.parameters(), before, strict=True):
        part = share
        if isinstance(share, Tensor):
            part = share.reshape(-1, *(1,) * (one.ndim - 1))
        one.copy_(old + part * (one - old))


def keep_within(
    actor: nn.Module, before: Sequence[Tensor], moved: Callable[[], float], budget: float
) -> None:
    """Draw the actor back until it has moved no further than `budget`, as `moved` measures it."""
    after = taken(actor)
    share, distance = 1.0, moved()
    while distance > budget and share > LEAST:
        # Near the old policy the divergence grows with the square of the way.
        share *= min(0.9, 0.95 * math.sqrt(budget / distance))
        with torch.no_grad():
            for one, new in zip(actor.parameters(), after, strict=True):
                one.copy_(new)
        draw_back(actor, before, share if share > LEAST else 0.0)
        distance = moved()
