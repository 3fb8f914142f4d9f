"""Who decides: rules without learning, or a learner in a thread of its own.

The learner's calls must not overlap and an update takes a while, so all of them go through one
thread. A payment does not wait for an update: while one runs, the cheapest expected route is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from lnagents.agent.candidates import Candidate
from lnagents.agent.choosing import Choice
from lnagents.agent.config import ActorSection, FeesSection
from lnagents.agent.trained import TeamSight, read_team
from lnagents.env import (
    ACTION_NAMES,
    CHANNEL_FEATURE_NAMES,
    NODE_FEATURE_NAMES,
    ROUTE_FEATURE_NAMES,
    ROUTE_PRIOR,
    AttemptCost,
    Observation,
    decode,
    encode,
    encode_routes,
)
from lnagents.env.features import NATS_PER_COUNT, NATS_PER_RATE
from lnagents.env.fees import NATS_PER_LEVEL
from lnagents.env.heuristics import Heuristic, make_heuristic
from lnagents.model.errors import ConfigError
from lnagents.model.units import format_msat
from lnagents.model.view import NodeDecision, NodeView

if TYPE_CHECKING:
    from lnagents.learn import OnlineLearner, PriceColumns, UpdateReport

Result = TypeVar("Result")

REWARD_UNIT_MSAT = 1_000.0
"""Rewards reach the learner in satoshi, near the size that its critic starts from."""

_log = structlog.get_logger("lnagents.agent.actor")


@dataclass(frozen=True, slots=True)
class LearnerStats:
    """How far learning has come."""

    fee_updates: int = 0
    route_updates: int = 0
    mean_reward: float = 0.0
    """Of the last update of the fee actor, in satoshi a round."""
    entropy: float = 0.0
    value_loss: float = 0.0


class Actor(Protocol):
    """Decides fees and routes of one node."""

    stats: LearnerStats

    async def decide(self, view: NodeView, fees: FeesSection) -> NodeDecision:
        """What to do in the round that begins with `view`."""

    async def reward(self, value_msat: float) -> None:
        """What the decision before has brought."""

    async def choose(self, candidates: list[Candidate]) -> Choice:
        """Which route to try; there is at least one."""

    def outcome(self, token: int, cost: float) -> None:
        """What everything from a choice on has cost, in attempt costs."""

    async def save(self) -> bytes | None:
        """A checkpoint; None if there is nothing to save."""

    async def load(self, data: bytes) -> None:
        """Continue from a checkpoint."""

    async def close(self) -> None:
        """End what runs in the background."""


def _reason(candidates: list[Candidate], index: int, why: str) -> str:
    chosen = candidates[index].candidate
    return (
        f"{why} of {len(candidates)}: fee {format_msat(chosen.route.fee_msat)}"
        f", chance {chosen.probability:.0%}{', hinted' if chosen.hinted else ''}"
    )


class FixedActor:
    """Keeps fees as they are and takes the route of least expected cost."""

    def __init__(self) -> None:
        self.stats = LearnerStats()

    async def decide(self, view: NodeView, fees: FeesSection) -> NodeDecision:
        """Change nothing; the limits bring fees within their bounds."""
        return NodeDecision()

    async def reward(self, value_msat: float) -> None:
        """Learn nothing."""

    async def choose(self, candidates: list[Candidate]) -> Choice:
        """Take the first: candidates come ordered by expected cost."""
        return Choice(0, _reason(candidates, 0, "least expected cost"))

    def outcome(self, token: int, cost: float) -> None:
        """Learn nothing."""

    async def save(self) -> bytes | None:
        """Nothing to save."""
        return None

    async def load(self, data: bytes) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to end."""


class RuleActor(FixedActor):
    """Sets fees by rules, and takes the route of least expected cost."""

    def __init__(self, heuristic: Heuristic) -> None:
        super().__init__()
        self._heuristic = heuristic

    async def decide(self, view: NodeView, fees: FeesSection) -> NodeDecision:
        """What the rules say; the limits bring fees within their bounds."""
        return self._heuristic.act(view)


class LearningActor:
    """An `OnlineLearner` in one thread, which may go on from a trained team's actor."""

    def __init__(self, section: ActorSection, attempt_cost: AttemptCost, source: str) -> None:
        """`source` names the configuration in error messages."""
        self._source = source
        self.stats = LearnerStats()
        self._section = section
        self._learn = section.learn
        self._attempt_cost = attempt_cost
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="learner")
        self._updating = False
        self._learner: OnlineLearner | None = None
        self._observe: Callable[[NodeView], Observation] = encode
        self._outcomes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Import torch and make the networks.

        Raises:
            ConfigError: torch is not installed.
            CheckpointError: the team's checkpoint cannot be used.
        """
        await self._call(self._make)

    async def decide(self, view: NodeView, fees: FeesSection) -> NodeDecision:
        """Act on what is seen."""
        if not view.channels:
            return NodeDecision()
        learner = self._ready()
        observation = self._observe(view)
        action = await self._call(lambda: learner.act(observation, explore=self._learn))
        return decode(view, action.values, fees.bounds())

    async def reward(self, value_msat: float) -> None:
        """Learn from what the last decision brought; takes long when an update is due."""
        if self._learn:
            learner = self._ready()
            value = value_msat / REWARD_UNIT_MSAT
            self._note(await self._update(lambda: learner.reward(value)))

    async def choose(self, candidates: list[Candidate]) -> Choice:
        """Choose by what was learned; while the learner learns, by expected cost."""
        if self._updating or len(candidates) == 1:
            why = "only one" if len(candidates) == 1 else "least expected cost (learner is busy)"
            return Choice(0, _reason(candidates, 0, why))
        learner = self._ready()
        features = encode_routes([one.candidate for one in candidates], self._attempt_cost)
        choice = await self._call(lambda: learner.choose_route(features, explore=self._learn))
        return Choice(choice.index, _reason(candidates, choice.index, "learner"), choice.token)

    def outcome(self, token: int, cost: float) -> None:
        """Learn in the background from what became of a choice."""
        if not self._learn:
            return
        learner = self._ready()
        task = asyncio.get_running_loop().create_task(
            self._learn_outcome(lambda: learner.route_outcome(token, -cost))
        )
        self._outcomes.add(task)
        task.add_done_callback(self._outcomes.discard)

    async def save(self) -> bytes | None:
        """The learner's checkpoint."""
        return await self._call(self._ready().save)

    async def load(self, data: bytes) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: it does not fit.
        """
        learner = self._ready()
        await self._call(lambda: learner.load(data))

    async def close(self) -> None:
        """Finish what is queued and end the thread."""
        if self._outcomes:
            await asyncio.gather(*self._outcomes)
        await asyncio.to_thread(self._thread.shutdown)

    def _make(self) -> None:
        try:
            import torch

            from lnagents.learn import LearnConfig, OnlineLearner
        except ImportError as exc:
            needs = f'actor.kind: "{self._section.kind}" needs torch'
            problem = f'{needs}; pip install "lnagents[learn]", or take "fixed"'
            raise ConfigError(self._source, problem) from exc
        # The node next to it needs the other cores more.
        torch.set_num_threads(1)
        config = LearnConfig(
            channel_features=CHANNEL_FEATURE_NAMES,
            node_features=NODE_FEATURE_NAMES,
            actions=ACTION_NAMES,
            route_features=ROUTE_FEATURE_NAMES,
            route_prior=ROUTE_PRIOR,
        )
        section = self._section
        if section.kind != "trained" or section.checkpoint is None:
            self._learner = OnlineLearner(config, section.seed)
            return
        team = read_team(section.checkpoint)
        self._observe = TeamSight(team, section.agent).observe
        config = replace(
            config,
            channel_features=team.sizes.channel_features,
            node_features=team.sizes.node_features,
            hidden=team.sizes.hidden,
            # With real money a trained actor explores no wider than a fresh one begins.
            max_deviation=config.initial_deviation,
        )
        learner = OnlineLearner(config, section.seed)
        learner.adopt(
            team,
            section.agent,
            None if section.method == "ppo" else demand_columns(),
            untaught=section.method == "untaught",
        )
        self._learner = learner

    def _ready(self) -> OnlineLearner:
        if self._learner is None:
            raise RuntimeError("the actor was not started")
        return self._learner

    async def _call(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _update(self, work: Callable[[], UpdateReport | None]) -> UpdateReport | None:
        self._updating = True
        try:
            return await self._call(work)
        finally:
            self._updating = False

    async def _learn_outcome(self, work: Callable[[], UpdateReport | None]) -> None:
        self._note(await self._update(work))

    def _note(self, report: UpdateReport | None) -> None:
        if report is None:
            return
        _log.info(
            "learned",
            part=report.part,
            number=report.number,
            mean_reward=round(report.mean_reward, 3),
            entropy=round(report.entropy, 3),
            value_loss=round(report.value_loss, 4),
        )
        old = self.stats
        if report.part == "routes":
            self.stats = LearnerStats(
                old.fee_updates, report.number, old.mean_reward, old.entropy, old.value_loss
            )
        else:
            self.stats = LearnerStats(
                report.number,
                old.route_updates,
                report.mean_reward,
                report.entropy,
                report.value_loss,
            )


def demand_columns() -> PriceColumns:
    """Where an observation says what a channel costs, and how often it was used."""
    from lnagents.learn import PriceColumns

    return PriceColumns(
        price="fee_rate",
        found="found_fee_rate",
        stock="local_share",
        open="active",
        sold="forwards",
        action="fee_rate",
        nats_per_price=NATS_PER_RATE,
        nats_per_sold=NATS_PER_COUNT,
        nats_per_action=NATS_PER_LEVEL,
    )


async def make_actor(section: ActorSection, attempt_cost: AttemptCost, source: str) -> Actor:
    """The actor that the configuration `source` asks for.

    Raises:
        ConfigError: it needs torch, which is not installed.
        CheckpointError: the checkpoint of a team cannot be used.
    """
    if section.kind == "fixed":
        return FixedActor()
    if section.heuristic is not None:
        return RuleActor(make_heuristic(section.heuristic, section.seed))
    actor = LearningActor(section, attempt_cost, source)
    await actor.start()
    return actor
