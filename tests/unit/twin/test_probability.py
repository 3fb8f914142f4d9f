"""Estimates of success: values that LND's own tests state, and small sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.model.payment import FailureCode as Code
from lnagents.twin.memory import Memory, load_sender, make_memory
from lnagents.twin.mission import report_failure, report_success
from lnagents.twin.probability import bimodal_formula, capacity_factor, edge_probability
from lnagents.twin.settings import Estimator, SenderSettings

HOUR = 3_600.0
STAR = np.array([[0, 1], [1, 2], [1, 3], [1, 4], [1, 5]], dtype=np.int32)
"""Sender 0, forwarder 1, and what it leads to."""
CAPACITY = 100_000_000
AMOUNT = 90_000_000
FACTOR = 0.9909715
"""Of `AMOUNT` and `CAPACITY` with the default fraction."""
DEFAULTS = SenderSettings()
WEIGHTY = SenderSettings(apriori_weight=0.75)


def short(memory: Memory, to_node: int, amount: int, now: float) -> None:
    edges = np.array([0, 2 * (to_node - 1)], dtype=np.int32)
    amounts = np.array([amount, amount], dtype=np.int64)
    code = int(Code.TEMPORARY_CHANNEL_FAILURE)
    report_failure(memory, DEFAULTS.numbers(), STAR, 0, edges, amounts, 2, 1, code, now)


def good(memory: Memory, to_node: int, amount: int, now: float) -> None:
    edges = np.array([0, 2 * (to_node - 1)], dtype=np.int32)
    amounts = np.array([amount, amount], dtype=np.int64)
    report_success(memory, DEFAULTS.numbers(), STAR, 0, edges, amounts, 2, now)


def ask(
    memory: Memory,
    to_node: int,
    amount: int,
    now: float,
    how: SenderSettings,
    *,
    from_node: int = 1,
    capacity: int = CAPACITY,
) -> float:
    load_sender(memory, 0)
    return edge_probability(memory, how.numbers(), 0, from_node, to_node, amount, capacity, now)


@pytest.mark.parametrize(
    ("fraction", "share", "expected"),
    [
        (0.75, 0.0, 1.0),
        (0.75, 0.1, 1.0),
        (0.75, 0.5, 1.0),
        (0.75, 0.75, 0.75),
        (0.75, 0.8, 0.560),
        (0.75, 1.0, 0.5),
        (0.75, 1.000001, 0.0),
        (0.9999, 0.0, 1.0),
        (0.9999, 0.9, 0.990),
        (0.9999, 1.0, 0.75),
        (1.0, 1.0, 1.0),
    ],
)
def test_the_capacity_factor(fraction: float, share: float, expected: float) -> None:
    capacity = 1_000_000_000
    assert capacity_factor(int(share * capacity), capacity, fraction) == pytest.approx(
        expected, abs=0.001
    )


@settings(deadline=None)
@given(capacity=st.integers(1, 10**13), share=st.floats(0, 1), fraction=st.floats(0.75, 0.9999))
def test_the_short_cut_of_the_capacity_factor_changes_no_bit(
    capacity: int, share: float, fraction: float
) -> None:
    amount = int(share * capacity)
    exponent = -(amount - fraction * capacity) / (0.025 * capacity)
    expected = 1 - 0.5 / (1 + math.exp(exponent))
    assert capacity_factor(amount, capacity, fraction) == pytest.approx(expected, rel=1e-15)
    if exponent > 37:
        assert expected == 1.0


def test_an_unknown_capacity_changes_nothing() -> None:
    assert ask(make_memory(6), 2, AMOUNT, 0.0, DEFAULTS, capacity=0) == 0.6


def test_without_results() -> None:
    memory = make_memory(6)
    assert ask(memory, 2, 1, 0.0, WEIGHTY) == pytest.approx(0.6)
    assert ask(memory, 2, AMOUNT, 0.0, WEIGHTY) == pytest.approx(0.6 * FACTOR)


def test_after_one_success() -> None:
    memory = make_memory(6)
    good(memory, 2, AMOUNT, 0.0)
    assert ask(memory, 2, 100, 0.0, WEIGHTY) == 0.95
    assert ask(memory, 2, AMOUNT, 0.0, WEIGHTY) == 0.95
    assert ask(memory, 3, 100, 0.0, WEIGHTY) == pytest.approx((3 * 0.6 + 0.95) / 4)
    assert ask(memory, 3, AMOUNT, 0.0, WEIGHTY) == pytest.approx((3 * 0.6 * FACTOR + 0.95) / 4)


def test_after_one_failure() -> None:
    memory = make_memory(6)
    short(memory, 2, 50, 0.0)
    node = 3 * 0.6 / 3.5
    assert ask(memory, 3, 100, HOUR, WEIGHTY) == pytest.approx(node)
    assert ask(memory, 2, 100, HOUR, WEIGHTY) == pytest.approx(node / 2)
    assert ask(memory, 2, 100, 0.0, WEIGHTY) == 0
    assert ask(memory, 2, 49, 0.0, WEIGHTY) == pytest.approx(0.6)


def test_after_this_and_that() -> None:
    memory = make_memory(6)
    short(memory, 4, 50, 0.0)
    short(memory, 3, 50, HOUR)
    good(memory, 2, 1000, 2 * HOUR)
    now = 3 * HOUR
    node = (3 * 0.6 + 0.95) / (3 + 1 + 0.25 + 0.125)
    assert ask(memory, 2, 100, now, WEIGHTY) == 0.95
    assert ask(memory, 5, 100, now, WEIGHTY) == pytest.approx(node)
    assert ask(memory, 3, 100, now, WEIGHTY) == pytest.approx(node * 0.75)
    # Sums that were kept for 100 msat are not taken for 2,000, nor for another time.
    assert ask(memory, 5, 2000, now, WEIGHTY) == pytest.approx(3 * 0.6 / 3.375)
    assert ask(memory, 5, 2000, now + HOUR, WEIGHTY) == pytest.approx(3 * 0.6 / 3.1875)
    assert ask(memory, 5, 100, now, SenderSettings(apriori_weight=1.0)) == 0.6


def test_own_channels_are_believed_until_they_fail() -> None:
    memory = make_memory(6)
    assert ask(memory, 1, 10**12, 0.0, DEFAULTS, from_node=0) == 0.95
    edges = np.array([0], dtype=np.int32)
    amounts = np.array([100], dtype=np.int64)
    code = int(Code.UNREADABLE_FAILURE)
    report_failure(memory, DEFAULTS.numbers(), STAR, 0, edges, amounts, 1, 1, code, 0.0)
    assert ask(memory, 1, 1, 0.0, DEFAULTS, from_node=0) == 0
    assert ask(memory, 1, 1, HOUR, DEFAULTS, from_node=0) == pytest.approx(0.95 / 2)


SMALL, LARGE, WHOLE = 400_000_000, 5_000_000_000, 10_000_000_000


@pytest.mark.parametrize(
    ("can_send", "cannot_send", "amount", "expected"),
    [
        (0, WHOLE, WHOLE + 1, 0.0),
        (0, WHOLE, LARGE, 0.5),
        (0, WHOLE, 0, 1.0),
        (0, WHOLE, WHOLE, 0.0),
        (0, WHOLE, SMALL, 0.684),
        (LARGE, WHOLE, LARGE, 1.0),
        (SMALL // 2, WHOLE, SMALL, 0.851),
        (LARGE // 2, WHOLE, LARGE, 0.998),
        (0, LARGE, LARGE, 0.0),
        (0, LARGE, SMALL, 0.368),
        (SMALL, LARGE, SMALL + LARGE // 10, 0.287),
        (LARGE, LARGE, LARGE, 0.5),
        (LARGE, SMALL, LARGE, 0.5),
        (2 * WHOLE, 2 * WHOLE + 1, LARGE, 1.0),
        (SMALL // 2, 2 * WHOLE, SMALL, 0.851),
    ],
)
def test_the_bimodal_formula(can_send: int, cannot_send: int, amount: int, expected: float) -> None:
    value = bimodal_formula(400_000_000.0, WHOLE, can_send, cannot_send, amount)
    assert value == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(1_000_000_001, 1.0), (3_999_999_999, 0.0), (1_750_000_000, 0.75)],
)
def test_the_bimodal_formula_becomes_uniform_where_it_knows_nothing(
    amount: int, expected: float
) -> None:
    value = bimodal_formula(1.0, 7_000_000_000, 1_000_000_000, 4_000_000_000, amount)
    assert value == pytest.approx(expected, abs=0.001)


def test_the_bimodal_estimator_listens_to_a_nodes_other_channels() -> None:
    how = SenderSettings(estimator=Estimator.BIMODAL)
    memory = make_memory(6)
    untried = ask(memory, 2, AMOUNT, 0.0, how)
    assert untried == pytest.approx(bimodal_formula(3e8, CAPACITY, 0, CAPACITY, AMOUNT))
    short(memory, 3, AMOUNT, 0.0)
    good(memory, 4, AMOUNT, 0.0)
    assert ask(memory, 2, AMOUNT, 0.0, how) == pytest.approx((untried + 0.2) / (1 + 0.2 + 0.2))
    assert ask(memory, 3, AMOUNT, 0.0, how) == 0, "its own result is all that counts"
    assert ask(memory, 4, AMOUNT, 0.0, how) == 1
    weights = 0.2 * math.exp(-1)
    later = ask(memory, 2, AMOUNT, 604_800.0, how)
    assert later == pytest.approx((untried + weights) / (1 + 2 * weights))
    alone = SenderSettings(estimator=Estimator.BIMODAL, bimodal_node_weight=0.0)
    assert ask(memory, 2, AMOUNT, 0.0, alone) == pytest.approx(untried)


def test_the_bimodal_estimator_forgets_own_failures() -> None:
    how = SenderSettings(estimator=Estimator.BIMODAL)
    memory = make_memory(6)
    assert ask(memory, 1, 10**12, 0.0, how, from_node=0) == 1.0
    edges = np.array([0], dtype=np.int32)
    amounts = np.array([100], dtype=np.int64)
    code = int(Code.UNREADABLE_FAILURE)
    report_failure(memory, how.numbers(), STAR, 0, edges, amounts, 1, 1, code, 0.0)
    assert ask(memory, 1, 1, 0.0, how, from_node=0) == 0
    assert ask(memory, 1, 1, 604_800.0, how, from_node=0) == pytest.approx(1 - math.exp(-1))
