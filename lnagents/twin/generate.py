"""Large networks drawn from a seed, straight into arrays."""

from __future__ import annotations

import math
import random

import numpy as np

from lnagents.model.generate import (
    BASE_FEES_MSAT,
    CAPACITY_SAT,
    FEE_RATE_PPM,
    join_barabasi_albert,
)
from lnagents.model.topology import PolicySpec
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.balances import BalanceSettings, draw_balances
from lnagents.twin.loaders import FIRST_BLOCK, RESERVE_DIVISOR
from lnagents.twin.network import (
    BASE_FEE,
    FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    POLICY_COLUMNS,
    TIME_LOCK_DELTA,
    Int32Array,
    Int64Array,
    Network,
)


def barabasi_albert(
    nodes: int, seed: int, *, degree: int = 5, balances: BalanceSettings | None = None
) -> Network:
    """A Barabási-Albert network: newcomers open `degree` channels, rather to well-connected nodes.

    Capacities, fees and openers are drawn as `lnagents.model.generate` does it.

    Args:
        nodes: how many, named n0, n1, …
        seed: of all that is drawn; the same arguments give the same network.
        degree: channels of each newcomer.
        balances: how channels are split; None takes the default, uniformly.

    Raises:
        ValueError: `degree` is not between 1 and `nodes` - 1.
    """
    if not 1 <= degree < nodes:
        raise ValueError(f"degree: {degree} is not between 1 and {nodes - 1}")
    pairs = join_barabasi_albert(nodes, degree, random.Random(seed))  # noqa: S311 - not secret
    rng = np.random.default_rng(seed)
    count = len(pairs)
    capacity_sat = _log_uniform(CAPACITY_SAT, count, rng)
    policy = np.zeros((2 * count, POLICY_COLUMNS), np.int64)
    policy[:, BASE_FEE] = rng.choice(BASE_FEES_MSAT, 2 * count)
    policy[:, FEE_RATE] = _log_uniform(FEE_RATE_PPM, 2 * count, rng)
    policy[:, MIN_HTLC] = PolicySpec().min_htlc_msat
    policy[:, MAX_HTLC] = np.repeat(capacity_sat - capacity_sat // RESERVE_DIVISOR, 2)
    policy[:, MAX_HTLC] *= MSAT_PER_SAT
    policy[:, TIME_LOCK_DELTA] = PolicySpec().time_lock_delta
    return _network(
        nodes, np.array(pairs, np.int32), capacity_sat * MSAT_PER_SAT, policy, balances, rng
    )


def _network(
    nodes: int,
    channel_nodes: Int32Array,
    capacity: Int64Array,
    policy: Int64Array,
    balances: BalanceSettings | None,
    rng: np.random.Generator,
) -> Network:
    count = len(capacity)
    opener = rng.integers(0, 2, count, np.int8)
    return Network(
        names=tuple(f"n{index}" for index in range(nodes)),
        scids=(FIRST_BLOCK << 40) + (np.arange(count, dtype=np.int64) << 16),
        channel_nodes=channel_nodes,
        capacity=capacity,
        opener=opener,
        balance=draw_balances(capacity, opener, balances or BalanceSettings(), rng),
        policy=policy,
    )


def _log_uniform(bounds: tuple[int, int], count: int, rng: np.random.Generator) -> Int64Array:
    low, high = bounds
    drawn = np.exp(rng.uniform(math.log(low), math.log(high), count))
    return np.clip(np.rint(drawn).astype(np.int64), low, high)
