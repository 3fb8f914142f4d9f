"""Who plays which seat of an episode: the learner, and perhaps others that do not change.

A task may play seats itself (`Seen.learns`); of the others a `Cast` may give some to fixed
policies. What happens on a seat that is not the learner's is part of the learner's environment: it
is seen, but nothing is learned from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lnagents.learn.policy import Policy
from lnagents.learn.task import SeatArray


@dataclass(frozen=True, slots=True, eq=False)
class Guest:
    """A fixed policy on some seats."""

    policy: Policy
    """May be of another algorithm than the learner's, of the same task."""
    seats: SeatArray
    """[environments, agents]."""
    explores: bool = True
    """Whether it draws its actions, as in training, or takes the most likely ones."""

    def environments(self) -> NDArray[np.intp]:
        """For which it has to decide.

        With `TrainSettings.together` they are those of whole groups, so that its actions do not
        depend on where else it sits.
        """
        playing = np.logical_or.reduce(self.seats, 1)
        group = self.policy.settings.together or 1
        groups = np.arange(len(playing)) // group
        return np.flatnonzero(np.isin(groups, groups[playing]))


class Cast(Protocol):
    """Gives seats to guests, episode by episode."""

    def guests(self, learns: SeatArray, seeds: Sequence[int]) -> Sequence[Guest]:
        """Who else plays, on seats of their own among those that could learn.

        Who plays in an environment depends on its own seats and its own seed alone.

        Args:
            learns: [environments, agents], the seats that the task leaves to be played.
            seeds: [environments], of these episodes only.
        """


class Beside:
    """One policy on all seats but one of each environment, which is the learner's."""

    def __init__(self, policy: Policy, own: NDArray[np.intp], *, explores: bool) -> None:
        """All others are `policy`.

        Args:
            policy: see `Guest`.
            own: [environments], the learner's seat.
            explores: see `Guest`.
        """
        self._policy = policy
        self._own = own
        self._explores = explores

    def guests(self, learns: SeatArray, seeds: Sequence[int]) -> Sequence[Guest]:
        """See `Cast.guests`."""
        seats = learns.copy()
        seats[np.arange(len(seats)), self._own] = False
        return [Guest(self._policy, seats, self._explores)]


class Together:
    """Several casts, each on the seats that those before it have left."""

    def __init__(self, casts: Iterable[Cast]) -> None:
        self._casts = tuple(casts)

    def guests(self, learns: SeatArray, seeds: Sequence[int]) -> Sequence[Guest]:
        """See `Cast.guests`."""
        guests: list[Guest] = []
        for cast in self._casts:
            more = cast.guests(learns, seeds)
            learns = learners(learns, more)
            guests += more
        return guests


def learners(learns: SeatArray, guests: Iterable[Guest]) -> SeatArray:
    """[environments, agents], the seats that are left for the learner.

    Raises:
        ValueError: a seat was given away twice, or nobody learns in some environment.
    """
    left = learns.copy()
    for guest in guests:
        if (guest.seats & ~left).any():
            raise ValueError("a guest has a seat that is not free")
        left &= ~guest.seats
    if not left.any(1).all():
        raise ValueError("nobody learns in some environment")
    return left
