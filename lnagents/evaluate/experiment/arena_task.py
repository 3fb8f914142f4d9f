"""Training networks of several families as one task: what learners of an experiment learn from.

Each episode draws its networks anew, from those for training, and so do the payments on them. A
learner has the seats that contestants have (`seats_of`): in some environments all, in others those
between agents that leave all as it is. What is missing to the largest network is padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lnagents.env.batch import LightningBatch
from lnagents.env.payments import WorkloadDemand
from lnagents.env.settings import EnvSettings
from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.evaluate.experiment.families import Arena, Family, Split, draw_arena, seed_of
from lnagents.evaluate.experiment.seats import seats_of
from lnagents.evaluate.training import LightningTask, most_channels
from lnagents.model.units import MSAT_PER_SAT, Msat

if TYPE_CHECKING:
    from lnagents.learn.task import Actions, Seen, StepResult

FloatArray = NDArray[np.float32]

AGENTS_SEE = ("rows", "mask", "whole", "neighbours")
OTHERS = ("foresight", "moves", "liquidity")
"""Parts of `Seen` that begin with [environments, agents]."""


@dataclass(frozen=True, slots=True)
class Table:
    """Environments of one family, whose learners have all seats or every second one."""

    family: Family
    everyone: bool
    environments: int


class ArenaTask:
    """A `Task` whose environments are other networks in every episode."""

    def __init__(
        self,
        tables: Sequence[Table],
        settings: EnvSettings,
        *,
        networks: int,
        joint_state: bool,
        foresight: bool = False,
        split: Split = Split.TRAINING,
        in_turn: bool = False,
    ) -> None:
        """A task of all tables' environments, in their order.

        Args:
            tables: what to learn on.
            settings: of the environments; rewards come in parts of what a network has to offer.
            networks: how many there are of each family to draw from.
            joint_state: whether to tell the whole truth, for central critics.
            foresight: whether to tell about other agents, for models of them.
            split: of the networks.
            in_turn: whether the environments of a table have one network after the other, the same
                in every episode, instead of drawing.

        Raises:
            ValueError: there are no tables, or no networks.
            TopologyError: the file that a family is taken from cannot be read.
        """
        if not tables or networks < 1:
            raise ValueError("there is nothing to learn on")
        self._tables = tuple(tables)
        self._settings = settings
        self._networks = networks
        self._split = split
        self._in_turn = in_turn
        everything = [_Ground.of(one, split, index) for one in tables for index in range(networks)]
        self._rows = max(most_channels(one.arena.network, one.agents) for one in everything)
        channels = max(one.arena.network.channels for one in everything)
        self._state_rows = channels if joint_state else 0
        self._foresight = foresight
        self._inner: list[LightningTask] = []
        self._scales: list[FloatArray] = []
        inner = self._task(everything[:1]).shape
        self.shape = replace(
            inner,
            batch=sum(table.environments for table in tables),
            agents=max(len(one.agents) for one in everything),
        )

    def _task(self, grounds: Sequence[_Ground]) -> LightningTask:
        """The environments on these networks, all of one table."""
        worlds = [TwinWorld(one.arena.network, one.agents) for one in grounds]
        demands = [WorkloadDemand(one.arena.workload) for one in grounds]
        batch = LightningBatch(worlds, demands, self._settings, rows=self._rows)
        return LightningTask(batch, state_rows=self._state_rows, foresight=self._foresight)

    def reset(self, seeds: Sequence[int]) -> Seen:
        """Draw networks, and begin episodes on them; see `Task.reset`."""
        self._inner, self._scales, seen = [], [], []
        first = 0
        for table in self._tables:
            chosen = seeds[first : first + table.environments]
            first += table.environments
            grounds = [
                _Ground.of(table, self._split, self._network(place, seed))
                for place, seed in enumerate(chosen)
            ]
            task = self._task(grounds)
            scales = [reward_scale(one, self._settings.reward_unit_msat) for one in grounds]
            self._inner.append(task)
            self._scales.append(np.array(scales, np.float32))
            seen.append(task.reset(chosen))
        return self._together(seen)

    def _network(self, place: int, seed: int) -> int:
        """The index of the network in environment `place` of a table."""
        if self._in_turn:
            return place % self._networks
        # The payments of an episode come from the same seed, so the network is set apart.
        return int(np.random.default_rng((seed, 1)).integers(self._networks))

    def step(self, actions: Actions) -> StepResult:
        """Live one round everywhere; see `Task.step`."""
        from lnagents.learn.task import Actions, StepResult

        if not self._inner:
            raise RuntimeError("no episodes are under way: call reset()")
        shape = self.shape
        results, first = [], 0
        rewards = np.zeros((shape.batch, shape.agents), np.float32)
        row_rewards = np.zeros((shape.batch, shape.agents, shape.rows), np.float32)
        for task, scales in zip(self._inner, self._scales, strict=True):
            inner = task.shape
            part = (slice(first, first + inner.batch), slice(inner.agents))
            result = task.step(Actions(actions.rows[part], actions.choice[part]))
            rewards[part] = result.rewards * scales[:, None]
            if result.row_rewards is not None:
                row_rewards[part] = result.row_rewards * scales[:, None, None]
            results.append(result)
            first += inner.batch
        over = results[0].over
        seen = self._together([result.seen for result in results])
        if over:
            self._inner, self._scales = [], []
        return StepResult(
            seen=seen,
            rewards=rewards,
            over=over,
            measures={
                name: np.concatenate([self._padded(one.measures[name]) for one in results])
                for name in results[0].measures
            },
            row_rewards=row_rewards,
        )

    def close(self) -> None:
        """See `Task.close`; there is nothing to end."""

    def _padded(self, measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """[environments, agents] with zeros for agents that are not there."""
        return np.pad(measured, ((0, 0), (0, self.shape.agents - measured.shape[1])))

    def _together(self, parts: Sequence[Seen]) -> Seen:
        """All environments one after the other, with padding for agents that are not there."""
        from lnagents.learn.task import Seen

        whole = Seen.blank(self.shape)
        whole.mask[:] = 0.0
        learns = np.zeros(whole.mask.shape[:2], np.bool_)
        first = 0
        for part in parts:
            batch = slice(first, first + len(part.mask))
            agents = slice(part.mask.shape[1])
            learns[batch, agents] = True
            for name in AGENTS_SEE + (OTHERS if self._foresight else ()):
                getattr(whole, name)[batch, agents] = getattr(part, name)
            whole.state[batch] = part.state
            whole.state_mask[batch] = part.state_mask
            first = batch.stop
        return whole if learns.all() else replace(whole, learns=learns)


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """A training network, and where learners sit on it."""

    arena: Arena
    agents: tuple[str, ...]

    @classmethod
    def of(cls, table: Table, split: Split, index: int) -> _Ground:
        return _drawn_ground(table.family, table.everyone, split, index)


@lru_cache(maxsize=2_048)
def _drawn_ground(family: Family, everyone: bool, split: Split, index: int) -> _Ground:
    arena = draw_arena(family, split, index)
    seed = seed_of("seats", family.name, index)
    seats = seats_of(arena.agents, seed, everyone=everyone)
    return _Ground(arena, tuple(seat.node for seat in seats if seat.contests))


def reward_scale(ground: _Ground, unit_msat: Msat) -> float:
    """What to multiply rewards with, so that networks of all sizes and prices count alike.

    1 is what an agent would earn a round if all payments were of the median amount and cost the
    median of what payers accept, and all agents had the same part of it.
    """
    workload = ground.arena.workload
    demand = workload.demands[0]
    fee_msat = MSAT_PER_SAT * demand.amount.median_sat * demand.fee_limit.median_ppm / 1_000_000
    payments = workload.payments_per_second * TwinTimes().pay
    return unit_msat * len(ground.agents) / (fee_msat * payments)
