"""Many environments as one, in arrays: what trainers take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lnagents.env.arrays import (
    ActionArrays,
    ArrayWorld,
    RoundArrays,
    Rounds,
    TermArray,
    ViewRounds,
    own_rewards,
    shared_rewards,
)
from lnagents.env.payments import Demand, EpisodePayments, RandomDemand
from lnagents.env.settings import EnvSettings
from lnagents.env.world import World

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class BatchStep:
    """What one round brought in all environments."""

    seen: RoundArrays
    """[batch, agents, …]; a fresh one each time."""
    rewards: TermArray
    """[batch, agents], in units of `EnvSettings.reward_unit_msat`."""
    over: bool
    """Whether the episodes have ended: all do at once."""


class LightningBatch:
    """`LightningEnv` many times over, without a dict: a round of all is one call.

    Each environment has a world of its own, with the same number of agents; rows are padded to the
    agent with the most channels of all. Agents choose no routes here. With more than one thread the
    worlds live at the same time: twins release Python's lock.
    """

    def __init__(
        self,
        worlds: Sequence[World],
        demand: Demand | Sequence[Demand] | None = None,
        settings: EnvSettings | None = None,
        *,
        threads: int = 1,
        rows: int = 0,
    ) -> None:
        """Environments on `worlds`, which are closed with them.

        Args:
            worlds: one for each environment.
            demand: who pays, in all worlds or in each; None: see `RandomDemand`.
            settings: of all of them.
            threads: in which the worlds live.
            rows: how many channels of an agent there is room for at least, so that this batch can
                be a part of another one.

        Raises:
            ValueError: there are no worlds, they have not the same number of agents, there is not
                one demand for each, or the settings let agents choose routes.
        """
        agents = {len(world.agents) for world in worlds}
        if len(agents) != 1:
            raise ValueError(f"the worlds must have the same number of agents, not {agents or 0}")
        self.settings = settings or EnvSettings()
        if self.settings.routes:
            raise ValueError("routes: a batch does not offer them")
        if threads < 1:
            raise ValueError(f"threads: {threads} is less than 1")
        self.worlds = tuple(worlds)
        self.agents = agents.pop()
        """In each environment."""
        self.max_channels = max(rows, *(world.max_channels for world in worlds))
        given = demand or RandomDemand()
        self._demands = tuple(given) if isinstance(given, Sequence) else (given,) * len(worlds)
        if len(self._demands) != len(worlds):
            raise ValueError(f"{len(self._demands)} demands for {len(worlds)} worlds")
        self._rounds: list[Rounds] = [
            world.rounds(self.settings.bounds)
            if isinstance(world, ArrayWorld)
            else ViewRounds(world, self.settings.bounds)
            for world in worlds
        ]
        self._most = [world.max_channels for world in worlds]
        self._seeds = np.random.default_rng()
        self._episodes: list[EpisodePayments] = []
        self._number = 0
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __len__(self) -> int:
        return len(self.worlds)

    def no_actions(self) -> ActionArrays:
        """Actions that leave everything as it was found, to be filled in."""
        return ActionArrays.zeros(self.agents, self.max_channels, (len(self),))

    def reset(self, seed: int | Sequence[int] | None = None) -> RoundArrays:
        """Begin episodes.

        Args:
            seed: one for each environment, which then depends on nothing else; or one that decides
                these episodes and all that follow without a seed.

        Raises:
            ValueError: there are not as many seeds as environments.
        """
        if isinstance(seed, Sequence):
            if len(seed) != len(self):
                raise ValueError(f"{len(seed)} seeds are not one for each of {len(self)}")
            seeds = [np.random.default_rng(one).integers(0, 2**31, 2).tolist() for one in seed]
        else:
            if seed is not None:
                self._seeds = np.random.default_rng(seed)
            seeds = self._seeds.integers(0, 2**31, (len(self), 2)).tolist()
        self._number = 0
        seen = RoundArrays.empty(self.agents, self.max_channels, (len(self),))

        def begin(index: int) -> EpisodePayments:
            world, rounds = self.worlds[index], self._rounds[index]
            world_seed, demand_seed = seeds[index]
            rounds.reset(world_seed)
            rounds.observe(seen[index].narrowed(self._most[index]))
            return self._demands[index].draw(
                tuple(world.nodes), self.settings.rounds, world.round_seconds, demand_seed
            )

        self._episodes = self._each(begin)
        return seen

    def step(self, actions: ActionArrays) -> BatchStep:
        """Live one round everywhere.

        Args:
            actions: [batch, agents, most channels, …].

        Raises:
            RuntimeError: no episodes are under way.
            ValueError: an array has another shape, or a number in it is not finite.
        """
        if not self._episodes:
            raise RuntimeError("no episodes are under way: call reset()")
        if actions.fees.shape[:3] != (len(self), self.agents, self.max_channels):
            raise ValueError(f"fees: the shape is {actions.fees.shape}")
        seen = RoundArrays.empty(self.agents, self.max_channels, (len(self),))
        number = self._number

        def live(index: int) -> None:
            rounds, most = self._rounds[index], self._most[index]
            rounds.act(actions[index].narrowed(most))
            rounds.run(self._episodes[index].of_round(number))
            rounds.observe(seen[index].narrowed(most))

        self._each(live)
        self._number += 1
        over = self._number == self.settings.rounds
        if over:
            self._episodes = []
        own = own_rewards(seen.terms, self.settings)
        return BatchStep(seen, shared_rewards(own, self.settings), over)

    def _each(self, work: Callable[[int], Result]) -> list[Result]:
        places = range(len(self))
        return list(map(work, places) if self._pool is None else self._pool.map(work, places))

    def close(self) -> None:
        """Close the worlds and end the threads."""
        for world in self.worlds:
            world.close()
        if self._pool is not None:
            self._pool.shutdown()
