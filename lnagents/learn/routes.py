"""The learner of route choices: one decision per attempt, rewarded by what became of it."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import torch

from lnagents.learn import ppo
from lnagents.learn.adam import Adam
from lnagents.learn.config import LearnConfig
from lnagents.learn.experience import (
    FloatArray,
    RouteChoice,
    RouteStep,
    State,
    UpdateReport,
    checked,
    mask_of,
    padded,
)
from lnagents.learn.networks import RouteActor, RouteCritic
from lnagents.learn.normaliser import ReturnNormaliser

MAX_PENDING = 1_024
"""Choices that wait for their outcome; of more the oldest are forgotten."""


class RouteLearner:
    """Chooses among candidates by the prior's odds, corrected by what outcomes have taught."""

    def __init__(self, config: LearnConfig, seed: int) -> None:
        self._config = config
        self._generator = torch.Generator().manual_seed(seed)
        self._actor = RouteActor(config, self._generator)
        self._critic = RouteCritic(config, self._generator)
        parameters = [*self._actor.parameters(), *self._critic.parameters()]
        self._optimiser = Adam(parameters, config.learning_rate)
        self._normaliser = ReturnNormaliser()
        self._pending: dict[int, RouteStep] = {}
        self._steps: list[RouteStep] = []
        self._tokens = 0
        self._updates = 0

    def choose(self, features: FloatArray, *, explore: bool) -> RouteChoice:
        """Choose one of the rows of `features`.

        Exploring draws by the odds, otherwise the best is taken. Only a drawn choice among several
        can be learned from; others have token 0.

        Raises:
            ValueError: there is no row, or the array does not fit the configuration.
        """
        rows = checked(features, (None, len(self._config.route_features)), "route features")
        if not len(rows):
            raise ValueError("there are no candidate routes")
        with torch.no_grad():
            batch = (rows.unsqueeze(0), rows.new_ones(1, len(rows)))
            log_probs = self._actor(*batch)[0].log_softmax(-1)
            if explore:
                chances = log_probs.exp()
                index = int(torch.multinomial(chances, 1, generator=self._generator))
            else:
                index = int(log_probs.argmax())
        log_prob = float(log_probs[index])
        if not explore or len(rows) == 1:
            return RouteChoice(index, log_prob, 0)
        self._tokens += 1
        with torch.no_grad():
            value = self._normaliser.restore(float(self._critic(*batch)))
        self._pending[self._tokens] = RouteStep(rows, index, log_prob, value)
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        return RouteChoice(index, log_prob, self._tokens)

    def outcome(self, token: int, return_: float) -> UpdateReport | None:
        """What the choice `token` brought; learn when there are enough outcomes.

        A token that is not pending (0, answered already, or too old) is passed over.

        Raises:
            ValueError: the return is not finite.
        """
        if not math.isfinite(return_):
            raise ValueError(f"the return {return_} is not finite")
        step = self._pending.pop(token, None)
        if step is None:
            return None
        self._steps.append(replace(step, return_=return_))
        if len(self._steps) < self._config.route_horizon:
            return None
        steps, self._steps = self._steps, []
        return self._update(steps)

    def _update(self, steps: list[RouteStep]) -> UpdateReport:
        config = self._config
        returns = [step.return_ for step in steps]
        gains = [step.return_ - step.value for step in steps]
        self._normaliser.update(returns, self._critic.last)
        targets = torch.tensor([self._normaliser.normalise(value) for value in returns])
        rows = [step.rows for step in steps]
        batch, mask = padded(rows), mask_of(rows)
        chosen = torch.tensor([[step.index] for step in steps])
        old = torch.tensor([step.log_prob for step in steps])
        surprises = torch.tensor(gains)
        advantage = (surprises - surprises.mean()) / self._normaliser.deviation

        first_loss = divergence = norm = entropy = 0.0
        epoch = 0
        for epoch in range(config.epochs + 1):
            correction = self._actor.correct(batch, mask)
            log_probs = self._actor.odds(batch, mask, correction).log_softmax(-1)
            log_ratio = log_probs.gather(1, chosen).squeeze(1) - old
            divergence = float(ppo.divergence(log_ratio).mean().detach())
            # Padding has no chance of being chosen: 0 times minus infinity would be no number.
            surprise = -(log_probs.exp() * log_probs.masked_fill(mask == 0.0, 0.0)).sum(-1).mean()
            entropy = float(surprise.detach())
            if epoch == config.epochs or divergence > config.target_divergence:
                break
            objective = ppo.clipped_objective(log_ratio, advantage, config.clip).mean()
            value_loss = (self._critic(batch, mask) - targets).square().mean()
            if epoch == 0:
                first_loss = float(value_loss.detach())
            doubt = ppo.masked_mean(correction.square(), mask)
            loss = (
                config.value_weight * value_loss
                - objective
                - config.entropy_weight * surprise
                + config.prior_weight * doubt
            )
            norm = ppo.descend(
                loss, self._optimiser, self._actor, self._critic, config.max_gradient_norm
            )
        self._updates += 1
        return UpdateReport(
            part="routes",
            number=self._updates,
            samples=len(steps),
            epochs=epoch,
            mean_reward=math.fsum(returns) / len(returns),
            divergence=divergence,
            entropy=entropy,
            value_loss=first_loss,
            gradient_norm=norm,
        )

    def state(self) -> State:
        """Everything that the next outputs depend on."""
        return {
            "actor": self._actor.state_dict(),
            "critic": self._critic.state_dict(),
            "optimiser": self._optimiser.state(),
            "normaliser": asdict(self._normaliser),
            "generator": self._generator.get_state(),
            "pending": {token: step.state() for token, step in self._pending.items()},
            "steps": [step.state() for step in self._steps],
            "tokens": self._tokens,
            "updates": self._updates,
        }

    def restore(self, state: State) -> None:
        """Continue from `state`; learning rate and other hyperparameters stay the own ones."""
        self._actor.load_state_dict(state["actor"])
        self._critic.load_state_dict(state["critic"])
        self._optimiser.restore(state["optimiser"])
        self._normaliser = ReturnNormaliser(**state["normaliser"])
        self._generator.set_state(state["generator"])
        self._pending = {token: RouteStep(**step) for token, step in state["pending"].items()}
        self._steps = [RouteStep(**step) for step in state["steps"]]
        self._tokens = state["tokens"]
        self._updates = state["updates"]
