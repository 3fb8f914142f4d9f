"""From who wants to pay whom to `Traffic`: the testbed's workloads, and large random demand."""

from __future__ import annotations

import numpy as np

from lnagents.model.units import MSAT_PER_SAT
from lnagents.model.workload import AmountSpec
from lnagents.twin.network import FloatArray, Int64Array, Network
from lnagents.twin.traffic import Traffic


def draw_traffic(
    network: Network,
    count: int,
    seed: int,
    *,
    amount: AmountSpec | None = None,
    payments_per_second: float = 5.0,
) -> Traffic:
    """`count` payments, each from a random node to a random other one; Poisson arrivals.

    Args:
        network: whose nodes pay.
        count: how many payments.
        seed: the same arguments give the same payments.
        amount: None takes the distribution that workloads have unless they say otherwise.
        payments_per_second: over the whole network.

    Raises:
        ValueError: there are fewer than two nodes.
    """
    if network.nodes < 2:
        raise ValueError("nobody can pay in a network of fewer than two nodes")
    rng = np.random.default_rng(seed)
    source = rng.integers(0, network.nodes, count, np.int32)
    # One of the other nodes: those from the source on are shifted by one.
    target = rng.integers(0, network.nodes - 1, count, np.int32)
    target += target >= source
    return Traffic.of(
        at=np.cumsum(rng.exponential(1.0 / payments_per_second, count)),
        source=source,
        target=target,
        amount=draw_amounts(amount or AmountSpec(), count, rng),
    )


def draw_amounts(spec: AmountSpec, count: int, rng: np.random.Generator) -> Int64Array:
    """`count` amounts in msat, distributed as `AmountSpec.draw` does it."""
    sat: FloatArray
    if spec.kind == "fixed":
        sat = np.full(count, float(spec.median_sat))
    elif spec.kind == "log_normal":
        sat = spec.median_sat * np.exp(rng.normal(0.0, spec.sigma, count))
    else:
        sat = np.exp(rng.uniform(np.log(spec.min_sat), np.log(spec.max_sat), count))
    whole = np.clip(np.rint(sat), spec.min_sat, spec.max_sat).astype(np.int64)
    return whole * np.int64(MSAT_PER_SAT)
