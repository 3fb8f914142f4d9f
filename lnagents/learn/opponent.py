"""A model of other agents: from what one agent can observe to what the others do next, and have.

Per row (a channel) it foresees how rates of others move until the next moment, a class of
`TaskShape.move_sizes` for each of `TaskShape.moves`, and where the balances of the peer's other
channels lie, in `TaskShape.liquidity_bins` bins. Forecasts are categorical, so that likelihoods are
proper and those of naive forecasts can stand beside them (`opponent_scores`).

Actors and critics are given `FORECASTS` of it as further features of a row. With
`OpponentMode.GRADIENT` they get its embedding, too, and their losses train what leads to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnagents.learn.networks import (
    Layer,
    SetEncoder,
    StackedLinear,
    join,
    linear,
    weights_of,
)
from lnagents.learn.row_sets import LEAST_ROWS, RowSets
from lnagents.learn.samples import Others, Sight
from lnagents.learn.settings import OpponentMode, TrainSettings
from lnagents.learn.task import TaskShape


def forecast_names(shape: TaskShape, settings: TrainSettings) -> tuple[str, ...]:
    """Columns that the model adds to rows; none if there is no model.

    Raises:
        ValueError: the task has nothing to foresee.
    """
    if settings.opponent_model is OpponentMode.NONE:
        return ()
    if not (shape.foresight_features and shape.moves and shape.liquidity_bins):
        raise ValueError("opponent_model needs a task that tells about other agents")
    names = [f"{move}_{what}" for move in shape.moves for what in ("foreseen", "up", "down")]
    names += ["liquidity_foreseen", "dry_foreseen"]
    if settings.opponent_model is OpponentMode.GRADIENT:
        names += [f"embedding_{place}" for place in range(settings.hidden)]
    return tuple(names)


def move_values(sizes: Sequence[float]) -> tuple[float, ...]:
    """A typical move of each class: the geometric middle of where it begins and ends.

    Args:
        sizes: see `TaskShape.move_sizes`.
    """
    ends = (sizes[0] / 4.0, *sizes, 4.0 * sizes[-1])
    up = [math.sqrt(low * high) for low, high in pairwise(ends)]
    return (*(-one for one in reversed(up)), 0.0, *up)


@dataclass(frozen=True, slots=True, eq=False)
class Foreseen:
    """What the model says, for [samples, agents, rows]."""

    embedding: Tensor
    """[…, hidden]."""
    moves: Tensor
    """[…, moves, classes], log probabilities."""
    liquidity: Tensor
    """[…, bins], log probabilities."""


class OpponentModel(nn.Module):
    """Rows, their history and their surroundings through a `SetEncoder`, then linear heads.

    The heads start at zero: a fresh model finds everything equally likely. With `copies`, every
    agent has a model of its own.
    """

    def __init__(
        self, shape: TaskShape, settings: TrainSettings, generator: torch.Generator
    ) -> None:
        """A fresh model for the rows of `shape`."""
        super().__init__()
        self._shape, self._settings = shape, settings
        hidden = settings.hidden
        copies = 0 if settings.shared else shape.agents
        self._gradient = settings.opponent_model is OpponentMode.GRADIENT
        self._agents_first = copies > 0
        self._rows = len(shape.row_features)
        self._moves = len(shape.moves)
        inputs = self._rows + len(shape.foresight_features)
        self.encoder = SetEncoder(inputs, len(shape.whole_features), hidden, generator, copies)
        self.both = linear(2 * hidden, hidden, math.sqrt(2.0), generator, copies)
        self._values = torch.tensor(move_values(shape.move_sizes))
        self.moves = linear(hidden, self._moves * len(self._values), 0.0, generator, copies)
        self.liquidity = linear(hidden, shape.liquidity_bins, 0.0, generator, copies)
        self._hidden = hidden
        self._whole = len(shape.whole_features)
        bins = shape.liquidity_bins
        self._shares = (torch.arange(bins) + 0.5) / bins

    def single(self, agent: int) -> OpponentModel:
        """The model of one agent, for itself alone.

        Raises:
            CheckpointError: every agent has a model of its own, and there is no such agent.
        """
        state = self.state_dict()
        if self._agents_first:
            state = weights_of(agent, state, self._shape.agents)
        settings = self._settings.model_copy(update={"shared": True})
        model = OpponentModel(self._shape, settings, torch.Generator())
        model.load_state_dict(state)
        return model

    def embedding_parameters(self) -> list[nn.Parameter]:
        """What leads to the embedding."""
        return [*self.encoder.parameters(), *self.both.parameters()]

    def embed(self, sight: Sight, others: Others) -> Tensor:
        """[samples, agents, rows, hidden]; only the task's own columns of `sight` are looked at."""
        rows = torch.cat((sight.rows[..., : self._rows], others.features), -1)
        whole, mask = sight.whole[..., : self._whole], sight.mask
        if self._agents_first:
            rows, whole, mask = (one.transpose(0, 1) for one in (rows, whole, mask))
            embedded, context = self.encoder(rows, whole, mask)
            return functional.relu(join(self.both, embedded, context)).transpose(0, 1)
        sets = RowSets.of(rows, mask)
        embedded, context = self.encoder.of_sets(sets, whole.flatten(0, -2))
        own = functional.linear(embedded, self.both.weight[:, : self._hidden])
        given = sets.as_given(context)
        common = functional.linear(given, self.both.weight[:, self._hidden :], self.both.bias)
        joined = functional.relu(own + common.index_select(0, sets.owner))
        return sets.fill(joined).reshape(*mask.shape, self._hidden)

    def forward(self, sight: Sight, others: Others) -> Foreseen:
        """What is foreseen from here."""
        embedding = self.embed(sight, others)
        moves = self._head(self.moves, embedding)
        moves = moves.reshape(*moves.shape[:-1], self._moves, -1)
        liquidity = self._head(self.liquidity, embedding)
        return Foreseen(embedding, moves.log_softmax(-1), liquidity.log_softmax(-1))

    def _head(self, layer: Layer, embedding: Tensor) -> Tensor:
        if isinstance(layer, StackedLinear):
            return cast(Tensor, layer(embedding.transpose(0, 1))).transpose(0, 1)
        return cast(Tensor, layer(embedding))

    @torch.no_grad()
    def extended(self, sight: Sight, others: Others) -> Sight:
        """`sight` with the columns of `forecast_names` behind those of its rows."""
        foreseen = self(sight, others)
        columns = [sight.rows, self.forecasts(foreseen)]
        if self._gradient:
            columns.append(foreseen.embedding)
        return replace(sight, rows=torch.cat(columns, -1))

    def refreshed(self, sight: Sight, others: Others) -> Sight:
        """An extended `sight` with the embedding as it is now; with gradients."""
        columns = (sight.rows[..., : -self._hidden], self.embed(sight, others))
        return replace(sight, rows=torch.cat(columns, -1))

    def forecasts(self, foreseen: Foreseen) -> Tensor:
        """[…, rows, forecasts]: what to expect, in few numbers.

        Of each move its mean (nats) and the odds of up and down; of the liquidity its mean share
        and the odds of next to none.
        """
        moves, liquidity = foreseen.moves.exp(), foreseen.liquidity.exp()
        values = self._values
        by_move = torch.stack(
            (
                (moves * values).sum(-1),
                moves[..., values > 0.0].sum(-1),
                moves[..., values < 0.0].sum(-1),
            ),
            -1,
        )
        mean = (liquidity * self._shares).sum(-1, keepdim=True)
        return torch.cat((by_move.flatten(-2), mean, liquidity[..., :1]), -1)


class SingleForesight:
    """The model as one agent runs it on its own: the same numbers as among many."""

    def __init__(self, model: OpponentModel, agent: int = 0) -> None:
        """Copies the weights; those of `agent`, if each has a model of its own.

        Raises:
            CheckpointError: there is no such agent.
        """
        self._model = model.single(agent)

    def columns(self, rows: Tensor, features: Tensor, whole: Tensor) -> Tensor:
        """[rows, columns of `forecast_names`].

        Args:
            rows: [rows, row features].
            features: [rows, foresight features].
            whole: [whole features]; more may follow.
        """
        # See `lnagents.learn.row_sets.LEAST_ROWS` for why there are several of one.
        rows, features, whole = (
            one.expand(LEAST_ROWS, 1, *one.shape) for one in (rows, features, whole)
        )
        mask = rows.new_ones(rows.shape[:-1])
        nothing = rows.new_zeros(LEAST_ROWS, 1, 0)
        sight = self._model.extended(
            Sight(rows, mask, whole, nothing), Others(features, nothing, nothing)
        )
        return sight.rows[0, 0, :, rows.shape[-1] :]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What came of what was to be foreseen, for [samples, agents, rows]."""

    moves: Tensor
    """[…, moves], the classes of the moves until the next moment; negative where not known."""
    liquidity: Tensor
    """[…, bins], shares that sum to 1, or zeros where there is nothing."""
    mask: Tensor
    """[…], 1 for real rows."""


def loss(foreseen: Foreseen, outcomes: Outcomes) -> Tensor:
    """Mean negative log likelihood of a row's forecasts, in nats, summed over what is foreseen."""
    known = (outcomes.moves >= 0) * outcomes.mask.unsqueeze(-1)
    classes = outcomes.moves.clamp(min=0).unsqueeze(-1)
    likely = foreseen.moves.gather(-1, classes).squeeze(-1)
    by_move = (likely * known).flatten(0, -2).sum(0) / known.flatten(0, -2).sum(0).clamp(min=1.0)
    there = outcomes.liquidity.sum(-1) * outcomes.mask
    spread = (foreseen.liquidity * outcomes.liquidity).sum(-1) * outcomes.mask
    return -(by_move.sum() + spread.sum() / there.sum().clamp(min=1.0))
