"""What a node can tell about its neighbourhood, from what it sees itself: for mean-field learners.

The mean action and the mean state of those around it (Yang et al. 2018), as far as gossip and the
own channels show them. Sums are over integers, so neither padding nor the order of channels shows.
"""

from __future__ import annotations

import numpy as np

from lnagents.env.encoding import CHANNEL_FEATURE_NAMES, UNITY, Observation
from lnagents.env.features import FloatArray

NEIGHBOUR_FEATURES = (
    "peer_fee_rate",
    "peer_fee_rate_change",
    "competing_fee_rate",
    "competing_fee_rate_change",
    "peer_share",
    "capacity",
    "flow",
)
"""Each a mean over the own channels: the fee rates that peers announce (their last action) and by
how much they moved since the round before, the same of those who compete for the same peers, the
peers' share of the balances, capacity, and what flowed in both directions together. All on the
scales of `lnagents.env.encoding`."""

_COLUMN = {name: place for place, name in enumerate(CHANNEL_FEATURE_NAMES)}
_OF_LEVELS = [
    _COLUMN[name]
    for name in ("peer_fee_rate", "competing_fee_rate", "local_share", "capacity", "inflow")
]
_KNOWN = [_COLUMN["peer_known"], _COLUMN["competing_known"]]


def neighbourhood(channels: FloatArray, mask: FloatArray) -> FloatArray:
    """[…, 5], `NEIGHBOUR_FEATURES` without the changes.

    Args:
        channels: [..., channels, `CHANNEL_FEATURES`].
        mask: [..., channels], 1 for a channel.
    """
    shape = (*mask.shape, len(_OF_LEVELS))
    values, known = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for place, column in enumerate(_OF_LEVELS):
        values[..., place] = channels[..., column]
        known[..., place] = mask * channels[..., _KNOWN[place]] if place < len(_KNOWN) else mask
    values[..., 2] = np.float32(1.0) - values[..., 2]
    values[..., 4] += channels[..., _COLUMN["outflow"]]
    # Whole numbers, of which a double holds any sum exactly.
    parts = np.float64(UNITY) * values
    parts *= known
    total = np.rint(parts, out=parts).sum(-2) / UNITY
    average: FloatArray = (total / np.maximum(known.sum(-2), 1.0)).astype(np.float32)
    return average


def with_changes(levels: FloatArray, before: FloatArray | None) -> FloatArray:
    """[…, `NEIGHBOUR_FEATURES`]; nothing has changed if there was nothing `before`.

    Args:
        levels: [..., 5] of this round, see `neighbourhood`.
        before: the same of the round before.
    """
    changes = levels[..., :2] - (levels if before is None else before)[..., :2]
    parts = (levels[..., :1], changes[..., :1], levels[..., 1:2], changes[..., 1:], levels[..., 2:])
    return np.concatenate(parts, axis=-1)


class Neighbourhood:
    """What one node sees around it, round after round."""

    def __init__(self) -> None:
        self._before: FloatArray | None = None

    def look(self, observation: Observation) -> FloatArray:
        """[`NEIGHBOUR_FEATURES`]; once a round."""
        levels = neighbourhood(observation.channels, np.ones(len(observation.channels), np.float32))
        seen = with_changes(levels, self._before)
        self._before = levels
        return seen
