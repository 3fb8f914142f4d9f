from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env import (
    RewardMode,
    RewardWeights,
    combine,
    network_term,
    reward,
    reward_terms,
)
from lnagents.model.graph import ChannelPolicy, NetworkGraph
from lnagents.model.view import ChannelFlow, ChannelView, NodeView, RewardTerms

MONEY = st.integers(0, 10**12)
COUNTS = st.integers(0, 10**4)
SIZES = st.floats(0, 1e6)
REWARDS = st.floats(-1e12, 1e12)

TERMS = st.builds(
    RewardTerms,
    fees_earned_msat=MONEY,
    fees_paid_msat=MONEY,
    hint_costs_msat=MONEY,
    hint_income_msat=MONEY,
    failed_attempts=COUNTS,
    network_term=st.floats(0, 1),
    forwarded_msat=MONEY,
)
WEIGHTS = st.builds(RewardWeights, SIZES, SIZES, SIZES, SIZES, SIZES, SIZES, SIZES)


def channel(local: int, remote: int, flow: ChannelFlow | None = None) -> ChannelView:
    return ChannelView(
        scid=local,
        peer="02aa",
        capacity_msat=local + remote,
        local_balance_msat=local,
        remote_balance_msat=remote,
        active=True,
        policy=ChannelPolicy(),
        peer_policy=None,
        competing_ppm=-1,
        flow=flow or ChannelFlow(),
    )


def view_of(*channels: ChannelView) -> NodeView:
    return NodeView(node="02bb", round=0, time=0.0, channels=channels, graph=NetworkGraph())


CHANNELS = st.builds(
    channel,
    MONEY,
    MONEY,
    st.builds(
        ChannelFlow,
        forwards=COUNTS,
        failed_forwards=COUNTS,
        fees_earned_msat=MONEY,
        forwarded_out_msat=MONEY,
    ),
)
VIEWS = st.builds(
    lambda channels, settled, failed: replace(
        view_of(*channels), payments_settled=settled, payments_failed=failed
    ),
    st.lists(CHANNELS, max_size=5),
    COUNTS,
    COUNTS,
)


def test_every_term_counts_with_its_weight_and_sign() -> None:
    terms = RewardTerms(
        fees_earned_msat=1,
        fees_paid_msat=10,
        hint_costs_msat=100,
        hint_income_msat=1_000,
        failed_attempts=3,
        network_term=0.5,
        forwarded_msat=2_000_000,
    )
    weights = RewardWeights(
        fees_earned=2.0,
        fees_paid=3.0,
        hint_costs=4.0,
        hint_income=5.0,
        failed_attempt_msat=7.0,
        network_term_msat=11.0,
        forwarded_ppm=13.0,
    )
    assert reward(terms, weights) == 2 - 30 - 400 + 5_000 - 21 + 5.5 + 26


@given(TERMS, WEIGHTS, st.integers(1, 1_000))
def test_better_rounds_are_never_rewarded_less(
    terms: RewardTerms, weights: RewardWeights, more: int
) -> None:
    base = reward(terms, weights)
    assert reward(replace(terms, fees_earned_msat=terms.fees_earned_msat + more), weights) >= base
    assert reward(replace(terms, hint_income_msat=terms.hint_income_msat + more), weights) >= base
    assert reward(replace(terms, network_term=1.0), weights) >= base
    assert reward(replace(terms, forwarded_msat=terms.forwarded_msat + more), weights) >= base
    assert reward(replace(terms, fees_paid_msat=terms.fees_paid_msat + more), weights) <= base
    assert reward(replace(terms, hint_costs_msat=terms.hint_costs_msat + more), weights) <= base
    assert reward(replace(terms, failed_attempts=terms.failed_attempts + more), weights) <= base


@given(VIEWS)
def test_the_network_term_is_between_0_and_1(view: NodeView) -> None:
    assert 0.0 <= network_term(view) <= 1.0


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (view_of(), 0.0),
        (view_of(channel(500, 500)), 1.0),
        (view_of(channel(1_000, 0)), 0.0),
        (view_of(channel(250, 750)), 0.5),
        # Weighted by capacity: 3/4 even, 1/4 one-sided.
        (view_of(channel(1_500, 1_500), channel(1_000, 0)), 0.75),
        (replace(view_of(), payments_settled=3, payments_failed=1), 0.75),
        (view_of(channel(500, 500, ChannelFlow(forwards=1, failed_forwards=3))), 0.625),
    ],
)
def test_network_terms(view: NodeView, expected: float) -> None:
    assert network_term(view) == pytest.approx(expected)


@given(VIEWS)
def test_terms_are_those_of_the_view(view: NodeView) -> None:
    view = replace(view, fees_paid_msat=5, hint_costs_msat=6, hint_income_msat=7, failed_attempts=8)
    earned = sum(one.flow.fees_earned_msat for one in view.channels)
    carried = sum(one.flow.forwarded_out_msat for one in view.channels)
    expected = RewardTerms(earned, 5, 6, 7, 8, network_term(view), carried)
    assert reward_terms(view) == expected


@given(st.lists(REWARDS, min_size=1, max_size=9), st.data(), st.floats(0, 1))
def test_combinations_lie_between_own_and_mean(
    everyone: list[float], data: st.DataObject, mix: float
) -> None:
    own = data.draw(st.sampled_from(everyone))
    mean = combine(own, everyone, RewardMode.COOPERATIVE)
    assert min(everyone) - 1e-3 <= mean <= max(everyone) + 1e-3
    assert combine(own, everyone, RewardMode.COMPETITIVE) == own
    mixed = combine(own, everyone, RewardMode.MIXED, mix)
    assert min(own, mean) - 1e-3 <= mixed <= max(own, mean) + 1e-3
    assert combine(own, everyone, RewardMode.MIXED, 0.0) == pytest.approx(own)
    assert combine(own, everyone, RewardMode.MIXED, 1.0) == pytest.approx(mean)


def test_competitors_need_not_know_the_others() -> None:
    assert combine(3.0, (), RewardMode.COMPETITIVE) == 3.0
    with pytest.raises(ValueError, match="needs the rewards of all agents"):
        combine(3.0, (), RewardMode.COOPERATIVE)
    with pytest.raises(ValueError, match=r"mix 1\.5 is not between 0 and 1"):
        combine(3.0, (3.0,), RewardMode.MIXED, 1.5)
