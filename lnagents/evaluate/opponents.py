"""Opponents of a team that learns: seats that follow a rule, or that nobody steers.

Who sits where is drawn anew for every episode and environment. Rules see a `NodeView`, as in a
daemon, which takes far longer to make than the arrays that networks see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lnagents.env.heuristics import HEURISTICS, Heuristic, make_heuristic
from lnagents.env.twin_world import TwinWorld
from lnagents.model.files import StrictModel
from lnagents.model.units import NodeKey

AS_FOUND = "as-found"
SAME = "same"

_STREAM = 1
"""Sets the draws apart from others that are made from the same seed."""

SeatArray = NDArray[np.bool_]


class OpponentSpec(StrictModel):
    """Who else sits at the table."""

    share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Of the agents of an environment, rounded down; the others are the team's."""
    kinds: Annotated[tuple[str, ...], Field(min_length=1)] = (AS_FOUND,)
    """Of which every environment draws one for every episode: a rule of `lnagents.env.heuristics`,
    `as-found` leaves fees as they were, `same` gives the seats to the team. What is named twice is
    drawn twice as often."""

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        known = (SAME, AS_FOUND, *HEURISTICS)
        for kind in kinds:
            if kind not in known:
                raise ValueError(f"{kind!r} is none of {', '.join(known)}")
        return kinds

    def seats(self, agents: int) -> int:
        """How many seats of `agents` are the opponents'."""
        # A share like 0.7 of 10 seats is 7, though the product may be a little less.
        return int(self.share * agents + 1e-9)


class Opponents:
    """The opponents of all environments, episode by episode."""

    def __init__(self, spec: OpponentSpec, worlds: Sequence[TwinWorld]) -> None:
        """Opponents in `worlds`, all of which have the same number of agents."""
        self._spec = spec
        self._worlds = tuple(worlds)
        self._agents = [list(world.agents.values()) for world in worlds]
        self._rules: list[dict[NodeKey, Heuristic]] = [{} for _ in worlds]
        self.learns: SeatArray = np.ones((len(worlds), len(self._agents[0])), np.bool_)
        """[environments, agents], the team's seats in the episodes under way."""

    def reset(self, seeds: Sequence[int]) -> None:
        """Draw who plays where, when the worlds have been reset with these seeds."""
        kinds, count = self._spec.kinds, self._spec.seats(self.learns.shape[1])
        self.learns = np.ones_like(self.learns)
        for place, (keys, seed) in enumerate(zip(self._agents, seeds, strict=True)):
            random = np.random.default_rng((seed, _STREAM))
            kind = kinds[random.integers(len(kinds))]
            seats = np.sort(random.permutation(len(keys))[:count])
            own_seeds = random.integers(2**31, size=count).tolist()
            self._rules[place] = {}
            if kind == SAME:
                continue
            self.learns[place, seats] = False
            if kind != AS_FOUND:
                self._rules[place] = {
                    keys[seat]: make_heuristic(kind, one)
                    for seat, one in zip(seats.tolist(), own_seeds, strict=True)
                }

    def act(self) -> None:
        """Let all that follow a rule do what it says, before the others of the round."""
        for world, rules in zip(self._worlds, self._rules, strict=True):
            if rules:
                views = world.views_of(rules)
                world.apply({key: rule.act(views[key]) for key, rule in rules.items()})
