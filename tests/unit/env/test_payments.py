from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env.payments import (
    Demand,
    EpisodePayments,
    RandomDemand,
    RoundPayments,
    WorkloadDemand,
)
from lnagents.env.world import RoundPayment
from lnagents.model.errors import WorkloadError
from lnagents.model.workload import (
    AmountSpec,
    DemandSpec,
    FeeLimitSpec,
    PaymentIntent,
    Workload,
    draw_payments,
)

NAMES = ("a", "b", "c", "d")
LIMITS = FeeLimitSpec(kind="log_normal", median_ppm=2_000, floor_msat=0)
WORKLOAD = Workload(
    name="w",
    payments_per_second=3.0,
    demands=(DemandSpec(name="d", sources=NAMES, sinks=NAMES, fee_limit=LIMITS),),
)


def every_round(payments: EpisodePayments) -> list[RoundPayments]:
    return [payments.of_round(number) for number in range(len(payments.first) - 1)]


@given(st.integers(2, 30), st.integers(0, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_random_payments_are_possible_and_reproducible(
    nodes: int, count: int, rounds: int, seed: int
) -> None:
    names = tuple(f"n{index}" for index in range(nodes))
    demand = RandomDemand(count, AmountSpec(min_sat=5, max_sat=50, median_sat=20), 0.5, 0.5)
    drawn = demand.draw(names, rounds, 7.0, seed)
    again = demand.draw(names, rounds, 7.0, seed)
    for one, other in zip(every_round(drawn), every_round(again), strict=True):
        assert len(one) == count
        for name in ("at", "source", "target", "amount", "priority", "hop_by_hop"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
        assert (np.diff(one.at) >= 0).all()
        assert ((one.at >= 0) & (one.at < 7.0)).all()
        assert (one.source != one.target).all()
        assert ((one.target >= 0) & (one.target < nodes)).all()
        assert ((one.amount >= 5_000) & (one.amount <= 50_000)).all()


def test_every_pair_is_drawn_about_as_often() -> None:
    drawn = RandomDemand(6_000).draw(NAMES, 2, 1.0, 1)
    counts = np.bincount(drawn.source * 4 + drawn.target, minlength=16).reshape(4, 4)
    assert not counts.diagonal().any()
    others = counts[~np.eye(4, dtype=bool)]
    # Twelve pairs, 1,000 each on average; six standard deviations.
    assert (abs(others - 1_000) < 6 * 1_000**0.5).all()


def test_shares_are_kept() -> None:
    drawn = RandomDemand(5_000, priority_share=0.25, hop_by_hop_share=1.0).draw(NAMES, 1, 1.0, 1)
    assert 0.2 < drawn.priority.mean() < 0.3
    assert drawn.hop_by_hop.all()
    assert drawn.of_round(0).special
    assert not RandomDemand(5).draw(NAMES, 1, 1.0, 1).of_round(0).special


def test_a_workload_is_cut_into_rounds() -> None:
    drawn = WorkloadDemand(WORKLOAD).draw(NAMES, 5, 4.0, 3)
    expected = [one for one in draw_payments(WORKLOAD, 200, 3) if one.at_seconds < 20.0]
    found = [
        (number, payment.intent)
        for number, part in enumerate(every_round(drawn))
        for payment in part.requests(NAMES)
    ]
    assert len(found) == len(expected)
    for (number, one), other in zip(found, expected, strict=True):
        assert number == int(other.at_seconds // 4.0)
        assert number * 4.0 + one.at_seconds == pytest.approx(other.at_seconds)
        assert (one.source, one.destination) == (other.source, other.destination)
        assert one.amount_msat == other.amount_msat


def test_a_quiet_workload_has_empty_rounds() -> None:
    quiet = WORKLOAD.model_copy(update={"payments_per_second": 1e-6})
    drawn = WorkloadDemand(quiet).draw(NAMES, 3, 1.0, 0)
    assert [len(part) for part in every_round(drawn)] == [0, 0, 0]


def test_a_workload_of_other_nodes_is_refused() -> None:
    with pytest.raises(WorkloadError, match="unknown node 'd'"):
        WorkloadDemand(WORKLOAD).draw(NAMES[:3], 50, 4.0, 3)


@given(st.integers(0, 2**31))
def test_arrays_and_requests_say_the_same(seed: int) -> None:
    drawn = RandomDemand(9, AmountSpec(), 0.5, 0.5, LIMITS).draw(NAMES, 1, 3.0, seed).of_round(0)
    again = RoundPayments.of(drawn.requests(NAMES), NAMES)
    for name in ("at", "source", "target", "amount", "priority", "hop_by_hop", "fee_limit"):
        assert np.array_equal(getattr(drawn, name), getattr(again, name))


@pytest.mark.parametrize("demand", [RandomDemand(40, fee_limit=LIMITS), WorkloadDemand(WORKLOAD)])
def test_the_twin_gets_the_same_limits_as_live_senders(demand: Demand) -> None:
    drawn = demand.draw(NAMES, 1, 13.0, 0).of_round(0)
    traffic = drawn.traffic(2.5)
    live = [request.intent.fee_limit_msat for request in drawn.requests(NAMES)]
    assert traffic.fee_limit.tolist() == live
    assert len(set(live)) == len(live) > 10
    assert np.array_equal(traffic.at, drawn.at + 2.5)
    assert (traffic.max_parts == 1).all()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"payments_per_round": -1}, "payments_per_round: -1 is negative"),
        ({"priority_share": 1.5}, "priority_share: 1.5 is not between 0 and 1"),
        ({"hop_by_hop_share": -0.1}, "hop_by_hop_share: -0.1 is not between 0 and 1"),
    ],
)
def test_impossible_demands(arguments: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RandomDemand(**arguments)  # type: ignore[arg-type]


def test_nobody_can_pay_alone() -> None:
    with pytest.raises(ValueError, match="fewer than two nodes"):
        RandomDemand().draw(("a",), 1, 1.0, 0)
    with pytest.raises(ValueError, match="there is no node 'x'"):
        RoundPayments.of([RoundPayment(PaymentIntent(0, 0.0, "a", "x", 1_000, 0))], NAMES)
