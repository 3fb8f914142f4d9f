"""The networks: small, on the CPU, and indifferent to the order and number of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnagents.learn.config import LearnConfig
from lnagents.learn.experience import State
from lnagents.learn.row_sets import Affine, RowSets
from lnagents.model.errors import CheckpointError


class NetworkSizes(Protocol):
    """What the networks of channels are built from; `LearnConfig` is one."""

    @property
    def channel_features(self) -> tuple[str, ...]:
        """Columns of a row."""

    @property
    def node_features(self) -> tuple[str, ...]:
        """Columns of what belongs to the whole."""

    @property
    def actions(self) -> tuple[str, ...]:
        """What is decided for every row."""

    @property
    def hidden(self) -> int:
        """Width of every hidden layer."""

    @property
    def initial_deviation(self) -> float:
        """Standard deviation of exploration at the start."""

    @property
    def min_deviation(self) -> float:
        """Its lower bound."""

    @property
    def max_deviation(self) -> float:
        """Its upper bound."""


class StackedLinear(nn.Module):
    """A linear layer of their own for each of several agents, computed for all at once."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, inputs: Tensor) -> Tensor:
        """[agents, …, inputs] to [agents, …, outputs]."""
        flat = inputs.flatten(1, -2)
        outputs = torch.baddbmm(self.bias.unsqueeze(1), flat, self.weight.transpose(1, 2))
        return outputs.reshape(*inputs.shape[:-1], -1)


Layer: TypeAlias = nn.Linear | StackedLinear


def weights_of(agent: int, stacked: State, copies: int) -> State:
    """Those of one agent, of networks of which each of so many agents has a copy.

    Raises:
        CheckpointError: there is no such agent.
    """
    if not 0 <= agent < copies:
        raise CheckpointError(f"the team has {copies} agents, none is {agent}")
    return {name: one[agent] for name, one in stacked.items()}


def linear(
    inputs: int, outputs: int, gain: float, generator: torch.Generator, copies: int = 0
) -> Layer:
    """A linear layer, orthogonal weights times `gain`, no bias at first; no global randomness.

    With `copies` a stack of so many, each with weights of its own.
    """
    if copies:
        return StackedLinear([_linear(inputs, outputs, gain, generator) for _ in range(copies)])
    return _linear(inputs, outputs, gain, generator)


def _linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    # The constructor draws weights from the global generator; they are replaced below.
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(inputs, outputs)
    if gain:
        nn.init.orthogonal_(layer.weight, gain, generator)
    else:
        nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def join(layer: Layer, rows: Tensor, whole: Tensor) -> Tensor:
    """`layer` of every row side by side with what belongs to the whole.

    The whole's part is computed once, not for every row.

    Args:
        layer: its first inputs are those of a row.
        rows: [batch, rows, row inputs].
        whole: [batch, whole inputs].
    """
    width = rows.shape[-1]
    if isinstance(layer, nn.Linear):
        own = functional.linear(rows, layer.weight[:, :width])
        common = functional.linear(whole, layer.weight[:, width:], layer.bias)
    else:
        weight = layer.weight.transpose(1, 2)
        own = torch.bmm(rows.flatten(1, -2), weight[:, :width])
        own = own.reshape(*rows.shape[:-1], -1)
        common = torch.baddbmm(layer.bias.unsqueeze(1), whole.flatten(1, -2), weight[:, width:])
        common = common.reshape(*whole.shape[:-1], -1)
    return own + common.unsqueeze(-2)


def _affine(layer: nn.Module) -> Affine:
    return Affine(cast(Tensor, layer.weight), cast(Tensor, layer.bias))


class SetEncoder(nn.Module):
    """DeepSets (Zaheer et al. 2017): each row alone, then the mean and the maximum of all.

    Gives an embedding per row and one of the whole. Every row goes through the same weights and
    pooling does not know the order, so outputs follow a permutation of the rows. Without row
    features it is one layer of the whole.
    """

    def __init__(
        self,
        row_features: int,
        whole_features: int,
        hidden: int,
        generator: torch.Generator,
        copies: int = 0,
    ) -> None:
        super().__init__()
        gain = math.sqrt(2.0)
        self.stacked = copies > 0
        self.rows: nn.Sequential | None = None
        if row_features:
            self.rows = nn.Sequential(
                linear(row_features, hidden, gain, generator, copies),
                nn.ReLU(inplace=True),
                linear(hidden, hidden, gain, generator, copies),
                nn.ReLU(inplace=True),
            )
            whole_features += 2 * hidden
        self.whole = nn.Sequential(
            linear(whole_features, hidden, gain, generator, copies), nn.ReLU(inplace=True)
        )

    def forward(self, rows: Tensor, whole: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [batch, rows, hidden] and [batch, hidden].

        Args:
            rows: [batch, rows, row features].
            whole: [batch, whole features].
            mask: [batch, rows], 1 for real rows, 0 for padding.
        """
        if self.rows is None:
            return rows, self.whole(whole)
        embedded = self.rows(rows) * mask.unsqueeze(-1)
        count = mask.sum(-1, keepdim=True).clamp(min=1.0)
        mean = embedded.sum(-2) / count
        # Embeddings are not negative, so the zeros of padding never win where they should not.
        top = embedded.amax(-2) if embedded.shape[-2] else torch.zeros_like(mean)
        return embedded, self.whole(torch.cat((mean, top, whole), -1))

    def of_sets(self, sets: RowSets, whole: Tensor) -> tuple[Tensor, Tensor]:
        """The same without padding: embeddings [rows of all sets, hidden] and [sets, hidden].

        Args:
            sets: of which there are as many as elements of the batch; the embeddings are in the
                order that they have in its runs.
            whole: [sets, whole features], as given.
        """
        if self.rows is None:
            return sets.values, self.whole(sets.ordered(whole))
        embedded, pooled = sets.encode(_affine(self.rows[0]), _affine(self.rows[2]))
        return embedded, self.whole(torch.cat((pooled, sets.ordered(whole)), -1))

    def context(
        self, rows: Tensor, whole: Tensor, mask: Tensor, sets: RowSets | None = None
    ) -> Tensor:
        """Only what `forward` gives for the whole, by the faster of the two ways.

        `sets` are the same rows, if they are at hand already.
        """
        if self.stacked or self.rows is None:
            return self(rows, whole, mask)[1]  # type: ignore[no-any-return]
        batch, sets = whole.shape[:-1], sets or RowSets.of(rows, mask)
        _, context = self.of_sets(sets, whole.flatten(0, -2))
        return sets.as_given(context).reshape(*batch, context.shape[-1])


class ChannelActor(nn.Module):
    """A normal distribution per channel and action; its sample goes through tanh to be bounded.

    The last layer starts at zero, so a fresh actor's mean is 0: keep the fees that are set.
    With `copies`, every agent has weights of its own, and tensors begin with [agents].
    """

    def __init__(self, config: NetworkSizes, generator: torch.Generator, copies: int = 0) -> None:
        super().__init__()
        hidden, actions = config.hidden, len(config.actions)
        self.encoder = SetEncoder(
            len(config.channel_features), len(config.node_features), hidden, generator, copies
        )
        self.head = nn.Sequential(
            linear(2 * hidden, hidden, math.sqrt(2.0), generator, copies),
            nn.ReLU(inplace=True),
            linear(hidden, actions, 0.0, generator, copies),
        )
        shape = (copies, 1, 1, actions) if copies else (actions,)
        self.log_deviation = nn.Parameter(torch.full(shape, math.log(config.initial_deviation)))
        self.least = math.log(config.min_deviation)
        self.most = math.log(config.max_deviation)

    @property
    def last(self) -> Layer:
        """The layer that gives the means."""
        return cast(Layer, self.head[-1])

    def forward(self, rows: Tensor, whole: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [batch, rows, actions] and standard deviation [actions], before the bound."""
        if self.encoder.stacked:
            embedded, context = self.encoder(rows, whole, mask)
            first, *rest = self.head
            mean = join(cast(Layer, first), embedded, context)
            for layer in rest:
                mean = layer(mean)
            return mean, self.deviation()
        sets = RowSets.of(rows, mask)
        mean, deviation = self.of_sets(sets, whole.flatten(0, -2))
        return sets.fill(mean).reshape(*mask.shape, mean.shape[-1]), deviation

    def of_sets(self, sets: RowSets, whole: Tensor) -> tuple[Tensor, Tensor]:
        """The same without padding and copies: mean [rows of all sets, actions] and deviation."""
        embedded, context = self.encoder.of_sets(sets, whole)
        first = _affine(self.head[0])
        width = embedded.shape[-1]
        common = functional.linear(context, first.weight[:, width:], first.bias)
        mean = sets.decode(embedded, common, first.weight[:, :width], _affine(self.head[2]))
        return mean, self.deviation()

    def deviation(self) -> Tensor:
        """Standard deviation of the actions, before the bound."""
        return self.log_deviation.clamp(self.least, self.most).exp()


class ChannelCritic(nn.Module):
    """What the future is worth from here, in normalised units; starts at 0."""

    def __init__(self, config: NetworkSizes, generator: torch.Generator, copies: int = 0) -> None:
        super().__init__()
        self.encoder = SetEncoder(
            len(config.channel_features),
            len(config.node_features),
            config.hidden,
            generator,
            copies,
        )
        self.last = linear(config.hidden, 1, 0.0, generator, copies)

    def forward(
        self, rows: Tensor, whole: Tensor, mask: Tensor, sets: RowSets | None = None
    ) -> Tensor:
        """[batch]; `sets` are the same rows, if they are at hand already."""
        value: Tensor = self.last(self.encoder.context(rows, whole, mask, sets))
        return value.squeeze(-1)


class RouteActor(nn.Module):
    """Log odds of each candidate: the prior's, plus a correction that starts at zero.

    A candidate is judged by its own features and by what else there is to choose from.
    """

    def __init__(self, config: LearnConfig, generator: torch.Generator) -> None:
        super().__init__()
        features, hidden = len(config.route_features), config.hidden
        self.prior = config.route_features.index(config.route_prior)
        self.encoder = SetEncoder(features, 0, hidden, generator)
        self.last = linear(2 * hidden, 1, 0.0, generator)

    def correct(self, rows: Tensor, mask: Tensor) -> Tensor:
        """What is added to the prior's log odds, [batch, candidates]."""
        embedded, context = self.encoder(rows, rows.new_zeros(rows.shape[0], 0), mask)
        spread = context.unsqueeze(1).expand(-1, rows.shape[1], -1)
        correction: Tensor = self.last(torch.cat((embedded, spread), -1))
        return correction.squeeze(-1)

    def odds(self, rows: Tensor, mask: Tensor, correction: Tensor) -> Tensor:
        """Log odds [batch, candidates]; minus infinity for padding."""
        return (rows[..., self.prior] + correction).masked_fill(mask == 0.0, -torch.inf)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Log odds [batch, candidates] with the correction as it is now."""
        return self.odds(rows, mask, self.correct(rows, mask))


class RouteCritic(nn.Module):
    """What the best use of these candidates brings, in normalised units; starts at 0."""

    def __init__(self, config: LearnConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = SetEncoder(len(config.route_features), 0, config.hidden, generator)
        self.last = linear(config.hidden, 1, 0.0, generator)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """[batch]."""
        _, context = self.encoder(rows, rows.new_zeros(rows.shape[0], 0), mask)
        value: Tensor = self.last(context)
        return value.squeeze(-1)
