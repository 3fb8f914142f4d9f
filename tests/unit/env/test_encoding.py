from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env import (
    CHANNEL_FEATURE_NAMES,
    CHANNEL_FEATURES,
    NODE_FEATURE_NAMES,
    NODE_FEATURES,
    encode,
)
from lnagents.model.graph import ChannelPolicy, NetworkGraph
from lnagents.model.view import ChannelFlow, ChannelView, NodeView

MONEY = st.integers(0, 20_000_000_000)
RATES = st.integers(0, 1_000_000)
COUNTS = st.integers(0, 5_000)

POLICIES = st.builds(
    ChannelPolicy,
    base_fee_msat=st.integers(0, 10**6),
    fee_rate_ppm=RATES,
    inbound_fee_rate_ppm=st.integers(-1_000_000, 1_000_000),
)
FLOWS = st.builds(
    ChannelFlow,
    forwarded_in_msat=MONEY,
    forwarded_out_msat=MONEY,
    fees_earned_msat=MONEY,
    forwards=COUNTS,
    failed_forwards=COUNTS,
    sent_msat=MONEY,
    received_msat=MONEY,
)
CHANNELS = st.builds(
    ChannelView,
    scid=st.integers(0, 2**64 - 1),
    peer=st.just("02aa"),
    capacity_msat=st.integers(20_000_000, 16_777_215_000),
    local_balance_msat=MONEY,
    remote_balance_msat=MONEY,
    active=st.booleans(),
    policy=POLICIES,
    peer_policy=st.none() | POLICIES,
    competing_ppm=st.integers(-1, 1_000_000),
    flow=FLOWS,
    found_policy=st.none() | POLICIES,
)
VIEWS = st.builds(
    NodeView,
    node=st.just("02bb"),
    round=st.integers(0, 10_000),
    time=st.just(0.0),
    channels=st.lists(CHANNELS, max_size=6, unique_by=lambda c: c.scid).map(tuple),
    graph=st.just(NetworkGraph()),
    fees_paid_msat=MONEY,
    payments_settled=COUNTS,
    payments_failed=COUNTS,
    failed_attempts=COUNTS,
    hint_costs_msat=MONEY,
    hint_income_msat=MONEY,
)

QUIET = ChannelView(
    scid=1,
    peer="02aa",
    capacity_msat=1_000_000_000,
    local_balance_msat=250_000_000,
    remote_balance_msat=750_000_000,
    active=True,
    policy=ChannelPolicy(base_fee_msat=0, fee_rate_ppm=0),
    peer_policy=None,
    competing_ppm=-1,
)


def view_of(*channels: ChannelView) -> NodeView:
    return NodeView(node="02bb", round=0, time=0.0, channels=channels, graph=NetworkGraph())


def row(channel: ChannelView) -> dict[str, float]:
    values = encode(view_of(channel)).channels[0].tolist()
    return dict(zip(CHANNEL_FEATURE_NAMES, values, strict=True))


def whole(view: NodeView) -> dict[str, float]:
    return dict(zip(NODE_FEATURE_NAMES, encode(view).node.tolist(), strict=True))


@given(VIEWS, st.randoms(use_true_random=False))
def test_permuting_channels_permutes_rows_and_nothing_else(
    view: NodeView, rng: random.Random
) -> None:
    order = list(range(len(view.channels)))
    rng.shuffle(order)
    plain = encode(view)
    mixed = encode(replace(view, channels=tuple(view.channels[index] for index in order)))
    assert mixed.scids == tuple(plain.scids[index] for index in order)
    assert np.array_equal(mixed.channels, plain.channels[order])
    assert np.array_equal(mixed.node, plain.node)


@given(VIEWS)
def test_features_are_finite_and_of_the_size_that_networks_like(view: NodeView) -> None:
    arrays = encode(view)
    assert arrays.channels.shape == (len(view.channels), len(CHANNEL_FEATURE_NAMES))
    assert arrays.node.shape == (len(NODE_FEATURE_NAMES),)
    assert arrays.channels.dtype == arrays.node.dtype == np.float32
    assert np.isfinite(arrays.channels).all()
    assert np.isfinite(arrays.node).all()
    assert (np.abs(arrays.channels) <= 3.0).all()
    assert (np.abs(arrays.node) <= 3.0).all()


def test_every_feature_is_named_once_and_explained() -> None:
    for features in (CHANNEL_FEATURES, NODE_FEATURES):
        names = [feature.name for feature in features]
        assert len(set(names)) == len(names)
        assert all(feature.meaning for feature in features)


def test_a_quiet_channel() -> None:
    values = row(QUIET)
    expected = {"local_share": 0.25, "capacity": 0.0, "active": 1.0}
    assert values == dict.fromkeys(CHANNEL_FEATURE_NAMES, 0.0) | expected


def test_scales_are_one_where_they_say() -> None:
    busy = replace(
        QUIET,
        policy=ChannelPolicy(
            base_fee_msat=10_000, fee_rate_ppm=10_000, inbound_fee_rate_ppm=-10_000
        ),
        peer_policy=ChannelPolicy(fee_rate_ppm=10_000),
        competing_ppm=10_000,
        found_policy=ChannelPolicy(fee_rate_ppm=10_000),
        flow=ChannelFlow(
            forwarded_in_msat=QUIET.capacity_msat,
            forwarded_out_msat=QUIET.capacity_msat,
            fees_earned_msat=1_000_000,
            forwards=100,
            failed_forwards=300,
            sent_msat=QUIET.capacity_msat,
            received_msat=QUIET.capacity_msat,
        ),
    )
    values = row(busy)
    special = {"local_share": 0.25, "capacity": 0.0, "failed_share": 0.75}
    assert values == dict.fromkeys(CHANNEL_FEATURE_NAMES, 1.0) | special


def test_nothing_is_known_of_an_empty_node() -> None:
    values = whole(view_of())
    expected = {"local_share": 0.5, "payment_success": 1.0}
    assert values == dict.fromkeys(NODE_FEATURE_NAMES, 0.0) | expected


def test_the_node_sums_up_its_channels() -> None:
    other = replace(
        QUIET,
        scid=2,
        active=False,
        local_balance_msat=1_000_000_000,
        remote_balance_msat=0,
        flow=ChannelFlow(
            forwarded_out_msat=2_000_000_000,
            fees_earned_msat=1_000_000,
            forwards=3,
            failed_forwards=1,
        ),
    )
    view = replace(
        view_of(QUIET, other), payments_settled=3, payments_failed=1, failed_attempts=100
    )
    values = whole(view)
    assert values["active_share"] == 0.5
    assert values["local_share"] == 0.625
    assert values["imbalance"] == 0.75
    assert values["forwarded"] == 1.0
    assert values["fees_earned"] == 1.0
    assert values["failed_share"] == 0.25
    assert values["payment_success"] == 0.75
    assert values["failed_attempts"] == 1.0


def test_without_a_record_the_present_fee_counts_as_found() -> None:
    values = row(replace(QUIET, policy=ChannelPolicy(fee_rate_ppm=10_000)))
    assert values["found_fee_rate"] == values["fee_rate"] == 1.0
