from __future__ import annotations

import random
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


def test_the_default_workload_fits_the_default_topology() -> None:
    topology = parse_topology((REGTEST / "topologies/default.yaml").read_text(), "default.yaml")
    workload = parse_workload((REGTEST / "workloads/default.yaml").read_text(), "default.yaml")
    workload.check_against(topology, "default.yaml")


def test_the_default_workload_moves_as_much_back_as_forth() -> None:
    workload = parse_workload((REGTEST / "workloads/default.yaml").read_text(), "default.yaml")
    forth = back = 0
    for payment in draw_payments(workload, 20_000, 1):
        if payment.destination in ("frank", "grace"):
            forth += payment.amount_msat
        elif payment.source in ("frank", "grace"):
            back += payment.amount_msat
    assert 0.8 < back / forth < 1.25
