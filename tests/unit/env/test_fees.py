from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env import ACTION_NAMES, FeeBounds, decode
from lnagents.env.features import FloatArray
from lnagents.env.fees import BASE_OFFSET_MSAT, MAX_STEP, RATE_OFFSET_PPM
from lnagents.model.graph import ChannelPolicy, NetworkGraph
from lnagents.model.view import ChannelDecision, ChannelFlow, ChannelView, NodeView

WIDE = FeeBounds(max_ppm=100_000, max_base_msat=100_000, max_inbound_discount_ppm=5_000)


def channel(scid: int, policy: ChannelPolicy, found: ChannelPolicy | None = None) -> ChannelView:
    return ChannelView(
        scid=scid,
        peer="02aa",
        capacity_msat=1_000_000_000,
        local_balance_msat=120_000_000,
        remote_balance_msat=880_000_000,
        active=True,
        policy=policy,
        peer_policy=None,
        competing_ppm=-1,
        found_policy=found,
    )


def view_of(*channels: ChannelView) -> NodeView:
    return NodeView(node="02bb", round=0, time=0.0, channels=channels, graph=NetworkGraph())


def action(*rows: tuple[float, float, float]) -> FloatArray:
    return np.array(rows, dtype=np.float32).reshape(-1, 3)


def decide(
    one: ChannelView, levels: tuple[float, float, float], bounds: FeeBounds = WIDE
) -> ChannelDecision | None:
    return decode(view_of(one), action(levels), bounds).channels.get(one.scid)


POLICIES = st.builds(
    ChannelPolicy,
    base_fee_msat=st.integers(0, 10**6),
    fee_rate_ppm=st.integers(0, 10**6),
    inbound_fee_rate_ppm=st.integers(-(10**6), 0),
)
LEVELS = st.tuples(*[st.floats(-3, 3, width=32)] * 3)
BOUNDS = st.builds(
    lambda ppm, base, discount, change: FeeBounds(
        min(ppm), max(ppm), min(base), max(base), discount, change
    ),
    st.tuples(st.integers(0, 10**5), st.integers(0, 10**5)),
    st.tuples(st.integers(0, 10**5), st.integers(0, 10**5)),
    st.integers(0, 10**5),
    st.floats(0, 0.5),
)


@given(POLICIES, st.none() | POLICIES, LEVELS, BOUNDS)
def test_whatever_the_action_fees_end_within_bounds(
    policy: ChannelPolicy,
    found: ChannelPolicy | None,
    levels: tuple[float, float, float],
    bounds: FeeBounds,
) -> None:
    decision = decide(channel(1, policy, found), levels, bounds) or ChannelDecision()
    rate = policy.fee_rate_ppm if decision.fee_rate_ppm is None else decision.fee_rate_ppm
    base = policy.base_fee_msat if decision.base_fee_msat is None else decision.base_fee_msat
    inbound = decision.inbound_fee_rate_ppm
    discount = -(policy.inbound_fee_rate_ppm if inbound is None else inbound)
    assert bounds.min_ppm <= rate <= bounds.max_ppm
    assert bounds.min_base_msat <= base <= bounds.max_base_msat
    assert 0 <= discount <= bounds.max_inbound_discount_ppm
    assert decision.max_htlc_msat is None


@given(
    st.builds(
        ChannelPolicy,
        base_fee_msat=st.integers(0, 100_000),
        fee_rate_ppm=st.integers(0, 100_000),
        inbound_fee_rate_ppm=st.integers(-5_000, 0),
    )
)
def test_zero_keeps_what_was_found(policy: ChannelPolicy) -> None:
    assert decide(channel(1, policy), (0.0, 0.0, 0.0)) is None
    assert decide(channel(1, policy, policy), (0.0, 0.0, 0.0)) is None


@given(st.integers(0, 50_000), st.integers(0, 50_000))
def test_zero_leads_back_to_what_was_found(found: int, current: int) -> None:
    one = channel(1, ChannelPolicy(fee_rate_ppm=current), ChannelPolicy(fee_rate_ppm=found))
    for _ in range(20):
        decision = decide(one, (0.0, 0.0, 0.0))
        if decision is None:
            break
        assert decision.fee_rate_ppm is not None
        one = replace(one, policy=ChannelPolicy(fee_rate_ppm=decision.fee_rate_ppm))
    reached = one.policy.fee_rate_ppm
    assert abs(reached - found) <= WIDE.min_change * (reached + RATE_OFFSET_PPM)


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.floats(-1, 1, width=32))
def test_one_round_moves_a_fee_by_a_bounded_factor(rate: int, base: int, level: float) -> None:
    decision = decide(
        channel(1, ChannelPolicy(fee_rate_ppm=rate, base_fee_msat=base)), (level, 0.0, level)
    )
    decision = decision or ChannelDecision()
    moves = (
        (rate, decision.fee_rate_ppm, RATE_OFFSET_PPM),
        (base, decision.base_fee_msat, BASE_OFFSET_MSAT),
    )
    for old, new, offset in moves:
        if new is not None:
            before, after = old + offset, new + offset
            assert before / MAX_STEP - 1 <= after <= before * MAX_STEP + 1
            assert abs(new - old) >= WIDE.min_change * before
            assert (new > old) == (level > 0)


@given(st.lists(POLICIES, max_size=5), st.randoms(use_true_random=False), st.data())
def test_permuting_channels_changes_no_decision(
    policies: list[ChannelPolicy], rng: random.Random, data: st.DataObject
) -> None:
    channels = [channel(scid, policy) for scid, policy in enumerate(policies)]
    rows = [data.draw(LEVELS) for _ in channels]
    order = list(range(len(channels)))
    rng.shuffle(order)
    plain = decode(view_of(*channels), action(*rows), WIDE)
    mixed = decode(
        view_of(*(channels[index] for index in order)),
        action(*(rows[index] for index in order)),
        WIDE,
    )
    assert dict(plain.channels) == dict(mixed.channels)


def test_higher_actions_ask_for_higher_fees() -> None:
    policy = ChannelPolicy(fee_rate_ppm=500, base_fee_msat=500, inbound_fee_rate_ppm=-500)
    decision = decide(channel(1, policy), (1.0, 1.0, 1.0))
    assert decision is not None
    # Doubled, counted from the offsets.
    assert decision.fee_rate_ppm == 1_010
    assert decision.inbound_fee_rate_ppm == -1_010
    assert decision.base_fee_msat == 1_100
    decision = decide(channel(1, policy), (-1.0, -1.0, -1.0))
    assert decision is not None
    assert decision.fee_rate_ppm == 245
    assert decision.inbound_fee_rate_ppm == -245
    assert decision.base_fee_msat == 200


def test_a_fee_of_nothing_can_be_left() -> None:
    policy = ChannelPolicy(fee_rate_ppm=0, base_fee_msat=0)
    decision = decide(channel(1, policy), (0.5, 0.0, 0.5))
    assert decision is not None
    assert decision.fee_rate_ppm
    assert decision.base_fee_msat


def test_only_what_changes_is_set() -> None:
    decision = decide(channel(1, ChannelPolicy(fee_rate_ppm=100)), (0.1, 0.0, 0.0))
    assert decision is not None
    assert decision.fee_rate_ppm == 164
    assert decision.base_fee_msat is None
    assert decision.inbound_fee_rate_ppm is None


def test_small_changes_are_not_worth_an_update() -> None:
    policy = ChannelPolicy(fee_rate_ppm=1_000)
    assert decide(channel(1, policy), (0.01, 0.0, 0.0)) is None
    assert decide(channel(1, policy), (0.012, 0.0, 0.0)) is not None


def test_fees_outside_the_bounds_are_brought_inside_whatever_their_distance() -> None:
    bounds = FeeBounds(min_ppm=50, max_ppm=100)
    high = decide(channel(1, ChannelPolicy(fee_rate_ppm=101)), (0.0, 0.0, 0.0), bounds)
    low = decide(channel(1, ChannelPolicy(fee_rate_ppm=1)), (0.0, 0.0, 0.0), bounds)
    assert high is not None
    assert high.fee_rate_ppm == 100
    assert low is not None
    assert low.fee_rate_ppm == 50


def test_inactive_channels_are_left_alone() -> None:
    one = replace(channel(1, ChannelPolicy(fee_rate_ppm=100)), active=False)
    assert decide(one, (1.0, 1.0, 1.0)) is None


def test_reasons_say_what_and_what_was_seen() -> None:
    flow = ChannelFlow(
        forwarded_in_msat=5_000_000,
        forwarded_out_msat=340_000_000,
        forwards=7,
        failed_forwards=2,
    )
    one = replace(channel(1, ChannelPolicy(fee_rate_ppm=100)), flow=flow, competing_ppm=1_250)
    decision = decide(one, (0.1, 0.2, 0.0))
    assert decision is not None
    assert decision.reason == (
        "raise fee rate 100→164 ppm, raise inbound discount 0→10 ppm: local balance 12%,"
        " out 340,000 sat in 7 forwards, in 5,000 sat, 2 forwards failed, others charge 1,250 ppm"
    )
    quiet = decide(channel(1, ChannelPolicy(base_fee_msat=1_000)), (0.0, 0.0, -1.0))
    assert quiet is not None
    assert quiet.reason == "lower base fee 1,000→450 msat: local balance 12%, no forwards"


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (np.zeros((2, 3), dtype=np.float32), r"the action's shape is \(2, 3\), not \(1, 3\)"),
        (np.zeros(3, dtype=np.float32), r"the action's shape is \(3,\), not \(1, 3\)"),
        (np.full((1, 3), np.nan, dtype=np.float32), "a number in the action is not finite"),
        (np.full((1, 3), np.inf, dtype=np.float32), "a number in the action is not finite"),
    ],
)
def test_bad_actions(bad: FloatArray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        decode(view_of(channel(1, ChannelPolicy())), bad, WIDE)


def test_a_node_without_channels_decides_nothing() -> None:
    empty = np.zeros((0, len(ACTION_NAMES)), dtype=np.float32)
    assert not decode(view_of(), empty, WIDE).channels


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"min_ppm": 5, "max_ppm": 4}, "ppm: 5 to 4 is not a range from 0 up"),
        ({"min_base_msat": -1}, "base_msat: -1 to 5000 is not a range from 0 up"),
        ({"max_inbound_discount_ppm": -1}, "inbound_discount_ppm: 0 to -1 is not a range"),
        ({"min_change": 1.0}, "min_change: 1.0 is not from 0 to 1"),
    ],
)
def test_impossible_bounds(arguments: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        FeeBounds(**arguments)
