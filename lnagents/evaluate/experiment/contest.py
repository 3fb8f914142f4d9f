"""One run: a contestant and a field on one network, round after round, in the twin."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lnagents import __version__
from lnagents.agent.trained import TrainedActor, load_team
from lnagents.env.heuristics import Heuristic
from lnagents.env.payments import EpisodePayments
from lnagents.env.twin_world import TwinWorld
from lnagents.env.world import MAX_PARTS
from lnagents.evaluate.experiment.contestants import LearnedContestant, Passive, Player, Same
from lnagents.evaluate.experiment.definition import RunSpec
from lnagents.evaluate.experiment.families import Arena, Family, Split, seed_of
from lnagents.evaluate.experiment.school import digest
from lnagents.evaluate.experiment.seats import Seat, seats_of
from lnagents.evaluate.experiment.trial import SETTINGS, TIMES, draw_stage
from lnagents.evaluate.measures import fee_churn
from lnagents.evaluate.results import RunResult, SeatResult
from lnagents.model.units import Msat, NodeKey
from lnagents.model.view import NodeDecision, NodeView
from lnagents.twin.network import FEE_RATE, Int64Array
from lnagents.twin.state import (
    FAILED_FORWARDS,
    FEES_EARNED,
    FLOW_COLUMNS,
    FORWARDED_OUT,
    FORWARDS,
)
from lnagents.twin.success_bound import success_bound
from lnagents.twin.traffic import SETTLED, Traffic

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy

CALM = "calm"
"""What results call a run without a disturbance."""


def play(spec: RunSpec, team: bytes | None = None) -> RunResult:
    """Play one run; the same arguments give the same result, apart from the seconds.

    Args:
        spec: what to play.
        team: the checkpoint of the contestant's training, if it is a learned one.

    Raises:
        TopologyError: the file that the family is taken from cannot be read.
        CheckpointError: the checkpoint is of other code.
    """
    began = time.process_time()
    stage = _stage(spec.family, spec.split, spec.index, spec.rounds)
    return _Contest(spec, stage, team).result(began)


def multiplied(decision: NodeDecision, factor: float) -> NodeDecision:
    """The same with other fee rates."""
    return replace(
        decision,
        channels={
            scid: replace(one, fee_rate_ppm=round(one.fee_rate_ppm * factor))
            if one.fee_rate_ppm is not None
            else one
            for scid, one in decision.channels.items()
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """What runs of different contestants have in common."""

    arena: Arena
    seed: int
    episode: EpisodePayments
    bound_msat: Msat


@lru_cache(maxsize=8)
def _stage(family: Family, split: Split, index: int, rounds: int) -> _Stage:
    stage = draw_stage(family, split, index, rounds)
    arena, episode = stage.arena, stage.episode
    payments = [episode.of_round(number) for number in range(rounds)]
    whole = Traffic.of(
        at=np.concatenate(
            [number * TIMES.whole + TIMES.hear + one.at for number, one in enumerate(payments)]
        ),
        source=episode.source,
        target=episode.target,
        amount=episode.amount,
        fee_limit=episode.fee_limit,
        max_parts=MAX_PARTS,
    )
    bound = success_bound(arena.network, whole, SETTINGS.commitment)
    return _Stage(arena, stage.seed, episode, bound.volume_msat)


@lru_cache(maxsize=256)
def _policy(team: bytes) -> Policy:
    """Of a checkpoint; a team plays many runs, and what they do leaves no trace in it."""
    return load_team(team)


class _Contest:
    """The books of one run."""

    def __init__(self, spec: RunSpec, stage: _Stage, team: bytes | None) -> None:
        self._spec = spec
        self._team = None if team is None else _policy(team)
        self._digest = "" if team is None else digest(team)
        self._stage = stage
        arena = stage.arena
        everyone = isinstance(spec.field, Same)
        self._seats = seats_of(arena.agents, stage.seed, everyone=everyone)
        self._contesting = tuple(seat.node for seat in self._seats if seat.contests)
        self._world = TwinWorld(arena.network, arena.agents, settings=SETTINGS, times=TIMES)
        self._world.reset(stage.seed)
        self._players = {seat.node: self._player(seat) for seat in self._seats}
        self._actors = {
            self._world.agents[node]: self._actor(player, seed_of(stage.seed, place))
            for place, (node, player) in enumerate(self._players.items())
        }
        # Views cost more than most decisions; who decides nothing needs none.
        self._awake = {key for key, one in self._actors.items() if not isinstance(one, Passive)}
        edges = 2 * arena.network.channels
        self._flows = np.zeros((edges, FLOW_COLUMNS), np.int64)
        self._updates = np.zeros(edges, np.int64)
        self._rates: list[Int64Array] = [self._world.twin.policies()[:, FEE_RATE]]
        self._sums = dict.fromkeys(
            ("payments", "settled", "offered", "arrived", "fees", "attempts", "failed"), 0
        )
        self._paid: dict[int, Msat] = {}
        self._series: dict[str, list[int]] = {
            name: [] for name in ("income", "payments", "settled", "volume")
        }
        places = [arena.network.names.index(name) for name in self._contesting]
        self._own_edges = np.flatnonzero(np.isin(arena.network.edge_source(), places))

    def _player(self, seat: Seat) -> Player:
        field = self._spec.field
        return self._spec.contestant if seat.contests or isinstance(field, Same) else field

    def _actor(self, player: Player, seed: int) -> Heuristic:
        if not isinstance(player, LearnedContestant):
            return player.actor(seed)
        if self._team is None:
            raise ValueError(f"{player.name} plays only with its checkpoint")
        return TrainedActor(self._team)

    def _decide(self, number: int, views: Mapping[NodeKey, NodeView]) -> None:
        """Let all actors decide, and carry out what they have decided."""
        spec, world = self._spec, self._world
        suspended = spec.disturbance is not None and spec.disturbance.suspends(number)
        deviator = world.agents[self._contesting[0]] if spec.deviation != 1.0 else None
        mine = {world.agents[name] for name in self._contesting}
        decisions = {}
        for key, view in views.items():
            decision = self._actors[key].act(view)
            if suspended and key not in mine:
                continue
            decisions[key] = multiplied(decision, spec.deviation) if key == deviator else decision
        world.apply(decisions)

    def _play(self) -> None:
        world, spec = self._world, self._spec
        for number in range(spec.rounds):
            views = world.views_of(self._awake)
            before = world.twin.policies()
            self._decide(number, views)
            after = world.twin.policies()
            self._updates += (before != after).any(axis=1)
            self._rates.append(after[:, FEE_RATE])
            if spec.disturbance is not None:
                spec.disturbance.before_round(number, world, self._contesting, self._stage.seed)
            payments = self._stage.episode.of_round(number)
            outcomes = world.run_arrays(payments)
            self._flows += world.twin.flows
            settled = outcomes.reason == SETTLED
            for series, value in (
                ("income", world.twin.flows[self._own_edges, FEES_EARNED].sum()),
                ("payments", len(payments)),
                ("settled", settled.sum()),
                ("volume", payments.amount[settled].sum()),
            ):
                self._series[series].append(int(value))
            for key, amount in (
                ("payments", len(payments)),
                ("settled", settled.sum()),
                ("offered", payments.amount.sum()),
                ("arrived", payments.amount[settled].sum()),
                ("fees", outcomes.fee[settled].sum()),
                ("attempts", outcomes.attempts.sum()),
                ("failed", outcomes.failed_attempts.sum()),
            ):
                self._sums[key] += int(amount)
            for source, fee in zip(
                payments.source[settled].tolist(), outcomes.fee[settled].tolist(), strict=True
            ):
                self._paid[source] = self._paid.get(source, 0) + fee
        world.twin.audit()

    def result(self, began: float) -> RunResult:
        """Play, and sum up."""
        self._play()
        spec, sums = self._spec, self._sums
        rates = np.array(self._rates)
        return RunResult(
            run=spec.id,
            contestant=spec.contestant.name,
            field=spec.field.name,
            family=spec.family.name,
            split=spec.split.value,
            index=spec.index,
            rounds=spec.rounds,
            disturbance=CALM if spec.disturbance is None else spec.disturbance.kind,
            deviation=spec.deviation,
            payments=sums["payments"],
            settled=sums["settled"],
            offered_msat=sums["offered"],
            settled_msat=sums["arrived"],
            bound_msat=self._stage.bound_msat,
            fees_msat=sums["fees"],
            attempts=sums["attempts"],
            failed_attempts=sums["failed"],
            income_by_round=tuple(self._series["income"]),
            payments_by_round=tuple(self._series["payments"]),
            settled_by_round=tuple(self._series["settled"]),
            volume_by_round=tuple(self._series["volume"]),
            seconds=time.process_time() - began,
            version=__version__,
            team=self._digest,
            seats=tuple(self._seat(seat, rates) for seat in self._seats),
        )

    def _seat(self, seat: Seat, rates: Int64Array) -> SeatResult:
        network = self._world.network
        place = network.names.index(seat.node)
        edges = np.flatnonzero(network.edge_source() == place)
        flows = self._flows[edges].sum(axis=0).tolist()
        return SeatResult(
            node=seat.node,
            plays=self._players[seat.node].name,
            contests=seat.contests,
            channels=len(edges),
            capacity_msat=int(network.capacity[edges >> 1].sum()),
            fees_earned_msat=flows[FEES_EARNED],
            fees_paid_msat=self._paid.get(place, 0),
            forwards=flows[FORWARDS],
            forwarded_msat=flows[FORWARDED_OUT],
            failed_forwards=flows[FAILED_FORWARDS],
            updates=int(self._updates[edges].sum()),
            fee_churn=float(fee_churn(rates[:, edges])),
            rate_ppm=float(rates[len(rates) // 2 :, edges].mean()),
            deviates=self._spec.deviation != 1.0 and seat.node == self._contesting[0],
        )
