"""A policy that lives through an episode, with what its agents remember of it."""

from __future__ import annotations

import torch
from torch import Tensor

from lnagents.learn.policy import Policy
from lnagents.learn.samples import Decision, Noise, Others, Sight, joined, some
from lnagents.learn.task import Seen


class Player:
    """In some environments, for one episode; computed for as many at once as settings say."""

    def __init__(self, policy: Policy, environments: int) -> None:
        """At the beginning, with nothing to remember."""
        self._policy = policy
        self._acting = policy.acting()
        together = policy.settings.together or environments
        self._groups = [
            slice(begin, begin + together) for begin in range(0, environments, together)
        ]
        memory = policy.memory
        self.state: Tensor | None = None
        """[environments, agents, hidden], what the agents remember; None if they never do."""
        if memory is not None:
            self.state = memory.blank(environments, policy.shape.agents)

    def look(self, seen: Seen) -> Sight:
        """What the actors see now, with what is foreseen; once at every moment."""
        policy = self._policy
        sight = Sight.of(seen, policy.algorithm)
        if policy.opponents is not None:
            others, model = Others.of(seen), policy.opponents
            parts = [model.extended(some(sight, one), some(others, one)) for one in self._groups]
            sight = joined(torch.cat, parts)
        if policy.memory is not None and self.state is not None:
            state, after = self.state, policy.memory.after
            self.state = torch.cat([after(state[one], some(sight, one)) for one in self._groups])
        return sight

    def decide(self, sight: Sight, noise: Noise | None) -> Decision:
        """What they do about it: as `noise` has it, or the most likely."""
        known = sight.with_memory(self.state)
        if len(self._groups) == 1:
            return self._policy.decide(known, noise, self._acting)
        return joined(
            torch.cat,
            [
                self._policy.decide(
                    some(known, one), None if noise is None else some(noise, one), self._acting
                )
                for one in self._groups
            ],
        )
