from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market.scores import HintOutcome, SellerScore, score_sellers

GOOD, LIAR, ECHO = "02aa", "02bb", "02cc"


def test_scores_are_mean_squares() -> None:
    score = score_sellers([HintOutcome(GOOD, 1.0, 0.5, True), HintOutcome(GOOD, 0.5, 0.9, False)])[
        GOOD
    ]
    assert score.brier == pytest.approx(0.125)
    assert score.prior_brier == pytest.approx((0.25 + 0.81) / 2)


def test_a_new_seller_is_trusted() -> None:
    score = SellerScore(GOOD)
    assert (score.brier, score.prior_brier, score.skill, score.helps) == (None, None, 1.0, True)


def test_who_is_right_is_kept_and_who_lies_is_dropped_soon() -> None:
    scores = {key: SellerScore(key) for key in (GOOD, LIAR)}
    dropped_after = None
    for number in range(1, 50):
        passed = number % 2 == 0
        scores[GOOD].add(HintOutcome(GOOD, float(passed), 0.5, passed))
        scores[LIAR].add(HintOutcome(LIAR, float(not passed), 0.5, passed))
        if dropped_after is None and not scores[LIAR].helps:
            dropped_after = number
    assert scores[GOOD].skill == 1.0
    assert dropped_after is not None
    assert dropped_after <= 3


def test_who_repeats_what_is_known_is_dropped_in_time() -> None:
    score, draws = SellerScore(ECHO), random.Random(1)
    for _ in range(400):
        passed = draws.random() < 0.7
        # A little worse than what the buyer believes itself.
        score.add(HintOutcome(ECHO, 0.6, 0.7, passed))
    assert not score.helps


def test_a_broken_promise_ends_it() -> None:
    scores = score_sellers([HintOutcome(GOOD, 1.0, 0.5, True)], [GOOD, LIAR])
    assert not scores[GOOD].helps
    assert scores[LIAR].broken_promises == 1


@given(
    st.lists(
        st.builds(HintOutcome, st.just(GOOD), st.floats(0, 1), st.floats(0, 1), st.booleans()),
        min_size=1,
        max_size=50,
    )
)
def test_skill_is_at_most_one(outcomes: list[HintOutcome]) -> None:
    score = score_sellers(outcomes)[GOOD]
    assert score.skill <= 1.0
    assert score.brier is not None
    assert 0.0 <= score.brier <= 1.0
