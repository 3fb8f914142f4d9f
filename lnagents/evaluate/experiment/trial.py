"""How agents with linear levels do on training networks: as `contest.play`, by arrays, and faster.

Searches need thousands of runs and few figures of each, so nothing is made for people here: no
views, no reasons. Such a run equals that of a `LinearContestant` to the msat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lnagents.env.arrays import ActionArrays, RoundArrays
from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.linear import LinearLevels
from lnagents.env.payments import EpisodePayments, WorkloadDemand
from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.evaluate.experiment.families import Arena, Family, Split, draw_arena, seed_of
from lnagents.evaluate.experiment.seats import seats_of
from lnagents.model.units import Msat
from lnagents.twin.network import Int64Array
from lnagents.twin.settings import TwinSettings
from lnagents.twin.state import FEES_EARNED
from lnagents.twin.traffic import SETTLED

TIMES = TwinTimes()
SETTINGS = TwinSettings()


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A network and the payments on it: the same for all who play there."""

    arena: Arena
    seed: int
    episode: EpisodePayments


def draw_stage(family: Family, split: Split, index: int, rounds: int, draw: int = 0) -> Stage:
    """The stage of all runs with these arguments; contests have `draw` 0 of the payments."""
    arena = draw_arena(family, split, index)
    seed = seed_of("payments", family.name, split.value, index)
    drawn = seed_of(seed, draw) if draw else seed
    episode = WorkloadDemand(arena.workload).draw(arena.network.names, rounds, TIMES.pay, drawn)
    return Stage(arena, seed, episode)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run brought."""

    income_msat: Msat
    """Of all contesting seats."""
    paid_msat: Msat
    """Fees of their own payments."""
    updates: int
    """Of their policies."""
    payments: int
    settled: int

    def profit_msat(self, update_cost_msat: Msat) -> Msat:
        """Income less what was paid and what announcements cost."""
        return self.income_msat - self.paid_msat - self.updates * update_cost_msat

    @property
    def success(self) -> float:
        """Payments that settled, %."""
        return 100.0 * self.settled / max(1, self.payments)


def try_out(
    family: Family,
    index: int,
    rounds: int,
    levels: LinearLevels | None,
    bounds: FeeBounds,
    draw: int = 0,
) -> Outcome:
    """Let agents with `levels` have every second seat of a training network.

    Args:
        family: of the network.
        index: which of them.
        rounds: how many.
        levels: None leaves fees as found.
        bounds: what may be set.
        draw: of the payments: the same network with others.
    """
    ground = _ground(family, index, rounds, draw)
    network, episode = ground.stage.arena.network, ground.stage.episode
    world = TwinWorld(network, ground.agents, settings=SETTINGS, times=TIMES)
    channel_rounds = world.rounds(bounds)
    channel_rounds.reset(ground.stage.seed)
    seen = RoundArrays.empty(len(ground.agents), world.max_channels)
    income = paid = updates = payments = settled = 0
    for number in range(rounds):
        if levels is not None:
            channel_rounds.observe(seen)
            before = world.twin.policies()[ground.edges]
            channel_rounds.act(ActionArrays(fees=levels.levels(seen.channels, seen.node)))
            updates += int((before != world.twin.policies()[ground.edges]).any(axis=1).sum())
        made = episode.of_round(number)
        outcomes = world.run_arrays(made)
        arrived = outcomes.reason == SETTLED
        own = np.isin(made.source, world.book.node)
        income += int(world.twin.flows[ground.edges, FEES_EARNED].sum())
        paid += int(outcomes.fee[arrived & own].sum())
        payments += len(made)
        settled += int(arrived.sum())
    return Outcome(income, paid, updates, payments, settled)


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    stage: Stage
    agents: Sequence[str]
    edges: Int64Array
    """Own ones."""


@lru_cache(maxsize=512)
def _ground(family: Family, index: int, rounds: int, draw: int) -> _Ground:
    stage = draw_stage(family, Split.TRAINING, index, rounds, draw)
    arena = stage.arena
    seats = seats_of(arena.agents, stage.seed, everyone=False)
    agents = tuple(seat.node for seat in seats if seat.contests)
    places = [arena.network.names.index(name) for name in agents]
    edges = np.flatnonzero(np.isin(arena.network.edge_source(), places))
    return _Ground(stage, agents, edges)
