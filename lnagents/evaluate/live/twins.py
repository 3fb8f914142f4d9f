"""The actors of the daemons, deciding in the twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lnagents.agent.actor import Actor, make_actor
from lnagents.agent.config import FeesSection, RewardSection
from lnagents.env import AttemptCost, reward, reward_terms
from lnagents.env.live.loop import LoopThread
from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.evaluate.live.conditions import actor_section
from lnagents.evaluate.live.play import Books
from lnagents.evaluate.live.results import LiveResult
from lnagents.evaluate.live.stage import Stage
from lnagents.model.view import NodeView

DECIDING_SECONDS = 0.5
"""Until daemons have decided and everyone has heard of it, on a machine that does little else."""
ANSWERING_SECONDS = 0.5
"""From the last moment in which a payment may begin until a round is over, likewise."""


class TwinDeciders:
    """What `Rounds` does in a daemon, for all routers of a twin."""

    def __init__(
        self,
        world: TwinWorld,
        stage: Stage,
        condition: str,
        team: Path,
        live: LiveResult | None = None,
    ) -> None:
        """Make the actors.

        Args:
            world: reset.
            stage: who the routers are.
            condition: who decides there.
            team: the checkpoint of the trained team.
            live: the run on real nodes that this is the twin of. Its rounds take as long, and its
                actors are given their channels in the same order: who explores draws its lots in
                it. None: a round takes as long as on a machine that has nothing else to do.

        Raises:
            CheckpointError: the team cannot be used.
        """
        self._world = world
        names = {key: name for name, key in world.nodes.items()}
        self._names = names
        peers = {} if live is None else dict(zip(live.routers, live.peers, strict=False))
        self._place = {
            name: {peer: place for place, peer in enumerate(order)} for name, order in peers.items()
        }
        pay = world.round_seconds
        self._clock = iter(() if live is None else _clock(live, pay))
        self._fees = FeesSection()
        self._weights = RewardSection().weights()
        self._loop = LoopThread("actors of the twin")
        self._actors: dict[str, Actor] = {}
        self._updates = dict.fromkeys(stage.routers, 0)
        self._begun = False
        self._stage, self._number = stage, 0
        try:
            for place, name in enumerate(stage.routers):
                section = actor_section(condition, team, stage, place)
                made = make_actor(section, AttemptCost(), str(team))
                self._actors[name] = self._loop.run(made)
        except BaseException:
            self.close()
            raise

    def decide(self) -> Mapping[str, Books]:
        """See `Deciders.decide`."""
        if self._stage.rival is not None and self._number in (0, self._stage.changes_at):
            # On real nodes, too, everyone has heard of what the rival did before agents decide.
            self._world.twin.advance(DECIDING_SECONDS)
        self._number += 1
        keys = self._world.agents
        told = self._world.observe()
        views = {keys[name]: self._ordered(name, told[keys[name]]) for name in self._actors}
        before = self._world.twin.policies()
        decisions = {}
        for name, actor in self._actors.items():
            view = views[keys[name]]
            if self._begun:
                value = reward(reward_terms(view), self._weights)
                self._loop.run(actor.reward(value))
            decisions[view.node] = self._loop.run(actor.decide(view, self._fees))
        self._begun = True
        self._world.times = next(self._clock, quiet(self._world.round_seconds))
        self._world.apply(decisions)
        changed = (before != self._world.twin.policies()).any(axis=1)
        sources = self._world.network.edge_source()
        for name in self._actors:
            place = self._world.network.names.index(name)
            self._updates[name] += int(changed[sources == place].sum())
        return {name: self._books(name, views[keys[name]]) for name in self._actors}

    def _ordered(self, name: str, view: NodeView) -> NodeView:
        place = self._place.get(name)
        if place is None:
            return view
        channels = sorted(view.channels, key=lambda channel: place[self._names[channel.peer]])
        return replace(view, channels=tuple(channels))

    def _books(self, name: str, view: NodeView) -> Books:
        earned = sum(channel.flow.fees_earned_msat for channel in view.channels)
        peers = tuple(self._names[channel.peer] for channel in view.channels)
        return Books(earned, self._updates[name], peers)

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors.values():
            self._loop.run(actor.close())
        self._loop.close()


def quiet(round_seconds: float) -> TwinTimes:
    """How long a round takes on real nodes where little else runs."""
    return TwinTimes(hear=DECIDING_SECONDS, pay=round_seconds, answer=ANSWERING_SECONDS)


def _clock(live: LiveResult, round_seconds: float) -> Iterator[TwinTimes]:
    """How long each round took: what senders remember of failures fades with time alone."""
    told = live.deciding_seconds or (DECIDING_SECONDS,) * len(live.round_seconds)
    for whole, deciding in zip(live.round_seconds, told, strict=True):
        answer = max(ANSWERING_SECONDS, whole - deciding - round_seconds)
        yield TwinTimes(hear=deciding, pay=round_seconds, answer=answer)


def make_twin(stage: Stage, round_seconds: float) -> TwinWorld:
    """The twin of the stage's network, reset."""
    world = TwinWorld.of_topology(stage.topology, times=quiet(round_seconds))
    world.reset(stage.seed)
    return world
