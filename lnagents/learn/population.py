"""Training against one's own past: what was good against yesterday's others must stay so.

Seats of some episodes are played by actors of earlier iterations, drawn from a pool that is an even
sample of all that went before (a reservoir, Vitter 1985), as fictitious play answers to the average
of the past (Brown 1951; with networks and a reservoir, Heinrich and Silver 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lnagents.learn.policy import Policy
from lnagents.learn.seats import Guest
from lnagents.learn.settings import PopulationSettings
from lnagents.learn.task import SeatArray

_STREAM = 2
"""Sets the draws apart from others that are made from the same seed."""


class Population:
    """The pool, and who of it plays where."""

    def __init__(self, settings: PopulationSettings, like: Policy) -> None:
        """An empty pool.

        Args:
            settings: how large it is, and how often it plays.
            like: whose actors its members are to be.
        """
        self._settings = settings
        self._like = like
        self._offered = 0
        self._members: list[Policy] = []

    def offer(self, policy: Policy, iteration: int, seed: int) -> None:
        """Take `policy` in as it is now, if it is time and its lot is drawn.

        Args:
            policy: the learner's.
            iteration: how many have been made.
            seed: of the lot.
        """
        if iteration % self._settings.every:
            return
        self._offered += 1
        if len(self._members) < self._settings.size:
            self._members.append(policy.copied(policy.weights()))
            return
        place = int(np.random.default_rng((seed, _STREAM)).integers(self._offered))
        if place < self._settings.size:
            self._members[place] = policy.copied(policy.weights())

    def guests(self, learns: SeatArray, seeds: Sequence[int]) -> Sequence[Guest]:
        """See `Cast.guests`; an environment's pool seats are all of one member."""
        if not self._members:
            return ()
        seats = np.zeros((len(self._members), *learns.shape), np.bool_)
        for environment, (free, seed) in enumerate(zip(learns, seeds, strict=True)):
            random = np.random.default_rng((seed, _STREAM))
            if random.random() >= self._settings.probability:
                continue
            places = np.flatnonzero(free)
            count = max(1, int(self._settings.share * len(places) + 1e-9))
            if count < len(places):
                member = int(random.integers(len(self._members)))
                seats[member, environment, random.permutation(places)[:count]] = True
        pairs = zip(self._members, seats, strict=True)
        return [Guest(member, taken) for member, taken in pairs if taken.any()]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "offered": self._offered,
            "members": [member.weights() for member in self._members],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._offered = int(state["offered"])
        self._members = [self._like.copied(one) for one in state["members"]]
