"""What an agent does with forwards: whom it admits, and where it sends them on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env.live.forwarding import NEVER, Community, Forwarder, admits
from lnagents.lnd import FailHtlc, HeldHtlc, HtlcAnswer, ResumeHtlc, SettleHtlc
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation
from lnagents.model.payment import HtlcEvent, HtlcEventKind, HtlcRole
from lnagents.model.view import ChannelFlow
from tests.unit.env.live.nodes import (
    CAPACITY,
    FAR,
    HEIGHT,
    LEFT,
    OWN,
    PAYMENT_HASH,
    PREIMAGE,
    RIGHT,
    ScriptedInterceptor,
    ScriptedNode,
    live_node,
    local,
    public,
    route_by,
)

AMOUNT = 1_000_000
INCOMING, ONE, OTHER = 1, 2, 3
WANTED = Delegation(FAR, bytes(32), AMOUNT, 80, passed=())


class Case:
    """A forwarder between LEFT and two channels to RIGHT, which leads on to FAR."""

    def __init__(self, **script: Any) -> None:
        ends = ((INCOMING, LEFT), (ONE, RIGHT), (OTHER, RIGHT))
        self.script = ScriptedNode(
            local=[local(scid, peer) for scid, peer in ends],
            graph_channels={scid: public(scid, OWN, peer) for scid, peer in ends},
            routes={scid: route_by(scid, RIGHT, AMOUNT) for scid in (ONE, OTHER)},
            **script,
        )
        self.node = live_node(self.script)
        self.priority: set[str] = set()
        self.forwarder = Forwarder(self.node, Community(set(), self.priority))
        self.interceptor = ScriptedInterceptor()
        vars(self.forwarder)["_interceptor"] = self.interceptor

    async def decide(self, htlc: HeldHtlc) -> HtlcAnswer:
        await cast(Any, self.forwarder)._handle(htlc)
        ((told, answer),) = self.interceptor.answers
        assert told is htlc
        self.interceptor.answers.clear()
        return answer

    def flows(self) -> dict[int, ChannelFlow]:
        return self.node.flows.take(self.script.local)


def asked(outgoing_scid: int = ONE, *, fee: int = 5_000, amount: int = AMOUNT) -> HeldHtlc:
    return HeldHtlc(
        incoming_scid=INCOMING,
        incoming_htlc_id=7,
        incoming_amount_msat=amount + fee,
        incoming_expiry=HEIGHT + 163 + 80,
        payment_hash=PAYMENT_HASH,
        outgoing_scid=outgoing_scid,
        outgoing_amount_msat=amount,
        outgoing_expiry=HEIGHT + 163,
        custom_records={},
        auto_fail_height=0,
    )


def left_to_us(delegation: Delegation = WANTED, *, fee: int = 5_000) -> HeldHtlc:
    records = {DELEGATION_RECORD: delegation.to_bytes()}
    return replace(asked(NOWHERE, fee=fee), custom_records=records)


@given(
    st.integers(0, CAPACITY),
    st.floats(0.0, 1.0),
    st.integers(1, CAPACITY),
    st.integers(0, 482),
)
def test_what_is_kept_free_stays_free(
    balance: int, share: float, amount: int, pending: int
) -> None:
    channel = local(ONE, RIGHT, balance, pending=pending)
    if admits(channel, share, amount):
        assert channel.spendable_msat - amount >= share * CAPACITY
        assert channel.max_accepted_htlcs - pending - 1 >= share * channel.max_accepted_htlcs
    assert admits(channel, 0.0, amount) == (channel.spendable_msat >= amount)
    assert not admits(channel, 1.0, amount)


async def test_forwards_go_on_while_nothing_is_kept() -> None:
    case = Case()
    assert await case.decide(asked()) == ResumeHtlc()
    assert await case.decide(asked(999)) == ResumeHtlc()


async def test_what_breaks_into_the_reserve_is_refused_without_priority() -> None:
    case = Case()
    case.forwarder.reserved[ONE] = 0.489
    assert await case.decide(asked()) == ResumeHtlc()
    assert await case.decide(asked(amount=2 * AMOUNT)) == FailHtlc()
    assert await case.decide(asked(OTHER, amount=2 * AMOUNT)) == ResumeHtlc()
    case.priority.add(PAYMENT_HASH)
    assert await case.decide(asked(amount=2 * AMOUNT)) == ResumeHtlc()


async def test_a_node_that_does_not_answer_refuses() -> None:
    case = Case()
    case.forwarder.reserved[ONE] = 0.1
    case.script.down = True
    assert await case.decide(asked()) == FailHtlc()


@pytest.mark.parametrize(
    ("preferences", "first"),
    [({}, ONE), ({OTHER: 0.5}, OTHER), ({ONE: -1.0}, OTHER), ({ONE: NEVER}, OTHER)],
)
async def test_a_forward_leaves_by_the_preferred_channel(
    preferences: dict[int, float], first: int
) -> None:
    case = Case()
    case.forwarder.preferences.update(preferences)
    assert await case.decide(left_to_us()) == SettleHtlc(PREIMAGE)
    (sent,) = case.script.sent
    assert sent.hops[0].scid == first
    assert (sent.payment_addr, sent.payment_total_msat) == (WANTED.payment_addr, AMOUNT)
    # The node sees a payment of its own; it counts as what it is.
    begun = HtlcEvent(
        HtlcEventKind.FORWARD, HtlcRole.SEND, 1, 0, 0, first, 4, outgoing_amount_msat=AMOUNT
    )
    case.node.flows.on_event(begun)
    case.node.flows.on_event(replace(begun, kind=HtlcEventKind.SETTLE, preimage=PREIMAGE))
    flow = case.flows()[first]
    assert (flow.forwards, flow.fees_earned_msat, flow.sent_msat) == (1, 5_000, 0)


async def test_a_channel_that_fails_is_followed_by_the_next() -> None:
    case = Case(arrives=lambda route: route.hops[0].scid == OTHER)
    assert await case.decide(left_to_us()) == SettleHtlc(PREIMAGE)
    assert [route.hops[0].scid for route in case.script.sent] == [ONE, OTHER]
    assert case.flows()[ONE].failed_forwards == 1
    case = Case(arrives=lambda route: False)
    assert await case.decide(left_to_us()) == FailHtlc()
    assert [flow.failed_forwards for flow in case.flows().values()] == [0, 1, 1]


async def test_nothing_is_forwarded_at_a_loss_of_money_or_time() -> None:
    case = Case()
    # Base fee 1,000 msat and 1 ppm: 1,001 msat for this amount.
    assert await case.decide(left_to_us(fee=1_000)) == FailHtlc()
    assert not case.script.sent
    assert await case.decide(left_to_us(fee=1_001)) == SettleHtlc(PREIMAGE)
    hasty = replace(left_to_us(), incoming_expiry=HEIGHT + 163 + 79)
    assert await case.decide(hasty) == FailHtlc()


async def test_a_reserve_holds_for_forwards_of_the_own_choice() -> None:
    case = Case()
    case.forwarder.reserved[ONE] = 0.5
    assert await case.decide(left_to_us()) == SettleHtlc(PREIMAGE)
    assert [route.hops[0].scid for route in case.script.sent] == [OTHER]


async def test_the_search_goes_neither_back_nor_in_circles() -> None:
    case = Case()
    passed = replace(WANTED, passed=(RIGHT,))
    await case.decide(left_to_us(passed))
    assert [search["outgoing_scids"] for search in case.script.searches] == [[ONE]]
    assert case.script.searches[0]["ignored_nodes"] == {LEFT, RIGHT}
    assert case.script.searches[0]["fee_limit_msat"] == 5_000
    assert case.script.searches[0]["final_cltv_delta"] == 83


async def test_the_next_agent_is_left_the_choice_too() -> None:
    case = Case()
    vars(case.forwarder)["_community"] = Community({RIGHT}, set())
    assert await case.decide(left_to_us()) == SettleHtlc(PREIMAGE)
    (sent,) = case.script.sent
    assert [hop.scid for hop in sent.hops] == [ONE, NOWHERE]
    told = Delegation.from_bytes(sent.hops[0].custom_records[DELEGATION_RECORD])
    assert told == replace(WANTED, passed=(OWN,))
    # All the time that it was given is its own.
    assert sent.total_time_lock == HEIGHT + 163
    patient = replace(left_to_us(), incoming_expiry=HEIGHT + 163 + 80 + 30)
    assert await case.decide(patient) == SettleHtlc(PREIMAGE)
    assert case.script.sent[-1].total_time_lock == HEIGHT + 163 + 30


async def test_a_damaged_record_is_refused() -> None:
    case = Case()
    htlc = replace(asked(NOWHERE), custom_records={DELEGATION_RECORD: b"\x01"})
    assert await case.decide(htlc) == FailHtlc()
