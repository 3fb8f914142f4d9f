"""From who wants to pay whom to `Traffic`: the testbed's workloads, and large random demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lnagents.model.units import MSAT_PER_SAT
from lnagents.model.workload import (
    MAX_FEE_LIMIT_PPM,
    AmountSpec,
    FeeLimitSpec,
    PaymentIntent,
)
from lnagents.twin.network import FloatArray, Int32Array, Int64Array, Network
from lnagents.twin.traffic import Traffic


def to_traffic(
    intents: Sequence[PaymentIntent],
    network: Network,
    *,
    fee_limit: Int64Array | int | None = None,
    max_parts: int = 1,
    timeout: float = 60.0,
    hold: float = 0.0,
) -> Traffic:
    """Payments of a workload as the twin takes them.

    Args:
        intents: in the order in which they begin, as `draw_payments` gives them.
        network: whose nodes the payments name.
        fee_limit: msat, per payment or for all; None takes what the payments say.
        max_parts: of each payment.
        timeout: seconds after which no further attempt is made.
        hold: seconds for which receivers keep the HTLCs.

    Raises:
        ValueError: a payment names a node that the network does not have.
    """
    place = {name: index for index, name in enumerate(network.names)}
    try:
        source = [place[intent.source] for intent in intents]
        target = [place[intent.destination] for intent in intents]
    except KeyError as exc:
        raise ValueError(f"the network has no node {exc.args[0]!r}") from None
    return Traffic.of(
        at=np.array([intent.at_seconds for intent in intents], np.float64),
        source=np.array(source, np.int32),
        target=np.array(target, np.int32),
        amount=np.array([intent.amount_msat for intent in intents], np.int64),
        fee_limit=(
            np.array([intent.fee_limit_msat for intent in intents], np.int64)
            if fee_limit is None
            else fee_limit
        ),
        max_parts=max_parts,
        timeout=timeout,
        hold=hold,
    )


def draw_traffic(
    network: Network,
    count: int,
    seed: int,
    *,
    amount: AmountSpec | None = None,
    fee_limit: FeeLimitSpec | None = None,
    payments_per_second: float = 5.0,
    source_weights: FloatArray | None = None,
    target_weights: FloatArray | None = None,
    max_parts: int = 1,
) -> Traffic:
    """`count` payments, each from a random node to a random other one; Poisson arrivals.

    Args:
        network: whose nodes pay.
        count: how many payments.
        seed: the same arguments give the same payments.
        amount: None takes the distribution that workloads have unless they say otherwise.
        fee_limit: likewise.
        payments_per_second: over the whole network.
        source_weights: [nodes], how often each node pays, relative to the others; None: all alike.
        target_weights: the same for being paid; merchants have large ones.
        max_parts: of each payment.

    Raises:
        ValueError: there are not two nodes that could pay and be paid.
    """
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(1.0 / payments_per_second, count))
    source, target = _draw_ends(network.nodes, count, source_weights, target_weights, rng)
    amounts = draw_amounts(amount or AmountSpec(), count, rng)
    return Traffic.of(
        at=at,
        source=source,
        target=target,
        amount=amounts,
        fee_limit=draw_fee_limits(fee_limit or FeeLimitSpec(), amounts, rng),
        max_parts=max_parts,
    )


def _draw_ends(
    nodes: int,
    count: int,
    source_weights: FloatArray | None,
    target_weights: FloatArray | None,
    rng: np.random.Generator,
) -> tuple[Int32Array, Int32Array]:
    """Pairs of different nodes, each with a chance proportional to the product of the weights."""
    weights = [
        np.ones(nodes) if given is None else np.asarray(given, np.float64)
        for given in (source_weights, target_weights)
    ]
    if any(given.shape != (nodes,) or given.min(initial=0.0) < 0 for given in weights):
        raise ValueError(f"weights: not one number for each of the {nodes} nodes, 0 or more")
    of_pairs = weights[0].sum() * weights[1].sum() - weights[0] @ weights[1]
    if not of_pairs > 0:
        raise ValueError("nobody can pay: there are not two nodes that could pay and be paid")
    sums = [np.cumsum(given) for given in weights]
    ends = np.zeros((2, count), np.int32)
    missing = np.arange(count)
    while len(missing):
        for end, total in zip(ends, sums, strict=True):
            drawn = rng.random(len(missing)) * total[-1]
            end[missing] = np.searchsorted(total, drawn, side="right")
        missing = missing[ends[0, missing] == ends[1, missing]]
    return ends[0], ends[1]


def draw_fee_limits(spec: FeeLimitSpec, amount: Int64Array, rng: np.random.Generator) -> Int64Array:
    """What senders pay in fees for each amount at most, distributed as `FeeLimitSpec.draw` does."""
    rate = np.full(len(amount), spec.median_ppm, np.int64)
    if spec.kind == "log_normal":
        drawn = spec.median_ppm * np.exp(rng.normal(0.0, spec.sigma, len(amount)))
        rate = np.rint(np.minimum(drawn, MAX_FEE_LIMIT_PPM)).astype(np.int64)
    limits: Int64Array = np.maximum(spec.floor_msat, amount * rate // 1_000_000)
    return limits


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
