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
from lnagents.twin import figures
from lnagents.twin.balances import BalanceSettings, draw_balances
from lnagents.twin.loaders import FIRST_BLOCK, RESERVE_DIVISOR
from lnagents.twin.network import (
    BASE_FEE,
    DISABLED,
    FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    POLICY_COLUMNS,
    TIME_LOCK_DELTA,
    FloatArray,
    Int32Array,
    Int64Array,
    Network,
)

_ROUNDS = 20
"""After so many a small network's largest nodes know everybody, and nothing new is drawn."""


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


def mainnet_like(
    nodes: int, seed: int, *, disabled: bool = True, balances: BalanceSettings | None = None
) -> Network:
    """A connected network whose figures are those of the public one, see `figures`.

    Sizes of nodes and channels, policies, and what is disabled are distributed as there; large
    channels tend to join large nodes, and a node's fee rates resemble each other.

    Args:
        nodes: how many, named n0 (the one with the most channels), n1, …
        seed: of all that is drawn; the same arguments give the same network.
        disabled: False leaves all directions enabled.
        balances: how channels are split; None takes the default, uniformly.

    Raises:
        ValueError: there are fewer than two nodes.
    """
    if nodes < 2:
        raise ValueError(f"nodes: {nodes} is less than 2")
    rng = np.random.default_rng(seed)
    pairs = _join_by_size(nodes, rng)
    count = len(pairs)
    size = np.bincount(pairs.reshape(-1), minlength=nodes)
    smaller = _score(size[pairs].min(axis=1), rng)
    capacity_share = _shares(smaller, figures.CAPACITY_BY_DEGREE, rng)
    capacity_sat = _whole(figures.CAPACITY_SAT, capacity_share)
    nodes_score = rng.standard_normal(nodes)
    rate_share = _shares(nodes_score[pairs.reshape(-1)], figures.FEE_RATE_BY_NODE, rng)
    policy = np.zeros((2 * count, POLICY_COLUMNS), np.int64)
    policy[:, FEE_RATE] = _whole(figures.FEE_RATE_PPM, rate_share)
    for column, points in (
        (BASE_FEE, figures.BASE_FEE_MSAT),
        (TIME_LOCK_DELTA, figures.TIME_LOCK_DELTA),
        (MIN_HTLC, figures.MIN_HTLC_MSAT),
        (MAX_HTLC, figures.MAX_HTLC_PER_MILLION),
    ):
        policy[:, column] = _whole(points, rng.random(2 * count))
    # Parts per million of so many satoshi, in msat.
    policy[:, MAX_HTLC] = policy[:, MAX_HTLC] * np.repeat(capacity_sat, 2) // 1_000
    if disabled:
        share = rng.random(count)
        both = share < figures.BOTH_DISABLED
        one = ~both & (share < figures.BOTH_DISABLED + figures.ONE_DISABLED)
        side = rng.integers(0, 2, count)
        policy[0::2, DISABLED] = both | (one & (side == 0))
        policy[1::2, DISABLED] = both | (one & (side == 1))
    return _network(nodes, pairs, capacity_sat * MSAT_PER_SAT, policy, balances, rng)


def _join_by_size(nodes: int, rng: np.random.Generator) -> Int32Array:
    """Channels between nodes of the wanted sizes, [channels, 2]; all nodes are connected.

    Every node but the first joins one that comes before it, chosen in proportion to the wanted
    sizes. What the sizes still lack then is made up by channels between any two nodes, and at last
    some pairs get a second channel.
    """
    share = (np.arange(nodes, 0, -1) - 0.5) / nodes
    wanted = np.minimum(figures.quantile(figures.CHANNELS_PER_NODE, share), nodes - 1)
    before = np.cumsum(wanted)
    newcomer = np.arange(1, nodes)
    joined = np.searchsorted(before, rng.random(nodes - 1) * before[:-1], side="right")
    size = np.bincount(newcomer, minlength=nodes) + np.bincount(joined, minlength=nodes)
    lacking = np.cumsum(np.maximum(wanted - size, 0.0))
    pairs = np.stack([joined, newcomer], axis=1)
    channels = round(wanted.sum() / 2)
    parallel = round(channels * figures.PARALLEL)
    for _ in range(_ROUNDS):
        missing = channels - parallel - len(pairs)
        if missing <= 0 or lacking[-1] == 0:
            break
        ends = np.searchsorted(lacking, rng.random((missing, 2)) * lacking[-1], side="right")
        ends = np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1)
        pairs = np.concatenate([pairs, ends])
        # In the order in which they were drawn, or the last to go would be the large nodes'.
        pairs = pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]
    again = pairs[rng.integers(0, len(pairs), parallel)]
    return np.concatenate([pairs, again]).astype(np.int32)


def _shares(cause: FloatArray, correlation: float, rng: np.random.Generator) -> FloatArray:
    """A share in (0, 1) for each element of `cause`, uniform over all and correlated with it."""
    noise = rng.standard_normal(len(cause))
    return _ranks(correlation * cause + math.sqrt(1.0 - correlation**2) * noise)


def _score(values: Int64Array, rng: np.random.Generator) -> FloatArray:
    """Values as normally distributed scores in the same order; equal ones in any order."""
    order = np.lexsort((rng.random(len(values)), values))
    score = np.empty(len(values))
    score[order] = np.sort(rng.standard_normal(len(values)))
    return score


def _ranks(values: FloatArray) -> FloatArray:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / len(values)
    return ranks


def _whole(points: figures.Points, share: FloatArray) -> Int64Array:
    return np.rint(figures.quantile(points, share)).astype(np.int64)


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
