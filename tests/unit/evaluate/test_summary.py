"""The comparison of two runs tells better from worse, and neither from chance."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.evaluate.record import RunRecord
from lnagents.evaluate.summary import Comparison, compare, figures
from lnagents.model.payment import PaymentOutcome


def outcome(index: int, *, settled: bool = True, fee_msat: int = 1_000) -> PaymentOutcome:
    return PaymentOutcome(
        index=index,
        source="alice",
        destination="grace",
        amount_msat=1_000_000,
        settled=settled,
        fee_msat=fee_msat if settled else 0,
        attempts=1,
        failed_attempts=0 if settled else 1,
        started_at=float(index),
        seconds=0.25,
    )


def run(name: str, outcomes: list[PaymentOutcome]) -> RunRecord:
    return RunRecord(name=name, title=name, outcomes=outcomes)


def by_key(rows: tuple[Comparison, ...]) -> dict[str, Comparison]:
    return {row.key: row for row in rows}


def test_figures_of_a_known_run() -> None:
    found = figures(
        run("baseline", [outcome(0), outcome(1), outcome(2), outcome(3, settled=False)])
    )
    assert found["success_rate"] == 75.0
    assert found["volume_share"] == 75.0
    assert found["volume_sat"] == 3_000.0
    assert found["routing_fees_sat"] == 3.0
    assert found["fee_rate_ppm"] == 1_000.0
    assert found["failed_attempts"] == 0.25
    assert found["latency_ms"] == 250.0


def test_a_clear_difference_has_the_right_sign() -> None:
    baseline = run("baseline", [outcome(i, settled=i % 2 == 0) for i in range(100)])
    agents = run("agents", [outcome(i, fee_msat=2_000) for i in range(100)])
    rows = by_key(compare(baseline, agents, seed=1))
    assert rows["success_rate"].verdict == "better"
    assert rows["success_rate"].difference == 50.0
    assert rows["fee_rate_ppm"].verdict == "worse"  # senders paid more
    assert rows["failed_attempts"].verdict == "better"
    back = by_key(compare(agents, baseline, seed=1))
    assert back["success_rate"].verdict == "worse"


def test_the_same_run_twice_shows_no_difference() -> None:
    outcomes = [outcome(i, settled=i % 3 != 0) for i in range(60)]
    for row in compare(run("baseline", outcomes), run("agents", list(outcomes)), seed=2):
        assert row.difference == 0.0
        assert row.verdict == "no clear difference"


def test_order_of_arrival_does_not_matter() -> None:
    outcomes = [outcome(i, settled=i % 3 != 0, fee_msat=i) for i in range(60)]
    other = [replace(o, settled=True) for o in outcomes]
    forward = compare(run("baseline", outcomes), run("agents", other), seed=3)
    shuffled = compare(
        run("baseline", outcomes[::-1]), run("agents", other[7:] + other[:7]), seed=3
    )
    assert forward == shuffled


def test_runs_of_different_payments_are_refused() -> None:
    with pytest.raises(ValueError, match="same payments"):
        compare(run("baseline", [outcome(0)]), run("agents", [outcome(1)]), seed=0)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 2**31))
def test_the_interval_is_ordered_and_the_difference_is_exact(
    settled: list[bool], seed: int
) -> None:
    baseline = run("baseline", [outcome(i, settled=s) for i, s in enumerate(settled)])
    agents = run("agents", [outcome(i) for i in range(len(settled))])
    row = by_key(compare(baseline, agents, seed))["success_rate"]
    assert row.low <= row.high
    assert math.isclose(row.difference, 100.0 - 100.0 * sum(settled) / len(settled))
