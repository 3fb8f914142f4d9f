"""What counts as agreement, and how sure it is."""

from __future__ import annotations

import pytest

from lnagents.evaluate.fidelity import FidelityBench
from lnagents.evaluate.fidelity_compare import agreement, compare
from lnagents.evaluate.fidelity_explain import divergences, explain_case
from lnagents.evaluate.recording import AttemptRecord, PaymentRecord, Recording
from lnagents.evaluate.replay import Replay, ReplayedPayment
from tests.unit.evaluate.recordings import (
    A_TO_B,
    B_TO_C,
    REFUSED,
    SETTLED,
    attempt,
    make_recording,
    payment,
)


def same(live: PaymentRecord, *, tied: bool = False) -> ReplayedPayment:
    return ReplayedPayment(
        live.reason, live.fee_msat, live.attempts, tuple(tied for _ in live.attempts)
    )


def replay_of(recording: Recording, *payments: ReplayedPayment) -> Replay:
    end = recording.end
    return Replay(
        payments=payments or tuple(map(same, recording.payments)),
        balance_msat=end.balance_msat,
        reported_msat=tuple((one * 1_000 + 999, two * 1_000) for one, two in end.listed_sat),
    )


def test_nothing_compared_says_nothing() -> None:
    assert agreement([]).to_json()["outcome_agreement"] is None


def test_equal_sides_agree() -> None:
    recording = make_recording()
    case = compare(recording, replay_of(recording))
    assert case.same_sequences
    assert case.first_divergence is None
    document = FidelityBench((case,)).to_json()
    assert document["payments"] == 2
    assert [document[f"{name}_agreement"] for name in ("outcome", "first_route", "sequence")] == [
        1.0,
        1.0,
        1.0,
    ]
    assert (document["balance_mismatches"], document["channels_compared"]) == (0, 2)
    assert (document["ties"], document["settled"], document["attempts"]) == (0, 1, 2)
    assert list(document["sets"]) == ["single"]  # type: ignore[call-overload]
    assert document["divergences"] == []
    assert "all balances are equal" in explain_case(case)


OTHER_AMOUNT = attempt((A_TO_B, 10_002_001), (B_TO_C, 10_000_000))
OTHER_EXPIRY = AttemptRecord(
    hops=(
        SETTLED.attempts[0].hops[0]._replace(expiry=181),
        SETTLED.attempts[0].hops[1],
    ),
    code=0,
    failed_at=-1,
    started=1.0,
)
REFUSED_ELSEWHERE = REFUSED.attempts[0].model_copy(update={"failed_at": 2})
REFUSED_OTHERWISE = REFUSED.attempts[0].model_copy(update={"code": 12})
ONCE_MORE = (*SETTLED.attempts, *SETTLED.attempts)


@pytest.mark.parametrize(
    ("live", "attempts", "first_route", "differs_at"),
    [
        (SETTLED, (OTHER_AMOUNT,), False, 0),
        (SETTLED, (OTHER_EXPIRY,), False, 0),
        (SETTLED, (), False, 0),
        (SETTLED, ONCE_MORE, True, 1),
        (REFUSED, (REFUSED_ELSEWHERE,), True, 0),
        (REFUSED, (REFUSED_OTHERWISE,), True, 0),
        (payment(reason="no_route"), SETTLED.attempts, False, 0),
    ],
)
def test_any_difference_of_an_attempt_counts(
    live: PaymentRecord,
    attempts: tuple[AttemptRecord, ...],
    first_route: bool,
    differs_at: int,
) -> None:
    recording = make_recording((live,))
    twin = ReplayedPayment(live.reason, live.fee_msat, attempts, tuple(False for _ in attempts))
    (compared,) = compare(recording, replay_of(recording, twin)).payments
    assert (compared.outcome, compared.sequence, compared.tie) == (True, False, False)
    assert compared.first_route is first_route
    assert compared.differs_at == differs_at


def test_times_do_not_count() -> None:
    recording = make_recording((SETTLED,))
    later = SETTLED.attempts[0].model_copy(update={"started": 9.0, "resolved": None})
    (compared,) = compare(
        recording, replay_of(recording, ReplayedPayment("", 2_000, (later,), (False,)))
    ).payments
    assert compared.sequence


def test_another_reason_is_another_outcome() -> None:
    recording = make_recording((REFUSED,))
    twin = ReplayedPayment("timeout", 0, REFUSED.attempts, (False,))
    case = compare(recording, replay_of(recording, twin))
    counted = agreement([case])
    assert (counted.outcome, counted.sequence) == (0, 1)


def test_a_tie_and_what_follows_is_counted_apart() -> None:
    third = payment(reason="insufficient_balance", at=3.0)
    recording = make_recording((SETTLED, REFUSED, third))
    tied = ReplayedPayment("", 0, (REFUSED_ELSEWHERE,), (True,))
    case = compare(recording, replay_of(recording, same(SETTLED), tied, same(third)))
    assert [one.tie for one in case.payments] == [False, True, False]
    counted = agreement([case])
    assert (counted.payments, counted.ties, counted.after_ties) == (1, 1, 1)
    assert counted.sequence == 1
    # Not all sequences agree, so the balances are not compared.
    assert counted.channels_compared == 0
    assert "(a tie)" in explain_case(case)


def test_a_tie_that_chose_alike_is_none() -> None:
    recording = make_recording((SETTLED,))
    case = compare(recording, replay_of(recording, same(SETTLED, tied=True)))
    assert not case.payments[0].tie
    assert agreement([case]).ties == 0


def test_only_the_first_differing_attempt_can_excuse() -> None:
    recording = make_recording((SETTLED,))
    twin = ReplayedPayment("", 2_000, (OTHER_AMOUNT, OTHER_AMOUNT), (False, True))
    assert not compare(recording, replay_of(recording, twin)).payments[0].tie


def test_balances_are_compared_to_the_msat_where_all_sequences_agree() -> None:
    recording = make_recording()
    right = replay_of(recording)
    (first, second), other = right.balance_msat
    wrong = Replay(right.payments, ((first + 1, second - 1), other), right.reported_msat)
    case = compare(recording, wrong)
    counted = agreement([case])
    assert (counted.channels_compared, counted.balance_mismatches) == (2, 1)
    (text,) = divergences(case)
    assert "channel 0 (a→b) ends with" in text


def test_what_nodes_report_is_compared_in_whole_satoshi() -> None:
    recording = make_recording()
    right = replay_of(recording)
    (first, second), other = right.reported_msat
    wrong = Replay(right.payments, right.balance_msat, ((first + 1, second), other))
    assert agreement([compare(recording, wrong)]).balance_mismatches == 1


def test_a_divergence_shows_both_sides() -> None:
    recording = make_recording()
    twin = ReplayedPayment("", 2_001, (OTHER_AMOUNT,), (False,))
    case = compare(recording, replay_of(recording, twin, same(REFUSED)))
    (text,) = FidelityBench((case,)).divergences
    lines = text.splitlines()
    assert lines[0] == "line"
    assert lines[1].startswith("!")
    assert "#0 a→c 10,000 sat" in lines[1]
    assert "attempt 1, live: a→b→c [10002000@180 10000000@100] settled" in lines[2]
    assert "attempt 1, twin: a→b→c [10002001@180 10000000@100] settled" in lines[3]
    assert "result, twin: settled, fee 2001 msat" in lines[5]
    # The second payment agrees and is not told.
    assert len(lines) == 6
