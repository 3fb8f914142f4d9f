"""Figures of the public Lightning network, to draw networks from that look like it.

All are of the 17,324 nodes and 50,808 channels that gossip told on 3 February 2026 (the gossip
store that Core Lightning ships as test data); those of policies are over enabled directions.
A distribution is a list of points (share of the values that are at most this, value), read as
straight lines between them on a logarithmic axis. Two points with one value are a step: that many
channels have exactly this value.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from lnagents.twin.network import FloatArray

Points: TypeAlias = tuple[tuple[float, float], ...]

CHANNELS_PER_NODE: Points = (
    (0.0, 1),
    (0.542, 1),
    (0.707, 2),
    (0.784, 3),
    (0.827, 4),
    (0.9, 8),
    (0.95, 17),
    (0.97, 31),
    (0.98, 45),
    (0.99, 74),
    (0.995, 130),
    (0.998, 224),
    (0.999, 432),
    (0.9995, 652),
    (1.0, 1_989),
)
PARALLEL = 0.058
"""Share of the channels that join two nodes that another one joins already."""
CAPACITY_SAT: Points = (
    (0.0, 1_050),
    (0.01, 1_500),
    (0.039, 20_000),
    (0.107, 20_000),
    (0.18, 100_000),
    (0.225, 100_000),
    (0.25, 200_000),
    (0.358, 500_000),
    (0.387, 1_000_000),
    (0.48, 1_000_000),
    (0.5, 1_283_178),
    (0.526, 2_000_000),
    (0.586, 2_000_000),
    (0.687, 5_000_000),
    (0.76, 5_000_000),
    (0.808, 10_000_000),
    (0.873, 10_000_000),
    (0.9, 15_653_158),
    (0.95, 40_000_000),
    (0.99, 200_000_000),
    (0.999, 500_000_000),
    (1.0, 1_000_000_000),
)
FEE_RATE_PPM: Points = (
    (0.0, 0),
    (0.069, 0),
    (0.07, 1),
    (0.291, 1),
    (0.3, 3),
    (0.4, 33),
    (0.5, 100),
    (0.6, 262),
    (0.7, 500),
    (0.75, 569),
    (0.8, 960),
    (0.9, 2_000),
    (0.95, 3_000),
    (0.99, 10_000),
    (0.999, 50_000),
    (1.0, 1_000_000),
)
BASE_FEE_MSAT: Points = (
    (0.0, 0),
    (0.453, 0),
    (0.454, 1),
    (0.48, 1),
    (0.5, 33),
    (0.52, 200),
    (0.54, 500),
    (0.553, 990),
    (0.554, 1_000),
    (0.962, 1_000),
    (0.97, 2_000),
    (0.98, 5_000),
    (0.99, 10_000),
    (0.999, 9_999_000),
    (1.0, 10_000_000),
)
TIME_LOCK_DELTA: Points = (
    (0.0, 6),
    (0.002, 18),
    (0.025, 18),
    (0.03, 34),
    (0.095, 34),
    (0.097, 40),
    (0.266, 40),
    (0.296, 80),
    (0.677, 80),
    (0.684, 100),
    (0.796, 100),
    (0.81, 144),
    (0.987, 144),
    (0.99, 200),
    (0.999, 400),
    (1.0, 1_444),
)
MIN_HTLC_MSAT: Points = (
    (0.0, 0),
    (0.017, 0),
    (0.018, 1),
    (0.119, 1),
    (0.126, 1_000),
    (0.911, 1_000),
    (0.95, 100_000),
    (0.99, 1_000_000),
    (0.999, 10_000_000),
    (1.0, 100_000_000),
)
MAX_HTLC_PER_MILLION: Points = (
    (0.0, 100),
    (0.01, 1_000),
    (0.02, 10_107),
    (0.05, 200_000),
    (0.083, 450_000),
    (0.114, 450_000),
    (0.12, 500_000),
    (0.15, 833_000),
    (0.19, 990_000),
    (0.92, 990_000),
    (0.93, 1_000_000),
    (1.0, 1_000_000),
)
"""Of the capacity."""

BOTH_DISABLED = 0.333
"""Share of the channels with both directions disabled; of those with one, see next."""
ONE_DISABLED = 0.039

CAPACITY_BY_DEGREE = 0.64
"""Correlation of a channel's rank by capacity with its rank by the smaller of the two numbers of
channels that its nodes have: large channels join large nodes."""
FEE_RATE_BY_NODE = 0.53
"""Correlation of a direction's rank by fee rate with what its node has in all its channels. 29 % of
the variance of the logarithm lies between nodes, and this is its square root."""


def quantile(points: Points, share: FloatArray) -> FloatArray:
    """The value that `share` of all values are at most equal to, for each share in [0, 1]."""
    levels, values = np.array(points, np.float64).T
    return np.asarray(np.expm1(np.interp(share, levels, np.log1p(values))), np.float64)
