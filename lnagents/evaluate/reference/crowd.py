"""A task of many agents: a crowd spreads over places whose capacities nobody tells.

Each of N agents chooses one of K places in every step, as senders choose among forwarders. Whoever
goes to a place waits there for the share of the crowd that came along over the place's capacity.
Capacities are drawn for each episode, and shown to central critics alone. An agent sees where it
was and how long it waited; around it, it can see where the others went (their mean action) and how
long they waited there (their mean state). From these, capacities can be told: whoever looks around
can do what whoever looks at itself alone cannot.

What is best is known. With waiting in proportion to load, no one gains by going elsewhere when
loads are in proportion to capacities (Wardrop's equilibrium), and then the crowd as a whole waits
least, too, because costs are of one degree (Dafermos & Sparrow 1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lnagents.learn.task import Actions, Seen, StepResult, TaskShape

FloatArray = NDArray[np.float32]
Numbers = NDArray[np.float64]

AGENTS = 50
PLACES = 5
STEPS = 20
LEAST_CAPACITY = 0.1
"""The largest is 1; logarithms are evenly distributed."""


class CrowdTask:
    """The task as trainers take it; rewards are waits with the opposite sign.

    Before the first step agents have been nowhere. Episodes are cut off, the crowd stays.
    """

    def __init__(
        self, batch: int, agents: int = AGENTS, places: int = PLACES, steps: int = STEPS
    ) -> None:
        from lnagents.learn.task import TaskShape

        names = tuple(f"place{i}" for i in range(places))
        self.shape: TaskShape = TaskShape(
            batch=batch,
            agents=agents,
            steps=steps,
            whole_features=(*(f"was_at_{name}" for name in names), "waited"),
            neighbour_features=(
                *(f"share_at_{name}" for name in names),
                *(f"wait_at_{name}" for name in names),
            ),
            state_rows=1,
            state_features=(
                *(f"capacity_of_{name}" for name in names),
                *(f"share_at_{name}" for name in names),
            ),
            choices=names,
        )
        self._capacity: Numbers = np.ones((batch, places))
        self._step = steps

    def reset(self, seeds: Sequence[int]) -> Seen:
        """Draw other capacities."""
        self._capacity = capacities(seeds, len(self.shape.choices))
        self._step = 0
        nowhere = np.zeros((self.shape.batch, self.shape.agents, len(self.shape.choices)))
        return self._seen(nowhere)

    def step(self, actions: Actions) -> StepResult:
        """Everybody goes to the chosen place and waits."""
        from lnagents.learn.task import StepResult

        if self._step >= self.shape.steps:
            raise RuntimeError("no episodes are under way")
        self._step += 1
        at = (actions.choice[..., None] == np.arange(len(self.shape.choices))).astype(float)
        seen = self._seen(at)
        waits = (at * self._waits(at)[:, None]).sum(-1)
        return StepResult(
            seen=seen,
            rewards=(-waits).astype(np.float32),
            over=self._step == self.shape.steps,
            measures={"wait": waits.mean(1)},
        )

    def close(self) -> None:
        """Nothing is held."""

    def _waits(self, at: Numbers) -> Numbers:
        """[environments, places], from who is where [environments, agents, places]."""
        waits: Numbers = at.mean(1) / self._capacity
        return waits

    def _seen(self, at: Numbers) -> Seen:
        from lnagents.learn.task import Seen

        waits = self._waits(at)
        agents = self.shape.agents
        total = at.sum(1, keepdims=True)
        others = (total - at) / max(1, agents - 1)
        # Where nobody else was, nobody else can tell how long it takes.
        told = np.log1p(waits)[:, None] * (total - at > 0.0)
        waited = np.log1p((at * waits[:, None]).sum(-1, keepdims=True))
        state = np.concatenate((self._capacity, at.mean(1)), -1)[:, None]
        seen = Seen.blank(self.shape)
        seen.whole[:] = np.concatenate((at, waited), -1)
        seen.neighbours[:] = np.concatenate((others, told), -1)
        seen.state[:] = state
        return seen


def capacities(seeds: Sequence[int], places: int = PLACES) -> Numbers:
    """Of the places in the episodes of these seeds, [episodes, places]."""
    low = np.log(LEAST_CAPACITY)
    drawn = [np.random.default_rng(seed).uniform(low, 0.0, places) for seed in seeds]
    return np.exp(np.array(drawn))


def least_wait(capacity: Numbers, agents: int) -> Numbers:
    """The mean wait of an agent if the whole crowd spreads as well as it can, [environments].

    Places fill one agent after the other, each where the crowd's wait grows least, which is best
    because a place's part of it, n^2 / (capacity * agents^2), is convex in its agents n.

    Args:
        capacity: [environments, places].
        agents: how many there are.
    """
    every = np.arange(len(capacity))
    count = np.zeros_like(capacity)
    for _ in range(agents):
        growth = (2.0 * count + 1.0) / capacity
        count[every, growth.argmin(-1)] += 1.0
    least: Numbers = (np.square(count) / capacity).sum(-1) / agents**2
    return least


def random_wait(capacity: Numbers, agents: int) -> Numbers:
    """The mean wait to be expected if everyone goes anywhere, [environments].

    An agent meets itself for certain and each other one in one of K cases.
    """
    places = capacity.shape[-1]
    share = (1.0 + (agents - 1.0) / places) / agents
    expected: Numbers = share * (1.0 / capacity).mean(-1)
    return expected


def even_wait(capacity: Numbers, agents: int) -> Numbers:
    """The mean wait if everyone drew a place by its capacity: what needs no agreement, [...].

    Shares are then right on average; what is lost to `least_wait` is the chance in each draw.
    """
    share = capacity / capacity.sum(-1, keepdims=True)
    load = (1.0 + (agents - 1.0) * share) / agents
    expected: Numbers = (share * load / capacity).sum(-1)
    return expected
