"""Agents whose levels are linear in what they see: as simple as rules, and easily searched.

Such a rule sees what trained actors see, acts as they do, and works wherever there is a
`NodeView`. `balance_rule` has the numbers of those that go by balance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lnagents.env.encoding import (
    ACTION_NAMES,
    CHANNEL_FEATURE_NAMES,
    NODE_FEATURE_NAMES,
    Observation,
    encode,
)
from lnagents.env.features import NATS_PER_RATE, FloatArray
from lnagents.env.fees import NATS_PER_LEVEL, FeeBounds, decode
from lnagents.model.view import NodeDecision, NodeView

CONSTANT = "constant"
"""Among the weights of an action: what is added whatever is seen."""

OF_NODE = "node."
"""Before the name of a feature of the node as a whole."""

FEATURES = (CONSTANT, *CHANNEL_FEATURE_NAMES, *(OF_NODE + name for name in NODE_FEATURE_NAMES))
"""What weights can be of."""

Weights: TypeAlias = Mapping[str, Mapping[str, float]]
"""By action, the weight of each feature; what is not named weighs nothing."""

HIGHEST_LEVEL = 0.95
"""Levels are cut off here, as those of trained actors in practice are."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearLevels:
    """Weights as arrays."""

    rows: FloatArray
    """[`CHANNEL_FEATURES`, `ACTION_NAMES`]."""
    node: FloatArray
    """[`NODE_FEATURES`, `ACTION_NAMES`]."""
    constant: FloatArray
    """[`ACTION_NAMES`]."""

    @classmethod
    def of(cls, weights: Weights) -> LinearLevels:
        """The same as arrays.

        Raises:
            ValueError: there is no such action or feature.
        """
        table = np.zeros((len(FEATURES), len(ACTION_NAMES)), np.float32)
        for action, parts in weights.items():
            if action not in ACTION_NAMES:
                raise ValueError(f"{action!r} is none of {', '.join(ACTION_NAMES)}")
            for feature, weight in parts.items():
                if feature not in FEATURES:
                    raise ValueError(f"{action}: {feature!r} is none of {', '.join(FEATURES)}")
                table[FEATURES.index(feature), ACTION_NAMES.index(action)] = weight
        rows = 1 + len(CHANNEL_FEATURE_NAMES)
        return cls(table[1:rows], table[rows:], table[0])

    def levels(self, channels: FloatArray, node: FloatArray) -> FloatArray:
        """[..., channels, `ACTION_NAMES`].

        Args:
            channels: [..., channels, `CHANNEL_FEATURES`].
            node: [..., `NODE_FEATURES`].
        """
        # Sums of the same products in the same order, whatever the shape: the twin's arrays and a
        # single view give the same levels.
        whole = (node[..., :, None] * self.node).sum(-2) + self.constant
        own = (channels[..., :, None] * self.rows).sum(-2)
        levels: FloatArray = np.clip(own + whole[..., None, :], -HIGHEST_LEVEL, HIGHEST_LEVEL)
        return levels


class LinearRule:
    """A heuristic agent with such levels."""

    def __init__(self, weights: Weights, bounds: FeeBounds | None = None) -> None:
        """A rule that stays within `bounds`.

        Raises:
            ValueError: there is no such action or feature.
        """
        self._levels = LinearLevels.of(weights)
        self._bounds = bounds or FeeBounds()

    def act(self, view: NodeView) -> NodeDecision:
        """New fees of the channels that are to change."""
        seen: Observation = encode(view)
        return decode(view, self._levels.levels(seen.channels, seen.node), self._bounds)


def balance_rule(middle_ppm: float, span: float) -> Weights:
    """`middle_ppm` for an even channel, `span` times as much for an empty one as for a full one.

    As `SteepBalance`, but for what actions cannot do: rates move at most by a factor of 2 a round,
    and stay within a factor of about 80 of what was found. Hardly any base fee.
    """
    steepness = math.log(span) / NATS_PER_LEVEL
    return {
        "fee_rate": {
            CONSTANT: math.log(middle_ppm) / NATS_PER_LEVEL + steepness / 2,
            "local_share": -steepness,
            # Levels are around the fee that was found, which this takes out.
            "found_fee_rate": -NATS_PER_RATE / NATS_PER_LEVEL,
        },
        "base_fee": {CONSTANT: -0.9},
    }
