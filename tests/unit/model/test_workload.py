from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.model.errors import WorkloadError
from lnagents.model.topology import parse_topology
from lnagents.model.workload import AmountSpec, Workload, draw_payments, parse_workload

REGTEST = Path(__file__).parents[3] / "regtest"

GOOD = """
name: two-ways
payments_per_second: 4
demands:
  - {name: out, sources: [a, b], sinks: [b, c], weight: 3}
  - {name: back, sources: [c], sinks: [a], amount: {kind: fixed, median_sat: 7000}}
"""

LOG_NORMAL = "{kind: log_normal, median_ppm: 1000, sigma: 0.5, floor_msat: 300}"


@pytest.fixture
def workload() -> Workload:
    return parse_workload(GOOD, "w.yaml")


@given(st.integers(0, 2**64), st.integers(0, 60))
def test_payments_are_a_function_of_the_seed(seed: int, count: int) -> None:
    workload = parse_workload(GOOD, "w.yaml")
    payments = draw_payments(workload, count, seed)
    assert payments == draw_payments(workload, count, seed)
    assert payments == draw_payments(workload, count + 5, seed)[:count]
    assert [payment.index for payment in payments] == list(range(count))


def test_seeds_differ(workload: Workload) -> None:
    assert draw_payments(workload, 20, 1) != draw_payments(workload, 20, 2)


def test_what_is_drawn_is_what_was_asked_for(workload: Workload) -> None:
    payments = draw_payments(workload, 4_000, 0)
    times = [payment.at_seconds for payment in payments]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(1_000, rel=0.1)
    pairs = {(payment.source, payment.destination) for payment in payments}
    assert pairs == {("a", "b"), ("a", "c"), ("b", "c"), ("c", "a")}
    back = [payment for payment in payments if payment.source == "c"]
    assert len(back) == pytest.approx(1_000, rel=0.1)
    assert {payment.amount_msat for payment in back} == {7_000_000}


@given(
    st.sampled_from(["fixed", "log_normal", "log_uniform"]),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.floats(0, 5),
    st.integers(0, 2**32),
)
def test_amounts_stay_within_their_bounds(
    kind: str, one: int, other: int, sigma: float, seed: int
) -> None:
    low, high = sorted((one, other))
    spec = AmountSpec.model_validate(
        {"kind": kind, "min_sat": low, "max_sat": high, "sigma": sigma}
    )
    amount = spec.draw(random.Random(seed))
    assert low * 1_000 <= amount <= high * 1_000
    assert amount % 1_000 == 0


def bad(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (bad("name: two-ways", "name: x\nrate: 3"), "rate: unknown key"),
        (bad("payments_per_second: 4", "payments_per_second: 0"), "payments_per_second: input"),
        (bad("sinks: [a]", "sinks: []"), "demands[1].sinks: tuple should have at least 1 item"),
        (bad("name: two-ways\n", ""), "name: missing"),
        (bad("sinks: [a], ", ""), "demands[1]: demand 'back' has neither sinks nor a circle"),
        (
            bad("sinks: [a]", "circle: [a, b]"),
            "demands[1]: demand 'back' has a circle and needs no sources or sinks",
        ),
        (
            bad("sources: [c], sinks: [a]", "circle: [a, b, a]"),
            "demands[1]: demand 'back' has a node twice in its circle",
        ),
        (
            bad("sinks: [a]", "sinks: [a], sink_weights: {b: 2}"),
            "demands[1]: demand 'back' weighs 'b' in sink_weights, which it does not name",
        ),
        (
            bad("sinks: [a]", "sinks: [a], source_weights: {c: 0}"),
            "demands[1].source_weights.c: input should be greater than 0",
        ),
        (
            bad("payments_per_second: 4", "bursts: {seconds: 60, every_seconds: 60}"),
            "bursts: seconds 60 is not below every_seconds 60",
        ),
        (
            bad("sinks: [a]", "sinks: [c]"),
            "demands[1]: demand 'back' pays only from a node to itself",
        ),
        (
            bad("kind: fixed", "min_sat: 5, max_sat: 4"),
            "demands[1].amount: min_sat 5 is above max_sat 4",
        ),
    ],
)
def test_bad_files_get_one_sentence_with_file_and_key(text: str, problem: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        parse_workload(text, "w.yaml")
    assert str(caught.value).startswith(f"w.yaml: {problem}")


def test_a_workload_must_fit_its_topology(workload: Workload) -> None:
    text = "name: pair\nnodes: [{name: a}, {name: b}]"
    with pytest.raises(WorkloadError) as caught:
        workload.check_against(parse_topology(text, "t.yaml"), "w.yaml")
    problem = "w.yaml: demands[0].sinks: unknown node 'c' in topology 'pair'"
    assert str(caught.value) == problem


def test_a_circle_must_fit_its_topology() -> None:
    text = bad("sources: [c], sinks: [a]", "circle: [a, c]")
    topology = parse_topology("name: pair\nnodes: [{name: a}, {name: b}]", "t.yaml")
    with pytest.raises(WorkloadError) as caught:
        parse_workload(text.replace("sinks: [b, c]", "sinks: [b]"), "w").check_against(
            topology, "w"
        )
    assert str(caught.value) == "w: demands[1].circle: unknown node 'c' in topology 'pair'"


CIRCLE = """
name: round
demands: [{name: round, circle: [a, b, c], amount: {kind: fixed, median_sat: 5000}}]
"""


def test_a_circle_moves_no_money_in_the_long_run() -> None:
    payments = draw_payments(parse_workload(CIRCLE, "w.yaml"), 6_000, 0)
    pairs = Counter((payment.source, payment.destination) for payment in payments)
    assert set(pairs) == {("a", "b"), ("b", "c"), ("c", "a")}
    assert all(count == pytest.approx(2_000, rel=0.08) for count in pairs.values())


MERCHANTS = """
name: shops
demands:
  - {name: shops, sources: [a, b], sinks: [a, c, d], source_weights: {b: 3}, sink_weights: {c: 4}}
"""


def test_merchants_with_more_weight_are_paid_more_often() -> None:
    payments = draw_payments(parse_workload(MERCHANTS, "w.yaml"), 10_000, 0)
    pairs = Counter((payment.source, payment.destination) for payment in payments)
    weights = {("a", "c"): 4, ("a", "d"): 1, ("b", "a"): 3, ("b", "c"): 12, ("b", "d"): 3}
    assert set(pairs) == set(weights)
    for pair, weight in weights.items():
        expected = 10_000 * weight / sum(weights.values())
        assert pairs[pair] == pytest.approx(expected, abs=4 * expected**0.5)


BURSTS = CIRCLE + "payments_per_second: 2\nbursts: {factor: 10, seconds: 20, every_seconds: 200}\n"


def test_bursts_keep_the_mean_rate_and_crowd_payments() -> None:
    workload = parse_workload(BURSTS, "w.yaml")
    payments = draw_payments(workload, 60_000, 1)
    assert payments == draw_payments(workload, 60_000, 1)
    assert payments[:100] == draw_payments(workload, 100, 1)
    times = [payment.at_seconds for payment in payments]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(30_000, rel=0.1)
    counts = Counter(int(time // 5) for time in times)
    spans = int(times[-1] // 5)
    busy = sum(count > 30 for count in counts.values())
    # A tenth of the time is 10 times as busy as the rest: 2 * 1000 / 1900 and 10 times that, per s.
    assert busy / spans == pytest.approx(0.1, abs=0.03)
    calm = [counts[span] for span in range(spans) if counts[span] <= 20]
    assert sum(calm) / len(calm) == pytest.approx(5 * 2 / 1.9, rel=0.1)


@pytest.mark.parametrize("name", sorted(path.stem for path in (REGTEST / "workloads").iterdir()))
def test_the_workloads_that_come_along_fit_the_default_topology(name: str) -> None:
    topology = parse_topology((REGTEST / "topologies/default.yaml").read_text(), "default.yaml")
    workload = parse_workload((REGTEST / f"workloads/{name}.yaml").read_text(), name)
    workload.check_against(topology, name)
    assert workload.name == name


def test_the_default_workload_moves_as_much_back_as_forth() -> None:
    workload = parse_workload((REGTEST / "workloads/default.yaml").read_text(), "default.yaml")
    forth = back = 0
    for payment in draw_payments(workload, 20_000, 1):
        if payment.destination in ("frank", "grace"):
            forth += payment.amount_msat
        elif payment.source in ("frank", "grace"):
            back += payment.amount_msat
    assert 0.8 < back / forth < 1.25


def test_fee_limits_unless_a_workload_says_otherwise(workload: Workload) -> None:
    for payment in draw_payments(workload, 300, 0):
        assert payment.fee_limit_msat == max(10_000, payment.amount_msat // 20)


def test_a_demand_has_its_own_fee_limits() -> None:
    text = GOOD.replace("median_sat: 7000}", f"median_sat: 7000}}, fee_limit: {LOG_NORMAL}")
    payments = draw_payments(parse_workload(text, "w.yaml"), 4_000, 0)
    limits = sorted(one.fee_limit_msat for one in payments if one.source == "c")
    assert limits[0] >= 300
    assert limits[len(limits) // 2] == pytest.approx(7_000, rel=0.1)
    assert {one.fee_limit_msat for one in payments if one.source != "c"}.isdisjoint(limits[:10])


def test_a_fee_limit_that_cannot_be_is_refused_by_name() -> None:
    text = GOOD.replace("median_sat: 7000}", "median_sat: 7000}, fee_limit: {median_ppm: -1}")
    with pytest.raises(WorkloadError, match=r"fee_limit\.median_ppm"):
        parse_workload(text, "w.yaml")
