"""Which part of an agent's reward is due to which of its channels, from what it sees of them."""

from __future__ import annotations

import numpy as np

from lnagents.env.arrays import RoundArrays
from lnagents.env.encoding import CHANNEL_FEATURE_NAMES
from lnagents.env.features import FloatArray, count_of, flow_of, money_of
from lnagents.env.reward import RewardWeights

_COLUMNS = ("local_share", "capacity", "outflow", "fees_earned", "forwards", "failed_share")
_LOCAL_SHARE, _CAPACITY, _OUTFLOW, _FEES_EARNED, _FORWARDS, _FAILED_SHARE = (
    CHANNEL_FEATURE_NAMES.index(name) for name in _COLUMNS
)


def channel_worth(arrays: RoundArrays, weights: RewardWeights) -> FloatArray:
    """[batch, agents, rows] in msat: what a channel earned, carried and did for the network.

    Terms that are not due to a channel (own payments, hints) are left out.

    Args:
        arrays: of a round, with the batch first.
        weights: of the reward's terms.
    """
    rows = arrays.channels
    worth = np.float32(weights.fees_earned) * money_of(rows[..., _FEES_EARNED])
    if weights.forwarded_ppm:
        carried = flow_of(rows[..., _OUTFLOW], rows[..., _CAPACITY])
        worth += np.float32(1e-6 * weights.forwarded_ppm) * carried
    if weights.network_term_msat:
        worth += np.float32(weights.network_term_msat) * network_parts(arrays)
    return worth


def network_parts(arrays: RoundArrays) -> FloatArray:
    """[batch, agents, rows], what a channel adds to its node's `network_share`, as far as it does.

    That is its part of the evenness, less its part of the forwards that failed; both count half.
    How many failed comes from their share: where none settled it counts as one.
    """
    rows, mask = arrays.channels, arrays.channel_mask.astype(np.float32)
    capacity = 10.0 ** rows[..., _CAPACITY] * mask
    even = 1.0 - np.abs(2.0 * rows[..., _LOCAL_SHARE] - 1.0)
    even = even * capacity / np.maximum(capacity.sum(-1, keepdims=True), 1e-9)
    settled, share = count_of(rows[..., _FORWARDS]) * mask, rows[..., _FAILED_SHARE]
    failed = np.where(share < 1.0, settled * share / np.maximum(1.0 - share, 1e-6), 1.0) * mask
    tried = (settled + failed).sum(-1, keepdims=True)
    parts: FloatArray = (0.5 * (even - failed / np.maximum(tried, 1.0))).astype(np.float32)
    return parts
