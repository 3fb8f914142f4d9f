"""One improvement of actors and critic by PPO, from experience with them as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from lnagents.learn import ppo
from lnagents.learn.adam import Adam
from lnagents.learn.leash import Leash
from lnagents.learn.networks import ChannelActor, ChannelCritic
from lnagents.learn.policy import Policy
from lnagents.learn.row_sets import RowSets
from lnagents.learn.samples import Decision, JointState, Others, Sight, some
from lnagents.learn.sweep import Lived, Sweep, block_rows
from lnagents.learn.team import TeamCritic


@dataclass(frozen=True, slots=True, eq=False)
class RowExperience:
    """What does not change from pass to pass, for all rows of `Sight.sets`."""

    log_prob: Tensor
    """Of what was decided."""
    advantages: Tensor
    acted: Tensor | None


@dataclass(frozen=True, eq=False)
class Experience:
    """Decisions and what they were worth; tensors that begin with [samples, agents]."""

    sight: Sight
    state: JointState | None
    decisions: Decision
    advantages: Tensor
    """[samples, agents], made comparable."""
    targets: Tensor
    """[samples, agents], what the critic should have said, in its units."""
    acted: Tensor | None = None
    """[samples, agents], 1 for decisions that the actor learns from; None: all."""
    judged: Tensor | None = None
    """[samples, agents], 1 for values that the critic learns from; None: all."""
    row_advantages: Tensor | None = None
    """[samples, agents, rows], made comparable; None: all rows of an agent share its advantage."""
    steps: int = 0
    """Of each episode, if agents remember: samples are then those of whole episodes, step by step,
    in each step the same episodes. 0: every sample stands for itself."""
    others: Others | None = None
    """If a model of the others learns from the losses of actors and critic, too."""

    @functools.cached_property
    def of_rows(self) -> RowExperience:
        """In the order of `Sight.sets`."""
        return self._laid_out(self.sight.sets)

    def _laid_out(self, sets: RowSets) -> RowExperience:
        def rows(one: Tensor) -> Tensor:
            return sets.pick(one.expand_as(self.sight.mask).unsqueeze(-1)).squeeze(-1)

        shared = self.advantages.unsqueeze(-1)
        return RowExperience(
            log_prob=rows(self.decisions.sample_log_prob),
            advantages=rows(shared if self.row_advantages is None else self.row_advantages),
            acted=None if self.acted is None else rows(self.acted.unsqueeze(-1)),
        )

    def swept(self, actor: ChannelActor, critic: ChannelCritic) -> Sweep:
        """What sweeps over this experience, with these networks; made once."""
        known: Sweep | None = vars(self).get("_sweep")
        if known is None:
            sight = self.sight
            sets = RowSets.of(sight.rows, sight.mask, block_rows(critic.last.weight.shape[-1]))
            rows, order = self._laid_out(sets), sets.layout.order
            lived = Lived(
                values=sets.values,
                whole=sight.whole.flatten(0, 1)[order],
                sample=sets.pick(self.decisions.sample),
                log_prob=rows.log_prob,
                advantages=rows.advantages,
                acted=rows.acted,
                targets=self.targets.flatten()[order],
                judged=None if self.judged is None else self.judged.flatten()[order],
            )
            known = vars(self)["_sweep"] = Sweep(actor, critic, lived, sets.layout)
        return known

    def take(self, index: Tensor) -> Experience:
        """Some of the samples."""
        return Experience(
            some(self.sight, index),
            None if self.state is None else some(self.state, index),
            some(self.decisions, index),
            self.advantages[index],
            self.targets[index],
            None if self.acted is None else self.acted[index],
            None if self.judged is None else self.judged[index],
            None if self.row_advantages is None else self.row_advantages[index],
            self.steps,
            None if self.others is None else some(self.others, index),
        )

    def parts(self, count: int, generator: torch.Generator) -> Iterator[Experience]:
        """All of it in `count` random parts."""
        if count == 1:
            yield self
            return
        steps = max(1, self.steps)
        episodes = len(self.targets) // steps
        for chosen in torch.randperm(episodes, generator=generator).chunk(count):
            index = torch.arange(steps).unsqueeze(1) * episodes + chosen
            yield self.take(index.flatten())


@dataclass(slots=True)
class Improvement:
    """How it went, see `TrainReport`."""

    epochs: int = 0
    divergence: float = 0.0
    entropy: float = 0.0
    value_loss: float = 0.0
    gradient_norm: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """One look at a part of the experience with the networks as they are now."""

    divergence: float
    entropy: float
    value_loss: float
    derive: Callable[[], None]
    """Gives the parameters the gradients of the loss."""


def improve(
    policy: Policy,
    critic: TeamCritic,
    optimiser: Adam,
    experience: Experience,
    generator: torch.Generator,
    entropy_weight: float,
) -> Improvement:
    """Passes over `experience`, with the actor on a leash of `TrainSettings.target_divergence`.

    A row is a decision of its own, so that the trusted region of PPO does not shrink with the
    number of rows.

    Args:
        policy: its actor is improved; its settings say how.
        critic: is improved, too.
        optimiser: of the parameters of both.
        experience: what to learn from.
        generator: of the minibatches.
        entropy_weight: of the exploration's entropy in the objective, now.
    """
    settings = policy.settings
    common = _common(policy, experience)
    leash = Leash([*policy.actor.parameters(), *common], settings.target_divergence)
    way = sweep if can_be_swept(policy, critic, experience) else differentiate
    how = Improvement()
    losses: list[float] = []

    def look_at(part: Experience) -> _Pass:
        look = leash.within(lambda: way(policy, critic, part, entropy_weight))
        how.divergence, how.entropy = look.divergence, look.entropy
        return look

    def move() -> float:
        return ppo.move(optimiser, policy.actor, critic, settings.max_gradient_norm, common)

    part = experience
    for epoch in range(settings.epochs):
        for part in experience.parts(settings.minibatches, generator):
            optimiser.clear()
            look = look_at(part)
            if leash.taut:
                return how
            how.epochs = epoch + 1
            if epoch == 0:
                losses.append(look.value_loss)
                how.value_loss = sum(losses) / len(losses)
            look.derive()
            how.gradient_norm = leash.step(look, move)
    if not leash.surely_slack:
        look_at(part)
    return how


def _common(policy: Policy, experience: Experience) -> list[Parameter]:
    """What actor and critic have in common."""
    common = list[Parameter]()
    if experience.others is not None and policy.opponents is not None:
        common += policy.opponents.embedding_parameters()
    if policy.memory is not None:
        common += policy.memory.parameters()
    return common


def differentiate(
    policy: Policy, critic: TeamCritic, part: Experience, entropy_weight: float
) -> _Pass:
    """With torch's gradients: whatever there is to be learned."""
    settings, objective_of = policy.settings, policy.algorithm.objective
    sight = part.sight
    if part.others is not None and policy.opponents is not None:
        sight = policy.opponents.refreshed(sight, part.others)
    if policy.memory is not None:
        sight = sight.with_memory(policy.memory.over(sight, part.steps))
    judged = policy.judge(sight, part.decisions, part.acted)
    objective = divergence = torch.zeros(())
    if policy.sizes.actions:
        rows = part.of_rows
        ratio = judged.sample_log_prob - rows.log_prob
        if rows.acted is not None:
            ratio = ratio * rows.acted
        worth = objective_of(ratio, rows.advantages, settings.clip)
        objective = objective + ppo.masked_mean(worth, rows.acted)
        away = ppo.divergence(ratio.detach())
        divergence = divergence + ppo.masked_mean(away, rows.acted)
    if policy.sizes.choices:
        ratio = judged.choice_log_prob - part.decisions.choice_log_prob
        worth = objective_of(ratio, part.advantages, settings.clip)
        objective = objective + ppo.masked_mean(worth, part.acted)
        away = ppo.divergence(ratio.detach())
        divergence = divergence + ppo.masked_mean(away, part.acted)
    missed = (critic(sight, part.state) - part.targets).square()
    value_loss = ppo.masked_mean(missed, part.judged)
    loss = settings.value_weight * value_loss - objective - entropy_weight * judged.entropy
    return _Pass(
        float(divergence),
        float(judged.entropy.detach()),
        float(value_loss.detach()),
        lambda: torch.autograd.backward(loss),
    )


def can_be_swept(policy: Policy, critic: TeamCritic, experience: Experience) -> bool:
    """Whether `sweep` knows all that there is to be learned."""
    return (
        policy.actor.rows is not None
        and policy.actor.choice is None
        and not policy.sizes.copies
        and policy.memory is None
        and experience.others is None
        and policy.algorithm.objective is ppo.clipped_objective
        and isinstance(critic.judge, ChannelCritic)
        and bool(experience.sight.mask.any(-1).all())
    )


def sweep(policy: Policy, critic: TeamCritic, part: Experience, entropy_weight: float) -> _Pass:
    """The same with gradients that are written out, in half of the time: what is usual."""
    actor, judge, settings = policy.actor.rows, critic.judge, policy.settings
    if actor is None or not isinstance(judge, ChannelCritic):
        raise TypeError("actor and critic are not of the kind that is swept")
    swept = part.swept(actor, judge)
    came = swept(settings.clip, settings.value_weight, entropy_weight)
    entropy = float(ppo.normal_entropy(actor.deviation().detach()))
    return _Pass(came.divergence, entropy, came.value_loss, swept.give)
