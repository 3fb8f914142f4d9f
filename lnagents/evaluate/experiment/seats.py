"""Who sits where on an arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seat:
    """One agent's place."""

    node: str
    contests: bool


def seats_of(agents: Sequence[str], seed: int, *, everyone: bool) -> tuple[Seat, ...]:
    """Who sits where: the contestant on all places, or on every second one.

    Places are in the arena's order, so that both sides have large nodes and small ones. Of an even
    number, `seed` decides who has the first; of an odd one, the contestant does.
    """
    first = seed % 2 if len(agents) % 2 == 0 else 0
    return tuple(Seat(node, everyone or place % 2 == first) for place, node in enumerate(agents))
