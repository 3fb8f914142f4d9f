"""What a team does: from what its agents see to what they want, drawn or most likely."""

from __future__ import annotations

import functools
import math
from copy import copy, deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lnagents.learn import ppo
from lnagents.learn.acting import Acting
from lnagents.learn.algorithms import algorithm_for
from lnagents.learn.experience import State
from lnagents.learn.memory import Memory
from lnagents.learn.networks import weights_of
from lnagents.learn.opponent import OpponentModel
from lnagents.learn.samples import Decision, Noise, Others, Sight
from lnagents.learn.settings import OpponentMode, Recurrence, TrainSettings
from lnagents.learn.task import Actions, Seen, TaskShape
from lnagents.learn.team import ChoiceActor, TeamActor, TeamSizes


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """How likely an actor finds a decision, and how undecided it is."""

    sample_log_prob: Tensor
    """[rows of all agents of all samples], as `Sight.sets` has them; empty without actions."""
    choice_log_prob: Tensor
    """As in `Decision`."""
    entropy: Tensor
    """Of exploration, in nats: mean over rows and agents, rows and choice together."""


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """What actors may do, and how likely."""

    mean: Tensor
    """[samples, agents, rows, actions], before the bound; empty without actions."""
    deviation: Tensor
    """The same or to be broadcast to it."""
    odds: Tensor
    """[samples, agents, choices], log probabilities, minus infinity for what is ruled out."""


class Policy:
    """The actors of a team; for one agent as for many, in training as in use."""

    def __init__(
        self, shape: TaskShape, settings: TrainSettings, generator: torch.Generator
    ) -> None:
        """Fresh actors.

        Raises:
            ValueError: the task does not offer what the algorithm looks at.
        """
        self.shape = shape
        self.settings = settings
        self.algorithm = algorithm_for(settings.algorithm, shape)
        self.sizes = TeamSizes.of(shape, settings, self.algorithm)
        self.actor = TeamActor(self.sizes, generator)
        if self.actor.rows is not None and settings.initial_level:
            nn.init.constant_(self.actor.rows.last.bias, math.atanh(settings.initial_level))
        self.opponents = (
            None
            if settings.opponent_model is OpponentMode.NONE
            else OpponentModel(shape, settings, _apart(generator, 0))
        )
        """Foresees what others do, for the actors."""
        recurrent = settings.recurrence is not Recurrence.NONE
        self.memory = Memory(self.sizes, _apart(generator, 1)) if recurrent else None
        """What agents remember, as part of what they see."""

    def weights(self) -> State:
        """Of all that it decides with, by network."""
        networks = {"actor": self.actor, "opponents": self.opponents, "memory": self.memory}
        return {name: one.state_dict() for name, one in networks.items() if one is not None}

    def copied(self, weights: State) -> Policy:
        """Another policy of the same kind with these `weights`."""
        other = copy(self)
        other.actor = deepcopy(self.actor)
        other.actor.load_state_dict(weights["actor"])
        if self.opponents is not None:
            other.opponents = deepcopy(self.opponents)
            other.opponents.load_state_dict(weights["opponents"])
        if self.memory is not None:
            other.memory = deepcopy(self.memory)
            other.memory.load_state_dict(weights["memory"])
        return other

    def act(self, seen: Seen, generator: torch.Generator | None = None) -> Actions:
        """What the agents want: drawn from `generator`, or the most likely without one.

        Raises:
            ValueError: the agents have a memory; `lnagents.learn.player` keeps it for them.
        """
        if self.memory is not None:
            raise ValueError("agents with a memory cannot act on a single moment")
        sight = Sight.of(seen, self.algorithm)
        if self.opponents is not None:
            sight = self.opponents.extended(sight, Others.of(seen))
        noise = None
        if generator is not None:
            shape = replace(self.shape, rows=sight.mask.shape[-1])
            noise = Noise.drawn(shape, len(sight.mask), generator)
        return self.decide(sight, noise).actions()

    def acting(self) -> Acting | None:
        """How decisions for rows are made, for many moments; None: agents by agents, or none are.

        It follows the actors where they are changed in place.
        """
        rows = self.actor.rows
        return None if rows is None or self.sizes.copies else Acting(rows)

    def decide(
        self, sight: Sight, noise: Noise | None = None, acting: Acting | None = None
    ) -> Decision:
        """Decide for all agents of all samples.

        Args:
            sight: what they see.
            noise: what is drawn with; None: the most likely is decided.
            acting: what `acting` gave, if it is at hand.
        """
        acting = acting or self.acting()
        if acting is None:
            rows = self._rows_decided(sight, noise)
        else:
            moved = None if noise is None else noise.rows
            rows = acting.decide(sight.rows, sight.whole, sight.mask, moved)
        if self.actor.choice is None:
            return Decision(*rows, *_nothing_chosen(sight.mask.shape[:2]))
        return Decision(*rows, *self._chosen(self.actor.choice, sight, noise))

    @torch.no_grad()
    def _rows_decided(self, sight: Sight, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Of agents each with weights of its own, or of none."""
        if self.actor.rows is None:
            return sight.rows.new_zeros((*sight.mask.shape, 0)), torch.zeros_like(sight.mask)
        seen = sight.agents_first()
        mean, deviation = self.actor.rows(seen.rows, seen.whole, seen.mask)
        moved = torch.zeros_like(mean) if noise is None else noise.rows.transpose(0, 1)
        sample = torch.addcmul(mean, deviation, moved).transpose(0, 1)
        log_prob = ppo.standard_log_prob(moved, deviation).transpose(0, 1)
        return sample * sight.mask.unsqueeze(-1), log_prob * sight.mask

    @torch.no_grad()
    def _chosen(
        self, actor: ChoiceActor, sight: Sight, noise: Noise | None
    ) -> tuple[Tensor, Tensor]:
        seen = sight.agents_first() if self.sizes.copies else sight
        odds = actor(seen.rows, seen.whole, seen.mask, seen.allowed)
        if self.sizes.copies:
            odds = odds.transpose(0, 1)
        choice = (odds if noise is None else odds + noise.choice).argmax(-1)
        return choice, odds.gather(-1, choice.unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def behaviour(self, sight: Sight) -> Behaviour:
        """What all agents of all samples may do."""
        copies = bool(self.sizes.copies)
        seen = sight.agents_first() if copies else sight
        mean = deviation = sight.rows.new_zeros((*sight.mask.shape, 0))
        odds = sight.rows.new_zeros((*sight.mask.shape[:2], 0))
        if self.actor.rows is not None:
            mean, deviation = self.actor.rows(seen.rows, seen.whole, seen.mask)
            if copies:
                mean, deviation = mean.transpose(0, 1), deviation.transpose(0, 1)
        if self.actor.choice is not None:
            odds = self.actor.choice(seen.rows, seen.whole, seen.mask, seen.allowed)
            if copies:
                odds = odds.transpose(0, 1)
        return Behaviour(mean, deviation.detach().clone(), odds)

    def channel_actor(self, agent: int = 0) -> State:
        """The weights of one agent's `ChannelActor`, as a daemon runs it.

        Raises:
            ValueError: the team takes no actions for rows.
            CheckpointError: every agent has weights of its own, and there is no such agent.
        """
        if self.actor.rows is None:
            raise ValueError("the team takes no actions for rows")
        state: State = self.actor.rows.state_dict()
        if self.sizes.copies:
            state = weights_of(agent, state, self.sizes.copies)
            state["log_deviation"] = state["log_deviation"].flatten()
        return {name: value.clone() for name, value in state.items()}

    def judge(self, sight: Sight, decision: Decision, weights: Tensor | None = None) -> Judgement:
        """How likely the actors, as they are now, find a decision of theirs; with gradients.

        Args:
            sight: what they saw.
            decision: what they decided then.
            weights: [samples, agents], 0 for those whose entropy does not count; None: all do.
        """
        copies = bool(self.sizes.copies)
        seen = sight.agents_first() if copies else sight
        sample_log_prob, choice_log_prob = torch.zeros(0), decision.choice_log_prob
        entropy = torch.zeros(())
        if self.actor.rows is not None:
            sets = sight.sets
            if copies:
                mean, deviation = self.actor.rows(seen.rows, seen.whole, seen.mask)
                mean, deviation = mean.transpose(0, 1), deviation.transpose(0, 1)
                log_prob = ppo.normal_log_prob(decision.sample, mean, deviation)
                sample_log_prob = sets.pick(log_prob.unsqueeze(-1)).squeeze(-1)
            else:
                mean, deviation = self.actor.rows.of_sets(sets, sight.whole.flatten(0, 1))
                sample = sets.pick(decision.sample)
                sample_log_prob = ppo.normal_log_prob(sample, mean, deviation)
            of_rows = ppo.normal_entropy(deviation)
            if weights is None or not copies:
                entropy = entropy + of_rows.mean()
            else:
                entropy = entropy + ppo.masked_mean(of_rows.squeeze(-1).expand_as(weights), weights)
        if self.actor.choice is not None:
            odds = self.actor.choice(seen.rows, seen.whole, seen.mask, seen.allowed)
            if copies:
                odds = odds.transpose(0, 1)
            choice_log_prob = odds.gather(-1, decision.choice.unsqueeze(-1)).squeeze(-1)
            # What cannot be chosen has no chance: 0 times minus infinity would be no number.
            finite = odds.masked_fill(sight.allowed == 0.0, 0.0)
            entropy = entropy - ppo.masked_mean((odds.exp() * finite).sum(-1), weights)
        return Judgement(sample_log_prob, choice_log_prob, entropy)


def _apart(generator: torch.Generator, place: int) -> torch.Generator:
    """A stream of its own: without what draws from it all else is drawn as it is with it."""
    seed = np.random.SeedSequence((generator.initial_seed(), place)).generate_state(1).item()
    return torch.Generator().manual_seed(seed)


@functools.lru_cache(maxsize=16)
def _nothing_chosen(agents: torch.Size) -> tuple[Tensor, Tensor]:
    """Where there are no choices: the same zeros every time, for nobody changes them."""
    return torch.zeros(agents, dtype=torch.int64), torch.zeros(agents)
