"""The joint state of a twin as an array, without an object per channel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lnagents.env.features import base_fee_scale, rate_scale, share
from lnagents.env.truth import TRUTH_COLUMNS
from lnagents.env.twin_world import TwinWorld  # its kernels let these functions be compiled
from lnagents.model.kernel import kernel
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.network import BASE_FEE, FEE_RATE, INBOUND_FEE_RATE

MSAT_PER_MILLION_SAT = 1_000_000 * MSAT_PER_SAT


def truth_rows(world: TwinWorld) -> NDArray[np.float32]:
    """[channels, `TRUTH_COLUMNS`], the first node being that of the twin's own arrays."""
    network, twin = world.network, world.twin
    rows = np.empty((network.channels, len(TRUTH_COLUMNS)), np.float32)
    _fill(network.capacity, twin.reported_balances(), twin.policies(), rows)
    return rows


@kernel
def _fill(
    capacity: NDArray[np.int64],
    balances: NDArray[np.int64],
    policies: NDArray[np.int64],
    rows: NDArray[np.float32],
) -> None:
    for channel in range(len(rows)):
        one, other = 2 * channel, 2 * channel + 1
        row = rows[channel]
        row[0] = share(float(balances[one]), float(balances[other]), 0.5)
        row[1] = math.log10(max(1, capacity[channel]) / MSAT_PER_MILLION_SAT)
        row[2] = rate_scale(policies[one, FEE_RATE])
        row[3] = rate_scale(policies[other, FEE_RATE])
        row[4] = base_fee_scale(policies[one, BASE_FEE])
        row[5] = base_fee_scale(policies[other, BASE_FEE])
        row[6] = rate_scale(-policies[one, INBOUND_FEE_RATE])
        row[7] = rate_scale(-policies[other, INBOUND_FEE_RATE])
