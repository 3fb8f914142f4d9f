"""What senders learn: LND's own scenarios, by hand, and what must hold whatever happens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.model.payment import FailureCode as Code
from lnagents.twin.memory import (
    NEVER,
    Memory,
    PairResult,
    forget,
    grown,
    has_results,
    has_room,
    load_sender,
    make_memory,
    results_of,
)
from lnagents.twin.mission import GO_ON, report_failure, report_success
from lnagents.twin.probability import edge_probability
from lnagents.twin.settings import SenderSettings
from lnagents.twin.traffic import ERROR, INCORRECT_PAYMENT_DETAILS

LINE = np.array([[0, 1], [1, 2], [2, 3], [3, 4]], dtype=np.int32)
EDGES = np.array([0, 2, 4, 6], dtype=np.int32)
AMOUNTS = np.array([100, 99, 97, 95], dtype=np.int64)
NUMBERS = SenderSettings().numbers()


def fail(
    memory: Memory,
    hops: int,
    failed_at: int,
    code: Code,
    now: float = 0.0,
    amounts: np.ndarray[tuple[int], np.dtype[np.int64]] = AMOUNTS,
) -> int:
    return report_failure(memory, NUMBERS, LINE, 0, EDGES, amounts, hops, failed_at, int(code), now)


def arrive(memory: Memory, hops: int, now: float = 0.0) -> None:
    report_success(memory, NUMBERS, LINE, 0, EDGES, AMOUNTS, hops, now)


def learnt(memory: Memory, sender: int = 0) -> dict[tuple[int, int], int | None]:
    """By pair: the greatest amount that arrived, or minus the least that failed; None for any."""
    found: dict[tuple[int, int], int | None] = {}
    for result in results_of(memory, sender):
        pair = (result.from_node, result.to_node)
        if result.failed_at == NEVER:
            found[pair] = result.succeeded_amount
        else:
            found[pair] = -result.failed_amount or None
    return found


BOTH = {(1, 2): None, (2, 1): None}


@pytest.mark.parametrize(
    ("hops", "failed_at", "code", "expected", "reason"),
    [
        (2, 1, Code.TEMPORARY_CHANNEL_FAILURE, {(0, 1): 100, (1, 2): -99}, GO_ON),
        (
            4,
            3,
            Code.EXPIRY_TOO_SOON,
            {(0, 1): None, (1, 0): None, (1, 2): None, (2, 1): None, (2, 3): None, (3, 2): None},
            GO_ON,
        ),
        (
            2,
            2,
            Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS,
            {(0, 1): 100, (1, 2): 99},
            INCORRECT_PAYMENT_DETAILS,
        ),
        (2, 2, Code.FINAL_EXPIRY_TOO_SOON, {}, INCORRECT_PAYMENT_DETAILS),
        (2, 2, Code.MPP_TIMEOUT, {(0, 1): 100, (1, 2): 99}, GO_ON),
        (2, 0, Code.INVALID_ONION_KEY, {(0, 1): None, (1, 0): None, **BOTH}, GO_ON),
        (1, 0, Code.INVALID_ONION_KEY, {(0, 1): None, (1, 0): None}, ERROR),
        (3, 0, Code.TEMPORARY_CHANNEL_FAILURE, {}, GO_ON),
        (
            4,
            4,
            Code.INVALID_ONION_PAYLOAD,
            {(0, 1): 100, (1, 2): 99, (2, 3): 97, (3, 4): None, (4, 3): None},
            ERROR,
        ),
        (
            4,
            3,
            Code.INVALID_ONION_PAYLOAD,
            {(0, 1): 100, (1, 2): 99, (2, 3): None, (3, 2): None, (3, 4): None, (4, 3): None},
            GO_ON,
        ),
        (2, 2, Code.FINAL_INCORRECT_HTLC_AMOUNT, {(0, 1): 100, **BOTH}, GO_ON),
        (1, 1, Code.FINAL_INCORRECT_HTLC_AMOUNT, {(0, 1): None, (1, 0): None}, ERROR),
        (3, 1, Code.UNKNOWN_NEXT_PEER, BOTH, GO_ON),
        (3, 1, Code.PERMANENT_CHANNEL_FAILURE, BOTH, GO_ON),
        (3, 1, Code.INVALID_ONION_HMAC, BOTH, GO_ON),
        (
            3,
            1,
            Code.TEMPORARY_NODE_FAILURE,
            {(0, 1): None, (1, 0): None, **BOTH},
            GO_ON,
        ),
        (1, 1, Code.UNREADABLE_FAILURE, {(0, 1): None, (1, 0): None}, ERROR),
        (2, 1, Code.UNREADABLE_FAILURE, {(0, 1): None, (1, 0): None, **BOTH}, GO_ON),
        (2, 0, Code.INTERNAL_FAILURE, {}, ERROR),
    ],
)
def test_what_a_failure_says_about_whom(
    hops: int,
    failed_at: int,
    code: Code,
    expected: dict[tuple[int, int], int | None],
    reason: int,
) -> None:
    memory = make_memory(5)
    assert fail(memory, hops, failed_at, code) == reason
    assert learnt(memory) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code.FEE_INSUFFICIENT, {(0, 1): 100, **BOTH}),
        (Code.AMOUNT_BELOW_MINIMUM, {(0, 1): 100, **BOTH}),
        (Code.INCORRECT_CLTV_EXPIRY, {(0, 1): 100, **BOTH}),
        (Code.CHANNEL_DISABLED, {(0, 1): 100, (1, 2): 99, (2, 3): None, (3, 2): None}),
    ],
)
def test_a_stale_policy_is_pardoned_once_a_minute(
    code: Code, expected: dict[tuple[int, int], int | None]
) -> None:
    memory = make_memory(5)
    assert fail(memory, 4, 2, code, now=10.0) == GO_ON
    assert learnt(memory) == {}
    fail(memory, 4, 2, code, now=71.0)
    assert learnt(memory) == {}
    fail(memory, 4, 2, code, now=131.0)
    assert learnt(memory) == expected


def test_the_first_forwarder_is_to_blame_for_its_own_policy() -> None:
    memory = make_memory(5)
    fail(memory, 3, 1, Code.FEE_INSUFFICIENT)
    fail(memory, 3, 1, Code.FEE_INSUFFICIENT)
    assert learnt(memory) == {(0, 1): None, (1, 0): None, **BOTH}


def test_a_node_that_failed_takes_along_all_that_was_tried_from_and_to_it() -> None:
    memory = make_memory(5)
    arrive(memory, 4, now=1.0)
    fail(memory, 2, 1, Code.TEMPORARY_NODE_FAILURE, now=2.0)
    results = {(one.from_node, one.to_node): one for one in results_of(memory, 0)}
    assert results[0, 1] == PairResult(0, 1, 2.0, 0, NEVER, 0)
    assert results[1, 2] == PairResult(1, 2, 2.0, 0, NEVER, 0)
    assert results[2, 3] == PairResult(2, 3, NEVER, 0, 1.0, 97)
    # Pardoned, but never tried: nothing to fail.
    pardoned = make_memory(5)
    fail(pardoned, 3, 2, Code.FEE_INSUFFICIENT, now=1.0)
    fail(pardoned, 4, 3, Code.TEMPORARY_NODE_FAILURE, now=2.0)
    assert set(learnt(pardoned)) == {(2, 3), (3, 2), (3, 4), (4, 3)}


def test_amounts_of_a_result_move_as_lnds_do() -> None:
    memory = make_memory(5)

    def short(amount: int, now: float) -> tuple[int, int]:
        amounts = np.array([amount, amount], dtype=np.int64)
        fail(memory, 2, 1, Code.TEMPORARY_CHANNEL_FAILURE, now, amounts)
        return state()

    def good(amount: int, now: float) -> tuple[int, int]:
        amounts = np.array([amount, amount], dtype=np.int64)
        report_success(memory, NUMBERS, LINE, 0, EDGES, amounts, 2, now)
        return state()

    def state() -> tuple[int, int]:
        results = {(one.from_node, one.to_node): one for one in results_of(memory, 0)}
        return results[1, 2].failed_amount, results[1, 2].succeeded_amount

    assert short(1000, 0.0) == (1000, 0)
    assert short(1100, 3600.0) == (1100, 0)
    assert short(1200, 3601.0) == (1100, 0), "raised too soon"
    assert short(1050, 3602.0) == (1050, 0)
    assert good(1500, 3603.0) == (1501, 1500)
    assert good(1400, 3604.0) == (1501, 1500)
    assert short(1300, 3605.0) == (1300, 1299)


def test_results_of_one_sender_are_no_others_business() -> None:
    memory = make_memory(5)
    arrive(memory, 2)
    assert has_results(memory, 1)
    load_sender(memory, 3)
    assert not has_results(memory, 1)
    assert results_of(memory, 3) == []
    load_sender(memory, 0)
    assert has_results(memory, 0)
    assert has_results(memory, 1)
    assert not has_results(memory, 2)
    forget(memory)
    assert not has_results(memory, 1)
    assert results_of(memory, 0) == []


def test_a_memory_grows_without_forgetting() -> None:
    memory = make_memory(5, pairs=16)
    arrive(memory, 4, now=1.0)
    fail(memory, 4, 2, Code.TEMPORARY_CHANNEL_FAILURE, now=2.0)
    before = results_of(memory, 0)
    assert has_room(memory, 4)
    assert not has_room(memory, 6)
    memory = grown(memory)
    assert has_room(memory, 6)
    assert results_of(memory, 0) == before
    arrive(memory, 4, now=3.0)
    assert len(results_of(memory, 0)) == len(before)


def test_a_full_memory_says_so() -> None:
    memory = make_memory(5, pairs=2)
    with pytest.raises(IndexError, match="full"):
        arrive(memory, 4)
    assert len(results_of(memory, 0)) == 2


def test_a_route_that_visits_a_pair_twice_tells_its_last_amount() -> None:
    memory = make_memory(3)
    channels = np.array([[0, 1], [0, 1], [0, 1]], dtype=np.int32)
    edges = np.array([0, 3, 4], dtype=np.int32)
    amounts = np.array([100, 99, 98], dtype=np.int64)
    report_success(memory, NUMBERS, channels, 0, edges, amounts, 3, 0.0)
    assert learnt(memory) == {(0, 1): 98, (1, 0): 99}


steps = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(-1, 4),
        st.sampled_from(list(Code)),
        st.integers(1, 200),
        st.floats(0, 120),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps=steps)
def test_whatever_happens_results_and_probabilities_stay_sane(
    steps: list[tuple[int, int, Code, int, float]],
) -> None:
    memory = make_memory(5)
    now = 0.0
    for hops, failed_at, code, amount, later in steps:
        now += later
        amounts = np.full(hops, amount, dtype=np.int64)
        if failed_at < 0:
            report_success(memory, NUMBERS, LINE, 0, EDGES, amounts, hops, now)
        else:
            fail(memory, hops, min(failed_at, hops), code, now, amounts)
    load_sender(memory, 0)
    for result in results_of(memory, 0):
        if result.failed_at != NEVER and result.failed_amount:
            assert result.succeeded_amount < result.failed_amount
        for amount in (1, 100, 300):
            # Twice: the second time from the sums that were kept.
            first, again = (
                edge_probability(
                    memory, NUMBERS, 0, result.from_node, result.to_node, amount, 10**6, now + 1
                )
                for _ in range(2)
            )
            assert first == again
            assert 0 <= first <= 0.95


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hop_probability", 1.1),
        ("capacity_fraction", 0.7),
        ("apriori_weight", -0.1),
        ("bimodal_scale", 0),
        ("penalty_half_life", -1.0),
        ("time_preference", -1.5),
    ],
)
def test_settings_that_lnd_would_refuse_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        replace(SenderSettings(), **{field: value})  # type: ignore[arg-type]
