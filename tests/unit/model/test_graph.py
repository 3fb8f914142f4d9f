from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.model.graph import (
    Channel,
    ChannelPolicy,
    LocalChannel,
    NetworkGraph,
    forwarding_fee,
)

AMOUNTS = st.integers(0, 10**12)
POLICIES = st.builds(
    ChannelPolicy,
    base_fee_msat=st.integers(0, 10**7),
    fee_rate_ppm=st.integers(0, 10**6),
    inbound_base_fee_msat=st.integers(-(2**31), 2**31 - 1),
    inbound_fee_rate_ppm=st.integers(-(2**31), 2**31 - 1),
)


@given(AMOUNTS, POLICIES)
def test_outbound_fees_round_down(amount: int, policy: ChannelPolicy) -> None:
    exact = policy.base_fee_msat + Fraction(amount * policy.fee_rate_ppm, 1_000_000)
    assert exact - 1 < policy.outbound_fee(amount) <= exact


@given(AMOUNTS, POLICIES)
def test_inbound_fees_round_towards_zero(amount: int, policy: ChannelPolicy) -> None:
    rate = min(10_000_000, max(-10_000_000, policy.inbound_fee_rate_ppm))
    exact = Fraction(amount * rate, 1_000_000)
    proportional = policy.inbound_fee(amount) - policy.inbound_base_fee_msat
    assert abs(proportional) <= abs(exact) < abs(proportional) + 1


@pytest.mark.parametrize(
    ("amount", "rate", "base", "fee"),
    [
        # What LND's integer division gives; floor division would give -3 and -1.
        (2_500_000, -1, 0, -2),
        (999_999, -1, 0, 0),
        (1_000_000, -1, -5, -6),
        (2_500_000, 1, 0, 2),
        (10, -11_000_000, 0, -100),
    ],
)
def test_inbound_fees_as_lnd_computes_them(amount: int, rate: int, base: int, fee: int) -> None:
    policy = ChannelPolicy(inbound_base_fee_msat=base, inbound_fee_rate_ppm=rate)
    assert policy.inbound_fee(amount) == fee


@given(AMOUNTS, POLICIES, POLICIES)
def test_nobody_forwards_at_a_loss(
    amount: int, outgoing: ChannelPolicy, incoming: ChannelPolicy
) -> None:
    fee = forwarding_fee(amount, outgoing, incoming)
    outbound = outgoing.outbound_fee(amount)
    assert fee >= 0
    assert fee == max(0, outbound + incoming.inbound_fee(amount + outbound))


@given(AMOUNTS, POLICIES)
def test_the_first_hop_knows_no_incoming_channel(amount: int, policy: ChannelPolicy) -> None:
    assert forwarding_fee(amount, policy) == policy.outbound_fee(amount)


def test_discount_is_computed_on_amount_and_outbound_fee() -> None:
    outgoing = ChannelPolicy(base_fee_msat=0, fee_rate_ppm=100_000)
    incoming = ChannelPolicy(inbound_fee_rate_ppm=-50_000)
    assert forwarding_fee(1_000_000, outgoing, incoming) == 100_000 - 55_000


@pytest.fixture
def channel() -> Channel:
    policy = ChannelPolicy(fee_rate_ppm=7)
    return Channel(1, "f" * 64 + ":0", "02aa", "03bb", 5_000, policy, None)


def test_edges_belong_to_their_source(channel: Channel) -> None:
    forward, backward = channel.edges()
    assert (forward.source, forward.target, forward.policy) == ("02aa", "03bb", channel.policy1)
    assert (backward.source, backward.target, backward.policy) == ("03bb", "02aa", None)
    with pytest.raises(ValueError, match="02cc is not an end of channel 1"):
        channel.edge_from("02cc")


def test_a_graph_offers_edges_with_a_policy_only(channel: Channel) -> None:
    graph = NetworkGraph(channels={1: channel})
    assert list(graph.edges()) == [channel.edge_from("02aa")]


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**8))
def test_reserves_cannot_be_spent(local: int, remote: int, reserve: int) -> None:
    channel = LocalChannel(
        scid=1,
        channel_point="",
        peer="02aa",
        capacity_msat=local + remote,
        local_balance_msat=local,
        remote_balance_msat=remote,
        unsettled_msat=0,
        local_reserve_msat=reserve,
        remote_reserve_msat=reserve,
        commit_fee_msat=0,
        anchors_msat=0,
        initiator=True,
        active=True,
        private=False,
        pending_htlcs=0,
        max_accepted_htlcs=483,
    )
    assert channel.spendable_msat == max(0, local - reserve)
    assert channel.receivable_msat == max(0, remote - reserve)
