"""The joint state as an array: what no agent sees, for centralised training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnagents.env.features import FloatArray, base_fee_scale, rate_scale, share
from lnagents.env.world import ChannelTruth
from lnagents.model.units import MSAT_PER_SAT

TruthArray: TypeAlias = NDArray[np.float32]

TRUTH_COLUMNS = (
    "balance_share",
    "capacity",
    "fee_rate1",
    "fee_rate2",
    "base_fee1",
    "base_fee2",
    "inbound_discount1",
    "inbound_discount2",
)
"""Share of the balance on the first node's side, log10 of the capacity in million sat, and the fees
of both sides on the scales of `lnagents.env.features`."""


def truth_array(channels: Sequence[ChannelTruth]) -> FloatArray:
    """[channels, `TRUTH_COLUMNS`]."""
    rows = [
        (
            share(one.balance1_msat, one.balance2_msat, 0.5),
            math.log10(max(1, one.capacity_msat) / (1_000_000 * MSAT_PER_SAT)),
            rate_scale(one.policy1.fee_rate_ppm),
            rate_scale(one.policy2.fee_rate_ppm),
            base_fee_scale(one.policy1.base_fee_msat),
            base_fee_scale(one.policy2.base_fee_msat),
            rate_scale(-one.policy1.inbound_fee_rate_ppm),
            rate_scale(-one.policy2.inbound_fee_rate_ppm),
        )
        for one in channels
    ]
    return np.array(rows, np.float32).reshape(len(rows), len(TRUTH_COLUMNS))
