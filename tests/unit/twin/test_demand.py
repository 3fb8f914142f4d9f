from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from lnagents.model.generate import Shape, generate_topology
from lnagents.model.workload import (
    AmountSpec,
    FeeLimitSpec,
    PaymentIntent,
    draw_payments,
    parse_workload,
)
from lnagents.twin.demand import draw_amounts, draw_fee_limits, draw_traffic, to_traffic
from lnagents.twin.generate import barabasi_albert
from lnagents.twin.loaders import from_topology
from lnagents.twin.traffic import NO_LIMIT

RING = from_topology(generate_topology(Shape.RING, 4, 0))

WORKLOAD = """
name: some
demands: [{name: some, sources: [n0, n3], sinks: [n1, n3]}]
"""


def test_a_workload_becomes_the_same_payments() -> None:
    intents = draw_payments(parse_workload(WORKLOAD, "w"), 50, 3)
    traffic = to_traffic(intents, RING, max_parts=4, timeout=30.0, hold=2.0)
    assert len(traffic) == 50
    for index, intent in enumerate(intents):
        assert traffic.at[index] == intent.at_seconds
        assert RING.names[traffic.source[index]] == intent.source
        assert RING.names[traffic.target[index]] == intent.destination
        assert traffic.amount[index] == intent.amount_msat
        assert traffic.fee_limit[index] == intent.fee_limit_msat
    assert set(traffic.max_parts) == {4}
    assert set(traffic.timeout) == {30.0}
    assert set(traffic.hold) == {2.0}
    assert set(to_traffic(intents, RING, fee_limit=NO_LIMIT).fee_limit) == {NO_LIMIT}


def test_no_payments() -> None:
    assert len(to_traffic([], RING)) == 0
    assert len(draw_traffic(RING, 0, 0)) == 0


def test_a_payment_between_strangers() -> None:
    with pytest.raises(ValueError, match="the network has no node 'bob'"):
        to_traffic([PaymentIntent(0, 0.0, "n0", "bob", 1_000, 0)], RING)


def test_random_traffic() -> None:
    network = barabasi_albert(20, 0)
    traffic = draw_traffic(network, 20_000, 1, payments_per_second=50.0)
    again = draw_traffic(network, 20_000, 1, payments_per_second=50.0)
    for name in ("at", "source", "target", "amount", "fee_limit"):
        assert np.array_equal(getattr(traffic, name), getattr(again, name))
    assert not np.array_equal(traffic.source, draw_traffic(network, 20_000, 2).source)
    assert (np.diff(traffic.at) >= 0).all()
    assert traffic.at[-1] == pytest.approx(400, rel=0.05)
    pairs = Counter(zip(traffic.source.tolist(), traffic.target.tolist(), strict=True))
    assert len(pairs) == 20 * 19
    assert all(one != other for one, other in pairs)
    assert max(pairs.values()) < 2 * 20_000 / len(pairs)
    assert np.array_equal(traffic.fee_limit, np.maximum(10_000, traffic.amount // 20))


def test_weights_decide_who_pays_and_who_is_paid() -> None:
    traffic = draw_traffic(
        RING,
        30_000,
        1,
        source_weights=np.array([0.0, 1.0, 2.0, 0.0]),
        target_weights=np.array([0.0, 1.0, 0.0, 3.0]),
    )
    pairs = Counter(zip(traffic.source.tolist(), traffic.target.tolist(), strict=True))
    # Not from 1 to 1: of the products 3, 2 and 6 are left.
    weights = {(1, 3): 3, (2, 1): 2, (2, 3): 6}
    assert set(pairs) == set(weights)
    for pair, weight in weights.items():
        assert pairs[pair] == pytest.approx(30_000 * weight / 11, rel=0.05)


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ([1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], "nobody can pay"),
        ([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], "nobody can pay"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], "not one number for each of the 4 nodes"),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, -1.0], "not one number for each of the 4 nodes"),
    ],
)
def test_bad_weights(source: list[float], target: list[float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        draw_traffic(RING, 1, 0, source_weights=np.array(source), target_weights=np.array(target))


@pytest.mark.parametrize("kind", ["fixed", "log_normal", "log_uniform"])
def test_amounts_are_distributed_as_those_of_workloads(kind: str) -> None:
    spec = AmountSpec.model_validate({"kind": kind, "min_sat": 5_000, "max_sat": 100_000})
    many = draw_amounts(spec, 4_000, np.random.default_rng(0))
    rng = random.Random(0)
    one_by_one = [spec.draw(rng) for _ in range(4_000)]
    levels = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    assert np.quantile(many, levels) == pytest.approx(np.quantile(one_by_one, levels), rel=0.1)
    assert not (many % 1_000).any()


@pytest.mark.parametrize("kind", ["fixed", "log_normal"])
def test_fee_limits_are_distributed_as_those_of_workloads(kind: str) -> None:
    spec = FeeLimitSpec.model_validate(
        {"kind": kind, "median_ppm": 900, "sigma": 0.7, "floor_msat": 2_500}
    )
    amounts = draw_amounts(AmountSpec(), 4_000, np.random.default_rng(0))
    many = draw_fee_limits(spec, amounts, np.random.default_rng(1))
    rng = random.Random(1)
    one_by_one = [spec.draw(amount, rng) for amount in amounts.tolist()]
    levels = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95)
    assert np.quantile(many, levels) == pytest.approx(np.quantile(one_by_one, levels), rel=0.1)
    assert many.min() == 2_500
    if kind == "fixed":
        assert many.tolist() == one_by_one


def test_nobody_pays_more_in_fees_than_what_is_to_arrive() -> None:
    spec = FeeLimitSpec(kind="log_normal", median_ppm=900_000, sigma=3.0, floor_msat=0)
    amounts = np.full(500, 1_000_000)
    assert draw_fee_limits(spec, amounts, np.random.default_rng(0)).max() == 1_000_000
    rng = random.Random(0)
    assert max(spec.draw(1_000_000, rng) for _ in range(500)) == 1_000_000
