"""Small networks and traffic for tests."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from lnagents.twin import Network, Traffic
from lnagents.twin.network import (
    BASE_FEE,
    FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    POLICY_COLUMNS,
    TIME_LOCK_DELTA,
)

MSAT = 1_000
CAPACITY = 1_000_000 * MSAT


def network(
    nodes: int,
    pairs: list[tuple[int, int]],
    *,
    capacity: int = CAPACITY,
    local_share: float = 0.5,
    base_fee: int = 1_000,
    fee_rate: int = 100,
) -> Network:
    """Channels between `pairs`, opened by the first of each, who has `local_share` of it."""
    count = len(pairs)
    local = int(capacity * local_share) // MSAT * MSAT
    policy = np.zeros((2 * count, POLICY_COLUMNS), dtype=np.int64)
    policy[:, BASE_FEE] = base_fee
    policy[:, FEE_RATE] = fee_rate
    policy[:, MIN_HTLC] = 1_000
    policy[:, MAX_HTLC] = capacity * 99 // 100
    policy[:, TIME_LOCK_DELTA] = 40
    return Network(
        names=tuple(f"n{node}" for node in range(nodes)),
        scids=np.arange(1, count + 1, dtype=np.int64),
        channel_nodes=np.array(pairs, dtype=np.int32),
        capacity=np.full(count, capacity, dtype=np.int64),
        opener=np.zeros(count, dtype=np.int8),
        balance=np.tile(np.array([local, capacity - local], dtype=np.int64), (count, 1)),
        policy=policy,
    )


def line(nodes: int, **options: float) -> Network:
    """n0 – n1 – … ; edge 2c leads from node c to node c + 1."""
    return network(nodes, [(node, node + 1) for node in range(nodes - 1)], **options)  # type: ignore[arg-type]


def random_network(rng: Generator, nodes: int, extra: int) -> Network:
    """A tree and some channels more, with random balances, fees and openers."""
    pairs = [(int(rng.integers(node)), node) for node in range(1, nodes)]
    for _ in range(extra):
        one, other = rng.choice(nodes, 2, replace=False)
        pairs.append((int(one), int(other)))
    drawn = network(nodes, pairs)
    count = len(pairs)
    share = rng.uniform(0.05, 0.95, count)
    drawn.balance[:, 0] = (drawn.capacity * share).astype(np.int64) // MSAT * MSAT
    drawn.balance[:, 1] = drawn.capacity - drawn.balance[:, 0]
    drawn.opener[:] = rng.integers(0, 2, count)
    drawn.policy[:, BASE_FEE] = rng.integers(0, 2_000, 2 * count)
    drawn.policy[:, FEE_RATE] = rng.integers(0, 2_000, 2 * count)
    return drawn


def random_traffic(rng: Generator, nodes: int, count: int, **options: object) -> Traffic:
    """Payments of up to half a channel, about one a second."""
    source = rng.integers(0, nodes, count)
    target = (source + rng.integers(1, nodes, count)) % nodes
    amount = np.exp(rng.uniform(np.log(1_000), np.log(500_000), count)).astype(np.int64) * MSAT
    at = np.cumsum(rng.exponential(1.0, count))
    return Traffic.of(at, source, target, amount, **options)  # type: ignore[arg-type]


def pay(source: int, target: int, amount: int, **options: object) -> Traffic:
    """One payment, now."""
    return Traffic.of(
        np.zeros(1),
        np.array([source]),
        np.array([target]),
        np.array([amount]),
        **options,  # type: ignore[arg-type]
    )
