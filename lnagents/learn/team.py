"""The networks of a team: what all its agents run, and what judges them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from lnagents.learn.algorithms import Algorithm
from lnagents.learn.networks import ChannelActor, ChannelCritic, Layer, SetEncoder, join, linear
from lnagents.learn.opponent import forecast_names
from lnagents.learn.row_sets import RowSets
from lnagents.learn.samples import JointState, Sight
from lnagents.learn.settings import Recurrence, TrainSettings
from lnagents.learn.task import TaskShape


@dataclass(frozen=True, slots=True)
class TeamSizes:
    """`NetworkSizes` of a task and its settings."""

    channel_features: tuple[str, ...]
    node_features: tuple[str, ...]
    actions: tuple[str, ...]
    choices: tuple[str, ...]
    hidden: int
    initial_deviation: float
    min_deviation: float
    max_deviation: float
    copies: int
    """Agents with weights of their own; 0 if all share theirs."""
    remembered: int
    """How many of the last `node_features` are what an agent remembers; 0: it does not."""
    foreseen: int
    """How many of the last `channel_features` come from a model of others; 0: there is none."""

    @classmethod
    def of(cls, shape: TaskShape, settings: TrainSettings, algorithm: Algorithm) -> TeamSizes:
        """What an agent sees of the neighbourhood, and what it remembers, concerns it as a whole.

        Raises:
            ValueError: the task does not offer what the settings ask for.
        """
        seen = shape.neighbour_features if algorithm.neighbours else ()
        remembered = 0 if settings.recurrence is Recurrence.NONE else settings.hidden
        seen = (*seen, *(f"memory_{place}" for place in range(remembered)))
        foreseen = forecast_names(shape, settings)
        return cls(
            channel_features=shape.row_features + foreseen,
            node_features=shape.whole_features + seen,
            actions=shape.actions,
            choices=shape.choices,
            hidden=settings.hidden,
            initial_deviation=settings.initial_deviation,
            min_deviation=settings.min_deviation,
            max_deviation=settings.max_deviation,
            copies=0 if settings.shared else shape.agents,
            remembered=remembered,
            foreseen=len(foreseen),
        )

    @property
    def seen(self) -> TeamSizes:
        """Without what is remembered and foreseen: what comes from the task itself."""
        return replace(
            self,
            channel_features=self.channel_features[: len(self.channel_features) - self.foreseen],
            node_features=self.node_features[: len(self.node_features) - self.remembered],
            remembered=0,
            foreseen=0,
        )


class ChoiceActor(nn.Module):
    """Log odds of every choice, all equal at first."""

    def __init__(self, sizes: TeamSizes, generator: torch.Generator) -> None:
        super().__init__()
        rows, whole = len(sizes.channel_features), len(sizes.node_features)
        hidden, copies = sizes.hidden, sizes.copies
        self.encoder = SetEncoder(rows, whole, hidden, generator, copies)
        self.head = nn.Sequential(
            linear(hidden, hidden, math.sqrt(2.0), generator, copies),
            nn.ReLU(inplace=True),
            linear(hidden, len(sizes.choices), 0.0, generator, copies),
        )

    def forward(self, rows: Tensor, whole: Tensor, mask: Tensor, allowed: Tensor) -> Tensor:
        """Log probabilities [batch, choices]; minus infinity for what `allowed` rules out."""
        odds: Tensor = self.head(self.encoder.context(rows, whole, mask))
        return odds.masked_fill(allowed == 0.0, -torch.inf).log_softmax(-1)


class TeamActor(nn.Module):
    """What agents decide, from what they see themselves and from nothing else.

    A fresh actor heeds neither what is remembered nor what is foreseen: it begins as one without
    would, weight by weight. Both are learned while it learns, too, and must not move it before it
    has found a use for them.
    """

    def __init__(self, sizes: TeamSizes, generator: torch.Generator) -> None:
        super().__init__()
        seen = sizes.seen
        self.rows = ChannelActor(seen, generator, sizes.copies) if sizes.actions else None
        self.choice = ChoiceActor(seen, generator) if sizes.choices else None
        for actor in (self.rows, self.choice):
            if actor is not None:
                _widen(actor.encoder.whole, sizes.remembered)
                _widen(actor.encoder.rows, sizes.foreseen)


def _widen(layers: nn.Sequential | None, more: int) -> None:
    """Give the first of `layers` so many more inputs, behind the others and without weight."""
    if layers is None or not more:
        return
    first = cast(Layer, layers[0])
    weight = first.weight.detach()
    nothing = weight.new_zeros(*weight.shape[:-1], more)
    first.weight = nn.Parameter(torch.cat((weight, nothing), -1))


class CentralCritic(nn.Module):
    """What the future is worth to an agent, given what it sees and the joint state; starts at 0."""

    def __init__(self, sizes: TeamSizes, state_features: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, whole = len(sizes.channel_features), len(sizes.node_features)
        hidden, copies = sizes.hidden, sizes.copies
        self.own = SetEncoder(rows, whole, hidden, generator, copies)
        self.joint = SetEncoder(state_features, 0, hidden, generator)
        self.both = linear(2 * hidden, hidden, math.sqrt(2.0), generator, copies)
        self.last = linear(hidden, 1, 0.0, generator, copies)

    def forward(
        self,
        rows: Tensor,
        whole: Tensor,
        mask: Tensor,
        sets: RowSets | None,
        state: Tensor,
        state_mask: Tensor,
    ) -> Tensor:
        """[batch, agents]; [agents, batch] if each has weights of its own.

        Args:
            rows: [batch, agents, rows, row features], agents first as above.
            whole: [batch, agents, whole features], agents first as above.
            mask: [batch, agents, rows], agents first as above.
            sets: the same rows, if they are at hand already.
            state: [batch, state rows, state features].
            state_mask: [batch, state rows].
        """
        own = self.own.context(rows, whole, mask, sets)
        joint = self.joint.context(state, state.new_zeros(len(state), 0), state_mask)
        if isinstance(self.both, nn.Linear):
            both = join(self.both, own, joint)  # its part of the joint state once for all agents
        else:
            both = self.both(torch.cat((own, joint.expand_as(own)), -1))
        value: Tensor = self.last(both.relu())
        return value.squeeze(-1)


class TeamCritic(nn.Module):
    """The critic of an algorithm: of what an agent sees, or of the joint state, too."""

    def __init__(
        self,
        sizes: TeamSizes,
        shape: TaskShape,
        algorithm: Algorithm,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.judge = (
            CentralCritic(sizes, len(shape.state_features), generator)
            if algorithm.joint_state
            else ChannelCritic(sizes, generator, sizes.copies)
        )
        self._agents_first = sizes.copies > 0

    @property
    def last(self) -> Layer:
        """The layer that gives the value."""
        return self.judge.last

    def forward(self, sight: Sight, state: JointState | None) -> Tensor:
        """[samples, agents], in normalised units; `state` is for central critics."""
        seen = sight.agents_first() if self._agents_first else sight
        given = (seen.rows, seen.whole, seen.mask, None if self._agents_first else seen.sets)
        value: Tensor = self.judge(*given, *((state.rows, state.mask) if state else ()))
        return value.transpose(0, 1) if self._agents_first else value
