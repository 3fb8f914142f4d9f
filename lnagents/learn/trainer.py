"""The trainer: collects experience with the actors as they are, then improves them by PPO."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lnagents.learn import ppo, team_checkpoint
from lnagents.learn.adam import Adam
from lnagents.learn.beginning import fit_to_rule
from lnagents.learn.checkpoint import broken_state_refused
from lnagents.learn.credit import row_gains
from lnagents.learn.drift import FITTED, Watch, foreseen, spaced
from lnagents.learn.experience import State
from lnagents.learn.improve import Experience, Improvement, improve
from lnagents.learn.normaliser import ReturnNormaliser
from lnagents.learn.opponent_learner import OpponentLearner
from lnagents.learn.policy import Policy
from lnagents.learn.population import Population
from lnagents.learn.rollout import Rollout, collect
from lnagents.learn.samples import Others, mapped, some
from lnagents.learn.seats import Cast, Together
from lnagents.learn.settings import AdvantageScale, OpponentMode, TrainSettings
from lnagents.learn.slowing import draw_back, keep_within, taken, turn
from lnagents.learn.task import Task, TaskShape
from lnagents.learn.team import TeamCritic
from lnagents.model.errors import ConfigError

Collector: TypeAlias = Callable[[Policy, int, int], Rollout]
"""From actors, a seed, and how many episodes, to what was lived."""

KEPT_BYTES = 30 << 20
"""Memory that the process keeps for itself at least, see `keep_memory`."""

BLOCK = 65_536
"""Rows of all agents that a critic judges at once outside training, padding included."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What one iteration did, for logs and diagnosis."""

    iteration: int
    """Iterations so far, this one included."""
    steps: int
    """Steps of environments so far, of all agents together as one."""
    iteration_steps: int
    """The part of them in this iteration."""
    reward: float
    """Mean over steps, environments and agents; of the learner's seats, as all that follows."""
    episode_return: float
    """Sum of an episode's rewards, mean over environments and agents."""
    others_return: float | None
    """The same of the seats that others played; None if there were none."""
    epochs: int
    """Passes over the experience that were begun."""
    divergence: float
    """KL(old || new) in nats per decision where the update ended; before its last step, if all of
    it stayed far from the limit."""
    entropy: float
    """Of the exploration, in nats per decision, at the last minibatch."""
    value_loss: float
    """Mean squared error of the critic in units of the returns' variance, in the first pass."""
    explained: float
    """Share of the returns' variance that the critic foresaw, 1 at best; before the update."""
    fitted: float
    """The same after the update."""
    drift: float
    """KL(old || new) in nats per decision, of others' policies, see `lnagents.learn.drift`."""
    value_shift: float | None
    """How much less the critic foresaw since it was fitted last, see there; None at first."""
    gradient_norm: float
    """Of the actor before clipping, at the last minibatch."""
    collect_seconds: float
    """Processor time, of all threads."""
    train_seconds: float
    """Likewise."""
    measures: Mapping[str, float]
    """What the task measured."""
    opponents: Mapping[str, float] = field(default_factory=dict)
    """How well others were foreseen before this was learned from, and by naive forecasts, see
    `OpponentLearner.score`; empty without a model of them."""


class _Moved(NamedTuple):
    """How much an iteration changed, see `TrainReport`."""

    explained: float
    fitted: float
    drift: float
    value_shift: float | None


class Trainer:
    """One algorithm on one task.

    The same task, settings and seed give the same outputs bit for bit (with the same number of
    torch threads), also across `save` and `load`.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        seed: int,
        cast: Cast | None = None,
        collector: Collector | None = None,
    ) -> None:
        """A fresh team.

        Args:
            task: what it is trained on.
            settings: how.
            seed: of all that is drawn.
            cast: who plays seats besides the team; it is no part of the checkpoint.
            collector: does what `collect` does with the task, say on other machines; no cast then.

        Raises:
            ValueError: the task does not offer what the algorithm looks at.
            ConfigError: nor what the settings' first rule does.
        """
        keep_memory()
        self.task = task
        self._collector = collector
        self.settings = settings
        self.seed = seed
        self.iteration = 0
        """How many have been made."""
        generator = torch.Generator().manual_seed(seed)
        self.policy = Policy(task.shape, settings, generator)
        actor = self.policy.actor.rows
        if settings.first_rule and actor is not None:
            fit_to_rule(actor, self.policy.sizes, settings.first_rule, generator)
        self._critic = TeamCritic(self.policy.sizes, task.shape, self.policy.algorithm, generator)
        parameters = [*self.policy.actor.parameters(), *self._critic.parameters()]
        if self.policy.memory is not None:
            parameters += self.policy.memory.parameters()
        self._opponents = None
        if self.policy.opponents is not None:
            self._opponents = OpponentLearner(self.policy.opponents, task.shape, settings)
            if settings.opponent_model is OpponentMode.GRADIENT:
                parameters += self.policy.opponents.embedding_parameters()
        self._optimiser = Adam(parameters, settings.learning_rate.start)
        self._normaliser = ReturnNormaliser()
        self._watch = Watch()
        past = settings.population
        self._population = None if past is None else Population(past, self.policy)
        casts = [one for one in (cast, self._population) if one is not None]
        self._cast = Together(casts) if casts else None
        if settings.stagger > task.shape.agents:
            problem = f"stagger: {settings.stagger} groups of {task.shape.agents} agents"
            raise ConfigError("train", problem)
        if collector is not None and casts:
            raise ConfigError("train", "population: experience with guests is not spread yet")

    @property
    def parameters(self) -> int:
        """How many numbers are learned, those of the critic included."""
        networks = (self.policy.actor, self._critic, self.policy.memory)
        given = [network for network in networks if network is not None]
        return sum(one.numel() for network in given for one in network.parameters())

    @property
    def finished(self) -> bool:
        """Whether all iterations have been made."""
        return self.iteration >= self.settings.iterations

    def iterate(self) -> TrainReport:
        """Collect, then learn."""
        began = time.process_time()
        seeds = np.random.SeedSequence((self.seed, self.iteration)).generate_state(2).tolist()
        if self._population is not None:
            self._population.offer(self.policy, self.iteration, seeds[0])
        episodes = self.settings.episodes
        if self._collector is None:
            rollout = collect(self.task, self.policy, seeds[0], episodes, self._cast)
        else:
            rollout = self._collector(self.policy, seeds[0], episodes)
        collected = time.process_time()
        scores = self._scores(rollout)
        how, moved = self._learn(rollout, torch.Generator().manual_seed(seeds[1]))
        self._learn_of_others(rollout)
        self.iteration += 1
        shape = self.task.shape
        steps = shape.steps * shape.batch * self.settings.episodes
        episode_return, others_return = rollout.returns()
        return TrainReport(
            iteration=self.iteration,
            steps=self.iteration * steps,
            iteration_steps=steps,
            reward=episode_return / shape.steps,
            episode_return=episode_return,
            others_return=others_return,
            collect_seconds=collected - began,
            train_seconds=time.process_time() - collected,
            measures=rollout.means(),
            epochs=how.epochs,
            divergence=how.divergence,
            entropy=how.entropy,
            value_loss=how.value_loss,
            explained=moved.explained,
            fitted=moved.fitted,
            drift=moved.drift,
            value_shift=moved.value_shift,
            gradient_norm=how.gradient_norm,
            opponents=scores,
        )

    def _learn(self, rollout: Rollout, generator: torch.Generator) -> tuple[Improvement, _Moved]:
        settings = self.settings
        progress = self.iteration / settings.iterations
        self._optimiser.learning_rate = settings.learning_rate.at(progress)
        values = self._values(rollout)
        steps = list(self.policy.algorithm.credit(rollout.rewards.double()))
        gains = torch.stack(
            ppo.advantages(
                steps, list(values[:-1]), values[-1], settings.discount, settings.trace_decay
            )
        )
        returns = gains + values[:-1]
        counted = rollout.counted
        real = returns if counted is None else returns[counted > 0.0]
        mean, mean_square = float(real.mean()), float(real.square().mean())
        self._normaliser.absorb(mean, mean_square, self._critic.last)
        targets = (returns - self._normaliser.mean) / self._normaliser.deviation
        places = (0, 1) if settings.advantages is AdvantageScale.AGENT else ()
        learns = None if counted is None else _flat(counted)
        now = turn(self.task.shape.agents, settings.stagger, self.iteration)
        acted = learns
        if now is not None:
            acted = now.expand(targets[..., 0].numel(), -1)
            acted = acted if learns is None else acted * learns
        experience = Experience(
            sight=mapped(_of_steps, rollout.sight),
            state=None if rollout.state is None else mapped(_of_steps, rollout.state),
            decisions=mapped(_flat, rollout.decisions),
            advantages=_flat(ppo.standardised(gains, places, counted).float()),
            targets=_flat(targets.float()),
            acted=acted,
            judged=learns,
            row_advantages=self._row_advantages(rollout, gains),
            steps=0 if rollout.memory is None else len(rollout.rewards),
            others=self._trained_by_actors(rollout),
        )
        actor = self.policy.actor
        remembered = None if rollout.memory is None else _of_steps(rollout.memory)
        known = experience.sight.with_memory(remembered)
        before, behaved = taken(actor), self._watch.begin(self.policy, known)
        how = improve(
            self.policy,
            self._critic,
            self._optimiser,
            experience,
            generator,
            settings.entropy.at(progress),
        )
        if now is not None and self.policy.sizes.copies:
            draw_back(actor, before, now)
        if settings.actor_pace < 1.0:
            draw_back(actor, before, settings.actor_pace)

        def moved() -> float:
            return self._watch.drift(self.policy, behaved)

        if settings.drift_budget is not None:
            keep_within(actor, before, moved, settings.drift_budget)
        explained = foreseen(returns, values[:-1], counted)
        fitted = self._fitted(experience)
        return how, _Moved(explained, fitted, moved(), self._watch.shift(explained, fitted))

    @torch.no_grad()
    def _fitted(self, experience: Experience) -> float:
        """Share of the returns' variance that the critic foresees, of what it was fitted to."""
        memory = self.policy.memory
        if memory is not None:
            state = memory.over(experience.sight, experience.steps)
            experience = replace(experience, sight=experience.sight.with_memory(state))
        count, part = len(experience.targets), experience
        if count > FITTED:
            part = experience.take(torch.arange(count)[spaced(count, FITTED)])
        return foreseen(part.targets, self._critic(part.sight, part.state), part.judged)

    def _row_advantages(self, rollout: Rollout, gains: Tensor) -> Tensor | None:
        """[samples, agents, rows], made comparable; None if rows share."""
        settings = self.settings
        if not settings.row_credit:
            return None
        shape = self.task.shape
        own = row_gains(rollout, settings.discount, final=shape.final)
        mixed = settings.row_credit * own + (1.0 - settings.row_credit) * gains.unsqueeze(-1)
        places = (0, 1, 3) if settings.advantages is AdvantageScale.AGENT else ()
        mask = rollout.sight.mask[:-1]
        if rollout.counted is not None:
            mask = mask * rollout.counted.unsqueeze(-1)
        return _flat(ppo.standardised(mixed, places, mask).float())

    def _trained_by_actors(self, rollout: Rollout) -> Others | None:
        gradient = self.settings.opponent_model is OpponentMode.GRADIENT
        return mapped(_of_steps, rollout.others) if gradient and rollout.others else None

    def _scores(self, rollout: Rollout) -> dict[str, float]:
        if self._opponents is None or rollout.others is None:
            return {}
        return self._opponents.score(rollout.sight, rollout.others)

    def _learn_of_others(self, rollout: Rollout) -> None:
        if self._opponents is not None and rollout.others is not None:
            # A stream of its own: without a model everything else is drawn as it is with one.
            seed = np.random.SeedSequence((self.seed, self.iteration, 1)).generate_state(1).item()
            generator = torch.Generator().manual_seed(seed)
            self._opponents.learn(rollout.sight, rollout.others, generator)

    def _values(self, rollout: Rollout) -> Tensor:
        """[steps + 1, episodes, agents], what the critic expects, in the rewards' unit."""
        rewards = self.policy.algorithm.credit(rollout.rewards.double())
        final, discount = self.task.shape.final, self.settings.discount
        if self.iteration == 0:
            # The critic has seen nothing yet. With zeros the first steps would look better than
            # the last ones, whose rewards to come are cut off; a constant judges all alike.
            mean = rewards.mean((0, 1))
            counted = rollout.counted
            if counted is not None:
                mean = (rewards * counted).sum((0, 1)) / counted.sum((0, 1)).clamp(min=1.0)
            mean = mean / max(1.0 - discount, 1.0 / len(rewards))
            values = mean.expand(len(rewards) + 1, *rewards.shape[1:]).clone()
        else:
            values = self._judged(rollout) * self._normaliser.deviation + self._normaliser.mean
        if final:
            values[-1] = 0.0
        return values

    @torch.no_grad()
    def _judged(self, rollout: Rollout) -> Tensor:
        """The same in normalised units, `BLOCK` by `BLOCK`."""
        remembered = None if rollout.memory is None else _flat(rollout.memory)
        sight = mapped(_flat, rollout.sight).with_memory(remembered)
        state = None if rollout.state is None else mapped(_flat, rollout.state)
        count = len(sight.whole)
        block = max(1, BLOCK // max(1, sight.mask[0].numel()))
        values = []
        for begin in range(0, count, block):
            part = slice(begin, begin + block)
            given = None if state is None else some(state, part)
            values.append(self._critic(some(sight, part), given))
        return torch.cat(values).reshape(rollout.sight.whole.shape[:3]).double()

    def save(self) -> bytes:
        """A checkpoint from which `load` continues bit for bit."""
        state: State = {
            "iteration": self.iteration,
            "actor": self.policy.actor.state_dict(),
            "critic": self._critic.state_dict(),
            "optimiser": self._optimiser.state(),
            "normaliser": asdict(self._normaliser),
            "watch": self._watch.state(),
            "population": None if self._population is None else self._population.state(),
        }
        if self._opponents is not None:
            state["opponents"] = self._opponents.state()
        if self.policy.memory is not None:
            state["memory"] = self.policy.memory.state_dict()
        return team_checkpoint.pack(self.task.shape, self.settings, self.seed, state)

    def load(self, data: bytes) -> None:
        """Continue where `save` was called; on an error do not use the trainer any more.

        Raises:
            CheckpointError: not a checkpoint, or of other code, another task or other settings.
        """
        saved = team_checkpoint.unpack(data)
        team_checkpoint.refuse_other(saved, self.task.shape, self.settings)
        with broken_state_refused():
            state = saved.state
            self.policy.actor.load_state_dict(state["actor"])
            self._critic.load_state_dict(state["critic"])
            self._optimiser.restore(state["optimiser"])
            self._normaliser = ReturnNormaliser(**state["normaliser"])
            self._watch.restore(state["watch"])
            if self._population is not None:
                self._population.restore(state["population"])
            if self._opponents is not None:
                self._opponents.restore(state["opponents"])
            if self.policy.memory is not None:
                self.policy.memory.load_state_dict(state["memory"])
            self.iteration = int(state["iteration"])
            self.seed = saved.seed


def keep_memory() -> None:
    """Let the C library reuse large pieces of memory instead of returning them to the system.

    Each pass needs the same few megabytes again, and to clear new pages takes a tenth of its time.
    glibc keeps pieces as large as one that was freed before, up to 32 MB (M_MMAP_THRESHOLD in
    mallopt(3)); elsewhere this changes nothing.
    """
    torch.empty(KEPT_BYTES, dtype=torch.uint8)


def load_policy(data: bytes, shape: TaskShape) -> Policy:
    """The actors of a checkpoint, to act in a task of this shape.

    Raises:
        CheckpointError: not a checkpoint, or the task has other things to see or to do.
    """
    saved = team_checkpoint.unpack(data)
    team_checkpoint.refuse_other_observations(saved, shape)
    policy = Policy(shape, saved.settings, torch.Generator())
    with broken_state_refused():
        policy.actor.load_state_dict(saved.state["actor"])
        if policy.opponents is not None:
            policy.opponents.load_state_dict(saved.state["opponents"]["model"])
        if policy.memory is not None:
            policy.memory.load_state_dict(saved.state["memory"])
    return policy


def _flat(one: Tensor) -> Tensor:
    return one.flatten(0, 1)


def _of_steps(one: Tensor) -> Tensor:
    """Without what was seen at the end, when nothing was decided any more."""
    return one[:-1].flatten(0, 1)
