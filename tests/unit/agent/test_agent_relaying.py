"""Ways that are left to an agent: what it is told, what it gets, and what is left for it."""

from __future__ import annotations

import time
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lnagents.agent.candidates import BLOCK_PADDING, Candidate, PathQuery, RouteFinder
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.orders import PaymentOrder, Relay
from lnagents.agent.relaying import relayed
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation, QuoteSeal
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel, NetworkGraph
from lnagents.model.payment import Invoice

OWN, MIDDLE, AGENT, END = ("02" + digit * 64 for digit in "1234")
AMOUNT, HEIGHT = 1_000_000, 100
CAPACITY = 10_000_000_000
INVOICE = Invoice("", "ab" * 32, END, AMOUNT, 0.0, 80, b"s" * 32)
QUOTE = QuoteSeal(1_900_000_000, b"q" * 16)


def finder() -> RouteFinder:
    """own - middle - agent; the end is not known here."""
    policy = ChannelPolicy(base_fee_msat=100, fee_rate_ppm=1_000, time_lock_delta=40)
    ends = {1: (OWN, MIDDLE), 2: (MIDDLE, AGENT)}
    channels = {
        scid: Channel(scid, f"{scid}:0", one, other, CAPACITY, policy, policy)
        for scid, (one, other) in ends.items()
    }
    found = RouteFinder(OWN, Liquidity(3_600.0))
    found.load(NetworkGraph({}, channels))
    half = CAPACITY // 2
    found.set_local(
        {
            1: LocalChannel(
                1, "1:0", MIDDLE, CAPACITY, half, half, 0, 0, 0, 0, 0,
                False, True, False, 0, 483,
            )
        }
    )  # fmt: skip
    return found


FINDER = finder()


def find(query: PathQuery) -> list[Candidate]:
    return FINDER.find(query, count=5, height=HEIGHT, now=time.time())


def told_by(candidate: Candidate) -> Delegation:
    return Delegation.from_bytes(candidate.route.hops[-2].custom_records[DELEGATION_RECORD])


def test_a_quoted_agent_gets_just_what_it_asked_for() -> None:
    order = PaymentOrder(invoice=INVOICE, direct=False)
    relay = Relay(AGENT, 7_000, 300, QUOTE)
    (candidate,) = relayed(order, relay, 20_000, HEIGHT, find)
    route = candidate.route
    assert route.scids == (1, 2, NOWHERE)
    assert [hop.target for hop in route.hops] == [MIDDLE, AGENT, AGENT]
    way_fee = 100 + (AMOUNT + 7_000) // 1_000
    assert [hop.fee_msat for hop in route.hops] == [way_fee, 7_000, 0]
    assert (route.amount_msat, route.fee_msat) == (AMOUNT, 7_000 + way_fee)
    assert route.hops[0].amount_msat == AMOUNT + 7_000
    # What comes in at the agent expires as late as it asked for.
    assert route.hops[0].expiry == HEIGHT + 300 + BLOCK_PADDING
    assert route.payment_addr == b""
    assert told_by(candidate) == Delegation(
        END, INVOICE.payment_addr, AMOUNT, 80, (), 7_000, 20 - 2, QUOTE
    )
    assert len(candidate.edges) == 2


def test_limits_leave_no_way() -> None:
    order = PaymentOrder(invoice=INVOICE, direct=False)
    relay = Relay(AGENT, 7_000, 300)
    assert relayed(order, relay, 8_106, HEIGHT, find) == []
    assert len(relayed(order, relay, 8_107, HEIGHT, find)) == 1
    assert relayed(order, relay, 6_999, HEIGHT, find) == []
    # Two channels to the agent, and at least one from there on.
    assert relayed(replace(order, hop_limit=2), relay, 20_000, HEIGHT, find) == []
    (last,) = relayed(replace(order, hop_limit=3), relay, 20_000, HEIGHT, find)
    assert told_by(last).hop_limit == 1
    assert relayed(replace(order, passed=(AGENT,)), relay, 20_000, HEIGHT, find) == []
    for node in (AGENT, MIDDLE):
        one = replace(order, excluded=frozenset({node}))
        assert relayed(one, relay, 20_000, HEIGHT, find) == []
    short = replace(order, latest_expiry=HEIGHT + 300 + BLOCK_PADDING + 39)
    assert relayed(short, relay, 20_000, HEIGHT, find) == []


@given(limit=st.integers(1_200, 10**9), blocks=st.integers(140, 2_000))
def test_an_agent_without_a_quote_gets_all_that_is_left(limit: int, blocks: int) -> None:
    order = PaymentOrder(
        invoice=INVOICE, direct=False, latest_expiry=HEIGHT + blocks, passed=(OWN,)
    )
    (candidate,) = relayed(order, Relay(AGENT), limit, HEIGHT, find)
    route = candidate.route
    told = told_by(candidate)
    assert route.amount_msat == AMOUNT
    assert route.fee_msat <= limit
    # The way's fee is for a little less than what it was first sought for.
    assert limit - route.fee_msat <= limit // 1_000 + 2
    assert told.fee_budget_msat == route.hops[-2].fee_msat
    assert told.passed == (OWN,)
    assert route.total_time_lock == HEIGHT + blocks
