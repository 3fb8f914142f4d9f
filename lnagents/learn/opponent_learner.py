"""Trains a model of other agents beside the actors, on the same experience."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnagents.learn import opponent_scores
from lnagents.learn.adam import Adam
from lnagents.learn.experience import State
from lnagents.learn.opponent import Foreseen, OpponentModel, Outcomes, loss
from lnagents.learn.opponent_scores import LIQUIDITY, Cases
from lnagents.learn.samples import Others, Sight, mapped, some
from lnagents.learn.settings import TrainSettings
from lnagents.learn.task import TaskShape

BLOCK = 16_384
"""Rows of all agents that are foreseen at once for scores."""


def outcomes(sight: Sight, others: Others) -> Outcomes:
    """What came of every moment but the last.

    Args:
        sight: [moments, episodes, agents, …].
        others: likewise; what moved since the moment before is what came of that one.
    """
    return Outcomes(others.moves[1:], others.liquidity[:-1], sight.mask[:-1])


def cases(foreseen: Foreseen, came: Outcomes, shape: TaskShape) -> dict[str, Cases]:
    """Forecasts beside what came of them, by prediction; only what is known."""
    real = came.mask > 0.0
    found: dict[str, Cases] = {}
    for place, name in enumerate(shape.moves):
        known = real & (came.moves[..., place] >= 0)
        classes = came.moves[..., place][known]
        targets = functional.one_hot(classes, foreseen.moves.shape[-1]).float()
        found[name] = Cases(foreseen.moves[..., place, :][known], targets)
    there = real & (came.liquidity.sum(-1) > 0.0)
    found[LIQUIDITY] = Cases(foreseen.liquidity[there], came.liquidity[there])
    return found


def joined_cases(parts: Sequence[dict[str, Cases]]) -> dict[str, Cases]:
    """All cases of several parts."""
    return {
        name: Cases(
            torch.cat([part[name].log_probs for part in parts]),
            torch.cat([part[name].targets for part in parts]),
        )
        for name in parts[0]
    }


class OpponentLearner:
    """The model's optimiser, and what it does in an iteration.

    It learns after actors and critic, in passes of its own: so actions are as likely at the start
    of an update as they were when they were drawn, the actors' trusted region does not cut the
    model's training short, and no weight has to balance losses of different units.
    """

    def __init__(self, model: OpponentModel, shape: TaskShape, settings: TrainSettings) -> None:
        self.model = model
        self._shape = shape
        self._settings = settings
        self._optimiser = Adam(model.parameters(), settings.opponent_learning_rate)

    def score(self, sight: Sight, others: Others) -> dict[str, float]:
        """How good its forecasts were, by prediction, measure and forecaster.

        Before it has learned from them, these are forecasts of what it has never seen.

        Args:
            sight: [moments, episodes, agents, …].
            others: likewise.
        """
        found = foreseen_cases(self.model, self._shape, sight, others)
        named: dict[str, float] = {}
        for prediction, by in opponent_scores.scores(found, self._shape.move_sizes).items():
            for who, score in by.items():
                named[f"{prediction}/log_likelihood/{who}"] = score.log_likelihood
                named[f"{prediction}/brier/{who}"] = score.brier
        return named

    def learn(self, sight: Sight, others: Others, generator: torch.Generator) -> None:
        """Passes over the experience, see `score` for the arguments."""
        came = outcomes(sight, others)
        flat = tuple(_flat(one) for one in (came.moves, came.liquidity, came.mask))
        seen, around = mapped(_of_steps, sight), mapped(_of_steps, others)
        settings = self._settings
        for _ in range(settings.opponent_epochs):
            for index in _parts(len(flat[0]), settings.opponent_minibatches, generator):
                foreseen = self.model(some(seen, index), some(around, index))
                missed = loss(foreseen, Outcomes(*(one[index] for one in flat)))
                self._optimiser.clear()
                torch.autograd.backward(missed)
                nn.utils.clip_grad_norm_(self.model.parameters(), settings.max_gradient_norm)
                self._optimiser.step()

    def state(self) -> State:
        """For a checkpoint."""
        return {"model": self.model.state_dict(), "optimiser": self._optimiser.state()}

    def restore(self, state: State) -> None:
        """Continue from `state`."""
        self.model.load_state_dict(state["model"])
        self._optimiser.restore(state["optimiser"])


@torch.no_grad()
def foreseen_cases(
    model: OpponentModel, shape: TaskShape, sight: Sight, others: Others
) -> dict[str, Cases]:
    """What `model` foresees at every moment but the last, beside what came of it.

    Args:
        model: as it is.
        shape: what it was made for.
        sight: [moments, episodes, agents, …].
        others: likewise.
    """
    came = outcomes(sight, others)
    flat = tuple(_flat(one) for one in (came.moves, came.liquidity, came.mask))
    seen, around = mapped(_of_steps, sight), mapped(_of_steps, others)
    block = max(1, BLOCK // max(1, came.mask[0, 0].numel()))
    parts = []
    for begin in range(0, len(flat[0]), block):
        part = slice(begin, begin + block)
        foreseen = model(some(seen, part), some(around, part))
        parts.append(cases(foreseen, Outcomes(*(one[part] for one in flat)), shape))
    return joined_cases(parts)


def _parts(count: int, parts: int, generator: torch.Generator) -> Iterator[Tensor]:
    yield from torch.randperm(count, generator=generator).chunk(parts)


def _flat(one: Tensor) -> Tensor:
    return one.flatten(0, 1)


def _of_steps(one: Tensor) -> Tensor:
    """Without the last moment, of which nothing came."""
    return one[:-1].flatten(0, 1)
