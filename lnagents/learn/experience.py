"""What goes into a learner, what comes out, and what it keeps of it until the next update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray: TypeAlias = NDArray[np.float32]

State: TypeAlias = dict[str, Any]
"""Tensors and plain values only, so that `torch.load(weights_only=True)` reads it."""


class ChannelArrays(Protocol):
    """What an observation must offer; `lnagents.env.Observation` does."""

    @property
    def channels(self) -> FloatArray:
        """[channels, channel features]."""

    @property
    def node(self) -> FloatArray:
        """[node features]."""


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """What the fee actor wants in one round."""

    values: FloatArray
    """[channels, actions], each from -1 to 1."""
    log_prob: float
    """Log density of `values`, over all channels together."""
    value: float
    """The critic's estimate of the discounted rewards to come, in the rewards' unit."""


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """Which candidate to try."""

    index: int
    log_prob: float
    token: int
    """Says to `route_outcome` which choice is meant; 0 if there is nothing to learn from it."""


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What one update did, for logs and diagnosis."""

    part: Literal["fees", "routes"]
    number: int
    """Updates of this part so far, this one included."""
    samples: int
    """Rounds or route outcomes it learned from."""
    epochs: int
    """Passes made before the new actor was too far from the old one."""
    mean_reward: float
    """Mean reward or return of the samples, in the caller's unit."""
    divergence: float
    """KL(old || new) in nats per decision, at the last pass."""
    entropy: float
    """Of the exploration, in nats per decision."""
    value_loss: float
    """Mean squared error of the critic before the update, in units of the returns' variance."""
    gradient_norm: float
    """Before clipping, at the last pass."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One round of the fee actor."""

    rows: Tensor
    whole: Tensor
    sample: Tensor
    """[channels, actions], before the bound."""
    log_prob: Tensor
    """[channels], of `sample` before the bound."""
    value: float
    reward: float = 0.0

    def state(self) -> State:
        """For a checkpoint."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, eq=False)
class RouteStep:
    """One choice among candidate routes."""

    rows: Tensor
    index: int
    log_prob: float
    value: float
    return_: float = 0.0

    def state(self) -> State:
        """For a checkpoint."""
        return {name: getattr(self, name) for name in self.__slots__}


def checked(array: FloatArray, shape: tuple[int | None, ...], what: str) -> Tensor:
    """A tensor of its own with the same numbers.

    Raises:
        ValueError: it has another shape (None takes any length), or a number is not finite.
    """
    fits = array.ndim == len(shape) and all(
        wanted is None or wanted == length
        for wanted, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{what} has shape {array.shape}, not {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"a number in {what} is not finite")
    return torch.tensor(array, dtype=torch.float32)


def padded(rows: Sequence[Tensor]) -> Tensor:
    """Stack tensors of different first dimension, filled up with zeros."""
    longest = max(len(row) for row in rows)
    stacked = rows[0].new_zeros((len(rows), longest, *rows[0].shape[1:]))
    for index, row in enumerate(rows):
        stacked[index, : len(row)] = row
    return stacked


def mask_of(rows: Sequence[Tensor]) -> Tensor:
    """[batch, rows]: 1 for real rows, 0 for the padding of `padded`."""
    return padded([row.new_ones(len(row)) for row in rows])
