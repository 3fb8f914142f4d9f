"""How stable a team is: what a newcomer gains against it, and how teams do among strangers.

**Best-response gap**: the team is frozen, and a fresh learner is trained on one seat against it.
What it gets there in the end, less what the team's own agent gets in the same seat and episodes, is
a lower bound of what somebody could gain by leaving the team's ways; it is near zero in an
equilibrium. A negative gap says that the learner had too small a budget, not that the team is good.

**Cross-play**: of populations that were trained apart, an agent of A sits among agents of B. What
it gets there, less what it would among its own, says how much A's ways are a convention with those
it grew up with (Lanctot et al. 2017, Hu et al. 2020).

In all that is compared here everybody does what is most likely, as when actors are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnagents.evaluate.statistics import Estimate, estimate, mean

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy
    from lnagents.learn.settings import TrainSettings
    from lnagents.learn.task import Task

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """The best-response gap of one team."""

    seats: tuple[int, ...]
    """On which a newcomer was trained, each a fresh one."""
    newcomer: Floats
    """[seats, episodes, environments], return of an episode."""
    team: Floats
    """The same of the team's own agents in those seats and episodes."""
    networks: tuple[int, ...]
    """[environments], which of them have the same network."""

    def units(self) -> Floats:
        """[seats * networks], the gap in each seat of each network, mean over episodes."""
        gained = (self.newcomer - self.team).mean(1)
        places = sorted(set(self.networks))
        of_network = [gained[:, np.equal(self.networks, one)].mean(1) for one in places]
        return np.stack(of_network, 1).ravel()

    def estimate(self) -> Estimate:
        """The mean gap; the interval is over seats and networks, over episodes if there is one."""
        units = self.units()
        if len(units) < 2:
            units = (self.newcomer - self.team).ravel()
        return estimate(mean, units[:, None], seed=0)

    def to_json(self) -> dict[str, Any]:
        """For files and scripts."""
        return {
            "gap": self.estimate()._asdict(),
            "newcomer": float(self.newcomer.mean()),
            "team": float(self.team.mean()),
            "units": len(self.units()),
            "episodes": int(self.team.shape[1] * self.team.shape[2]),
            "seats": [
                {
                    "seat": seat,
                    "newcomer": float(new.mean()),
                    "team": float(own.mean()),
                }
                for seat, new, own in zip(self.seats, self.newcomer, self.team, strict=True)
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class CrossPlay:
    """Returns of an agent of each population among agents of each."""

    names: tuple[str, ...]
    returns: Floats
    """[populations, populations, episodes]: of an agent of the first among those of the second."""

    def cell(self, one: int, other: int) -> Estimate:
        """Mean return of an agent of `one` among those of `other`, over episodes."""
        return estimate(mean, self.returns[one, other][:, None], seed=0)

    def gap(self) -> Estimate:
        """What agents get among their own, less what they get among strangers."""
        count = len(self.names)
        own = np.einsum("iie->e", self.returns) / count
        strangers = (self.returns.sum((0, 1)) - own * count) / (count * (count - 1))
        return estimate(mean, (own - strangers)[:, None], seed=0)

    def to_json(self) -> dict[str, Any]:
        """For files and scripts."""
        places = range(len(self.names))
        means = self.returns.mean(-1)
        own = float(np.trace(means)) / len(places)
        gap = self.gap()
        return {
            "names": list(self.names),
            "matrix": [[self.cell(a, b)._asdict() for b in places] for a in places],
            "gap": gap._asdict(),
            "own": own,
            "share_lost": gap.value / own if own > 0.0 else None,
            "episodes": int(self.returns.shape[-1]),
        }


def responder_settings(settings: TrainSettings, iterations: int) -> TrainSettings:
    """How a newcomer learns: as the team did, but nothing holds it back."""
    free = {
        "iterations": iterations,
        "shared": True,
        "stagger": 1,
        "actor_pace": 1.0,
        "drift_budget": None,
        "population": None,
    }
    return settings.model_copy(update=free)


def returns_of(
    task: Task, policy: Policy, others: Policy, seats: NDArray[np.intp], seed: int, episodes: int
) -> Floats:
    """[episodes, environments], what `policy` gets in its seat among `others`.

    Args:
        task: where.
        policy: on one seat of each environment.
        others: on all other seats; may be the same.
        seats: [episodes, environments], which seat that is.
        seed: of the episodes: the same seed makes the same episodes.
        episodes: how many, one after the other.
    """
    from lnagents.learn.rollout import episode_seeds, live
    from lnagents.learn.seats import Beside

    every = []
    seeds = episode_seeds(seed, episodes, range(task.shape.batch))
    for one, own in zip(seeds, seats, strict=True):
        cast = None if others is policy else Beside(others, own, explores=False)
        returns = live(task, policy, one, cast, explores=False).rewards.sum(0).double().numpy()
        every.append(returns[np.arange(len(own)), own])
    return np.stack(every)


def seat_gap(
    task: Task, team: Policy, newcomer: Policy, seat: int, seed: int, episodes: int
) -> tuple[Floats, Floats]:
    """[episodes, environments] each: what the newcomer gets in `seat`, and what the team's own."""
    seats = np.full((episodes, task.shape.batch), seat, np.intp)
    own = returns_of(task, team, team, seats, seed, episodes)
    return returns_of(task, newcomer, team, seats, seed, episodes), own


def cross_play(
    task: Task, names: Sequence[str], teams: Sequence[Policy], seed: int, episodes: int
) -> CrossPlay:
    """Every population's agents among every population's.

    Seats change from environment to environment and from episode to episode, and are the same for
    all pairs.

    Raises:
        ValueError: there are fewer than two populations.
    """
    if len(teams) < 2:
        raise ValueError("cross-play needs two populations at least")
    batch, agents = task.shape.batch, task.shape.agents
    first = np.random.default_rng(seed).integers(agents)
    seats = (first + np.arange(episodes * batch).reshape(episodes, batch)) % agents
    returns = [
        [returns_of(task, one, other, seats, seed, episodes).ravel() for other in teams]
        for one in teams
    ]
    return CrossPlay(tuple(names), np.array(returns))
