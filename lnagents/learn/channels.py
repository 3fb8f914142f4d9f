"""The learner of fees: PPO over rounds, each with one decision per channel."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from lnagents.learn import ppo
from lnagents.learn.acting import Acting
from lnagents.learn.adam import Adam
from lnagents.learn.config import LearnConfig
from lnagents.learn.experience import (
    Action,
    ChannelArrays,
    State,
    Step,
    UpdateReport,
    checked,
    mask_of,
    padded,
)
from lnagents.learn.networks import ChannelActor, ChannelCritic
from lnagents.learn.normaliser import ReturnNormaliser


class ChannelLearner:
    """Acts once a round and learns from the reward that the round brought.

    A channel is a decision of its own and all channels share the round's advantage, so that the
    trusted region of PPO does not shrink with the number of channels.
    """

    def __init__(self, config: LearnConfig, seed: int) -> None:
        self._config = config
        self._generator = torch.Generator().manual_seed(seed)
        self._actor = ChannelActor(config, self._generator)
        self._critic = ChannelCritic(config, self._generator)
        parameters = [*self._actor.parameters(), *self._critic.parameters()]
        self._optimiser = Adam(parameters, config.learning_rate)
        self._normaliser = ReturnNormaliser()
        self._steps: list[Step] = []
        self._open: Step | None = None
        self._updates = 0

    def act(self, observation: ChannelArrays, *, explore: bool) -> Action:
        """Choose for all channels; exploring opens a step that `reward` closes.

        A step still open is dropped: its round was interrupted.

        Raises:
            ValueError: the arrays do not fit the configuration or are not finite.
        """
        config = self._config
        rows = checked(observation.channels, (None, len(config.channel_features)), "channels")
        whole = checked(observation.node, (len(config.node_features),), "node")
        mask = rows.new_ones(1, len(rows))
        noise = None
        if explore:
            noise = torch.randn(len(rows), len(config.actions), generator=self._generator)
        sample, log_prob = Acting(self._actor).decide(rows, whole, mask[0], noise)
        with torch.no_grad():
            value = float(self._critic(rows.unsqueeze(0), whole.unsqueeze(0), mask))
            value = self._normaliser.restore(value)
            bounded = sample.tanh()
            total = float((log_prob - _log_slope_of_tanh(sample).sum(-1)).sum())
        self._open = Step(rows, whole, sample, log_prob, value) if explore else None
        return Action(bounded.numpy(), total, value)

    def reward(self, value: float) -> UpdateReport | None:
        """Close the open step; learn when there are enough steps.

        Without an open step (the round was not explored) there is nothing to do.

        Raises:
            ValueError: the reward is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"the reward {value} is not finite")
        if self._open is None:
            return None
        self._steps.append(replace(self._open, reward=value))
        self._open = None
        if len(self._steps) <= self._config.horizon:
            return None
        # The newest step tells what the one before it led to, and is learned from next time.
        *steps, last = self._steps
        self._steps = [last]
        return self._update(steps, last.value)

    def _update(self, steps: list[Step], last_value: float) -> UpdateReport:
        config = self._config
        values = [step.value for step in steps]
        rewards = [step.reward for step in steps]
        if not self._updates:
            # The critic has seen nothing yet. With zeros the first rounds would look better than
            # the last ones, whose rewards to come are cut off; a constant judges all alike.
            last_value = math.fsum(rewards) / len(rewards) / (1.0 - config.discount)
            values = [last_value] * len(steps)
        gains = ppo.advantages(rewards, values, last_value, config.discount, config.trace_decay)
        returns = [gain + value for gain, value in zip(gains, values, strict=True)]
        self._normaliser.update(returns, self._critic.last)
        targets = torch.tensor([self._normaliser.normalise(value) for value in returns])
        rows = [step.rows for step in steps]
        batch = (padded(rows), torch.stack([step.whole for step in steps]), mask_of(rows))
        sample = padded([step.sample for step in steps])
        old = padded([step.log_prob for step in steps])
        advantage = ppo.standardised(torch.tensor(gains)).unsqueeze(1)

        first_loss = divergence = norm = entropy = 0.0
        epoch = 0
        for epoch in range(config.epochs + 1):
            mean, deviation = self._actor(*batch)
            log_ratio = (ppo.normal_log_prob(sample, mean, deviation) - old) * batch[2]
            divergence = float(ppo.masked_mean(ppo.divergence(log_ratio), batch[2]).detach())
            surprise = ppo.normal_entropy(deviation)
            entropy = float(surprise.detach())
            if epoch == config.epochs or divergence > config.target_divergence:
                break
            objective = ppo.clipped_objective(log_ratio, advantage, config.clip)
            value_loss = (self._critic(*batch) - targets).square().mean()
            if epoch == 0:
                first_loss = float(value_loss.detach())
            loss = (
                config.value_weight * value_loss
                - ppo.masked_mean(objective, batch[2])
                - config.entropy_weight * surprise
            )
            norm = ppo.descend(
                loss, self._optimiser, self._actor, self._critic, config.max_gradient_norm
            )
        self._updates += 1
        return UpdateReport(
            part="fees",
            number=self._updates,
            samples=len(steps),
            epochs=epoch,
            mean_reward=math.fsum(rewards) / len(rewards),
            divergence=divergence,
            entropy=entropy,
            value_loss=first_loss,
            gradient_norm=norm,
        )

    def adopt(self, actor: State) -> None:
        """Go on with the weights of another `ChannelActor`; what is known of returns stays."""
        self._actor.load_state_dict(actor)
        parameters = [*self._actor.parameters(), *self._critic.parameters()]
        self._optimiser = Adam(parameters, self._config.learning_rate)
        self._steps, self._open = [], None

    def state(self) -> State:
        """Everything that the next outputs depend on."""
        return {
            "actor": self._actor.state_dict(),
            "critic": self._critic.state_dict(),
            "optimiser": self._optimiser.state(),
            "normaliser": asdict(self._normaliser),
            "generator": self._generator.get_state(),
            "steps": [step.state() for step in self._steps],
            "open": None if self._open is None else self._open.state(),
            "updates": self._updates,
        }

    def restore(self, state: State) -> None:
        """Continue from `state`; learning rate and other hyperparameters stay the own ones."""
        self._actor.load_state_dict(state["actor"])
        self._critic.load_state_dict(state["critic"])
        self._optimiser.restore(state["optimiser"])
        self._normaliser = ReturnNormaliser(**state["normaliser"])
        self._generator.set_state(state["generator"])
        self._steps = [Step(**step) for step in state["steps"]]
        self._open = None if state["open"] is None else Step(**state["open"])
        self._updates = state["updates"]


def _log_slope_of_tanh(value: Tensor) -> Tensor:
    """log(1 - tanh(value)^2), also far from zero."""
    return 2.0 * (math.log(2.0) - value - nn.functional.softplus(-2.0 * value))
