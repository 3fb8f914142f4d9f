"""What networks are given and what came of it, as tensors that begin with [samples, agents]."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lnagents.learn.algorithms import Algorithm
from lnagents.learn.row_sets import RowSets
from lnagents.learn.task import Actions, Seen, TaskShape


@dataclass(frozen=True, eq=False)
class Sight:
    """What actors see."""

    rows: Tensor
    mask: Tensor
    whole: Tensor
    allowed: Tensor

    @classmethod
    def of(cls, seen: Seen, algorithm: Algorithm) -> Sight:
        """The part of `seen` that actors see; no copy unless it has to be put together."""
        whole = seen.whole
        if algorithm.neighbours:
            whole = np.concatenate((whole, seen.neighbours), -1)
        return cls(*map(torch.from_numpy, (seen.rows, seen.mask, whole, seen.choice_mask)))

    @functools.cached_property
    def sets(self) -> RowSets:
        """The rows without padding, laid out once for all networks."""
        return RowSets.of(self.rows, self.mask)

    def with_memory(self, state: Tensor | None) -> Sight:
        """The same with what the agents remember, [samples, agents, hidden]; None: with nothing."""
        if state is None:
            return self
        extended = replace(self, whole=torch.cat((self.whole, state), -1))
        if "sets" in vars(self):  # rows stay where they are
            vars(extended)["sets"] = self.sets
        return extended

    def agents_first(self) -> Sight:
        """The same as [agents, samples], for networks with weights of their own for every agent."""
        return mapped(lambda one: one.transpose(0, 1), self)


@dataclass(frozen=True, slots=True, eq=False)
class JointState:
    """What central critics see besides; the same for all agents."""

    rows: Tensor
    """[samples, state rows, state features]."""
    mask: Tensor
    """[samples, state rows]."""

    @classmethod
    def of(cls, seen: Seen) -> JointState:
        """The part of `seen` that only central critics see."""
        return cls(torch.from_numpy(seen.state), torch.from_numpy(seen.state_mask))


@dataclass(frozen=True, slots=True, eq=False)
class Others:
    """What a model of the others looks at, and what it is to foresee; see `Seen`."""

    features: Tensor
    """[…, rows, foresight features]."""
    moves: Tensor
    """[…, rows, moves], the classes of the moves since the moment before; negative: not known."""
    liquidity: Tensor
    """[…, rows, bins], which nobody sees: for training and scores only."""

    @classmethod
    def of(cls, seen: Seen) -> Others:
        """The part of `seen` that is about others.

        Raises:
            ValueError: it tells nothing of them.
        """
        if seen.foresight is None or seen.moves is None or seen.liquidity is None:
            raise ValueError("nothing is told about other agents")
        return cls(*map(torch.from_numpy, (seen.foresight, seen.moves, seen.liquidity)))


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What was decided, and how likely it was."""

    sample: Tensor
    """[…, rows, actions], before the bound; 0 for padding."""
    sample_log_prob: Tensor
    """[…, rows], before the bound; 0 for padding."""
    choice: Tensor
    """[…]."""
    choice_log_prob: Tensor
    """[…]."""

    def actions(self) -> Actions:
        """As the task takes it."""
        return Actions(self.sample.tanh().numpy(), self.choice.numpy())


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """What decisions are drawn with, so that they depend on nothing else that is drawn."""

    rows: Tensor
    """[…, agents, rows, actions], standard normal."""
    choice: Tensor
    """[…, agents, choices], Gumbel: the largest of log odds with it is drawn by the odds."""

    @classmethod
    def drawn(cls, shape: TaskShape, samples: int, generator: torch.Generator) -> Noise:
        """Of `samples` samples of a task."""
        agents = (samples, shape.agents)
        rows = torch.empty(*agents, shape.rows, len(shape.actions)).normal_(generator=generator)
        choice = torch.empty(*agents, len(shape.choices)).exponential_(generator=generator)
        return cls(rows, choice.log_().neg_())


Samples = TypeVar("Samples", Sight, JointState, Others, Decision, Noise)


def mapped(function: Callable[[Tensor], Tensor], samples: Samples) -> Samples:
    """`function` of each tensor."""
    kind = type(samples)
    return kind(*(function(getattr(samples, one.name)) for one in fields(kind)))


def some(samples: Samples, which: slice | int | Tensor) -> Samples:
    """Some of the samples."""
    return mapped(lambda one: one[which], samples)


def joined(function: Callable[[list[Tensor]], Tensor], parts: Sequence[Samples]) -> Samples:
    """`function` of the list of each tensor of `parts`."""
    kind = type(parts[0])
    return kind(*(function([getattr(part, one.name) for part in parts]) for one in fields(kind)))
