"""HTLC events become flows per channel: each counted once, in whatever order they end."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lnagents.env.flows import MAX_PENDING_EVENTS, FlowAccount
from lnagents.env.local_view import channel_view, competing_ppm
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel
from lnagents.model.payment import HtlcEvent, HtlcEventKind, HtlcRole
from lnagents.model.view import ChannelFlow

OWN, PEER, OTHER, FAR = ("02" + digit * 64 for digit in "1234")
CAPACITY = 1_000_000_000


def local(scid: int, balance: int) -> LocalChannel:
    return LocalChannel(
        scid, f"{scid}:0", PEER, CAPACITY, balance, CAPACITY - balance,
        0, 0, 0, 0, 0, False, True, False, 0, 483,
    )  # fmt: skip


def event(
    kind: HtlcEventKind, role: HtlcRole, number: int, incoming: int = 0, outgoing: int = 0
) -> HtlcEvent:
    return HtlcEvent(
        kind=kind,
        role=role,
        timestamp_ns=number,
        incoming_scid=0 if role is HtlcRole.SEND else 1,
        incoming_htlc_id=number,
        outgoing_scid=0 if role is HtlcRole.RECEIVE else 2,
        outgoing_htlc_id=number,
        incoming_amount_msat=incoming,
        outgoing_amount_msat=outgoing,
    )


forwards = st.lists(
    st.tuples(
        st.integers(1, 10**9),
        st.integers(0, 10**6),
        st.sampled_from([HtlcEventKind.SETTLE, HtlcEventKind.FORWARD_FAIL]),
    ),
    max_size=30,
)


@given(forwards, st.randoms(use_true_random=False), st.integers(0, 30))
def test_every_forward_is_counted_once_in_the_round_in_which_it_ends(
    ended: list[tuple[int, int, HtlcEventKind]], rng: random.Random, split: int
) -> None:
    account = FlowAccount()
    for number, (amount, fee, _) in enumerate(ended):
        begun = event(
            HtlcEventKind.FORWARD, HtlcRole.FORWARD, number, incoming=amount + fee, outgoing=amount
        )
        assert account.on_event(begun) is None
    order = list(range(len(ended)))
    rng.shuffle(order)
    channels = (local(1, 500), local(2, 500))
    taken = []
    for part in (order[:split], order[split:]):
        for number in part:
            amount, fee, kind = ended[number]
            told = account.on_event(event(kind, HtlcRole.FORWARD, number))
            assert told is not None
            assert told.settled == (kind is HtlcEventKind.SETTLE)
            assert (told.outgoing_amount_msat, told.fee_msat) == (amount, fee)
        taken.append((part, account.take(channels)))
    for part, flows in taken:
        settled = [ended[n] for n in part if ended[n][2] is HtlcEventKind.SETTLE]
        out = sum(amount for amount, _, _ in settled)
        fees = sum(fee for _, fee, _ in settled)
        assert flows[1] == ChannelFlow(forwarded_in_msat=out + fees)
        assert flows[2] == ChannelFlow(
            forwarded_out_msat=out,
            fees_earned_msat=fees,
            forwards=len(settled),
            failed_forwards=len(part) - len(settled),
        )
    assert account.events == 2 * len(ended)


def test_receipts_are_what_else_does_not_explain_the_balance() -> None:
    account = FlowAccount()
    receipt = event(HtlcEventKind.SETTLE, HtlcRole.RECEIVE, 1)
    account.on_event(receipt)
    # Nothing to compare with yet.
    assert account.take([local(1, 5_000)])[1].received_msat == 0
    account.on_event(receipt)
    for kind in (HtlcEventKind.FORWARD, HtlcEventKind.SETTLE):
        account.on_event(event(kind, HtlcRole.FORWARD, 2, incoming=1_100, outgoing=1_000))
    assert account.take([local(1, 9_100)])[1] == ChannelFlow(
        forwarded_in_msat=1_100, received_msat=3_000
    )
    # A balance that rises by itself, when a fee rate falls, is no receipt.
    assert account.take([local(1, 9_900)])[1] == ChannelFlow()


def test_own_payments_count_when_they_settle() -> None:
    account = FlowAccount()
    for number, end in enumerate((HtlcEventKind.SETTLE, HtlcEventKind.FORWARD_FAIL)):
        account.on_event(event(HtlcEventKind.FORWARD, HtlcRole.SEND, number, outgoing=700))
        assert account.on_event(event(end, HtlcRole.SEND, number)) is None
        assert account.on_event(event(HtlcEventKind.FINAL, HtlcRole.RECEIVE, number)) is None
    assert account.take([local(2, 0)])[2] == ChannelFlow(sent_msat=700)


def test_a_refused_forward_has_no_beginning() -> None:
    account = FlowAccount()
    refused = event(HtlcEventKind.LINK_FAIL, HtlcRole.FORWARD, 1, incoming=11, outgoing=10)
    told = account.on_event(refused)
    assert told is not None
    assert (told.settled, told.outgoing_amount_msat, told.fee_msat) == (False, 10, 1)
    unseen = account.on_event(event(HtlcEventKind.FORWARD_FAIL, HtlcRole.FORWARD, 2))
    assert unseen is not None
    assert (unseen.settled, unseen.outgoing_amount_msat) == (False, 0)
    # What settles without a known beginning moved an unknown amount.
    assert account.on_event(event(HtlcEventKind.SETTLE, HtlcRole.FORWARD, 3)) is None
    assert account.take([local(2, 0)])[2] == ChannelFlow(failed_forwards=2)


def test_what_an_agent_pays_onward_itself_is_a_forward() -> None:
    account = FlowAccount()
    preimage = bytes(range(32))
    payment_hash = hashlib.sha256(preimage).hexdigest()
    account.on_event(event(HtlcEventKind.FORWARD, HtlcRole.SEND, 1, outgoing=5_000))
    account.on_event(event(HtlcEventKind.FORWARD, HtlcRole.SEND, 2, outgoing=1_000))
    assert account.under_way == 2
    account.on_delegated(payment_hash, incoming_scid=1, incoming_amount_msat=1_070)
    own = event(HtlcEventKind.SETTLE, HtlcRole.SEND, 1)
    account.on_event(replace(own, preimage=bytes(32)))
    onward = event(HtlcEventKind.SETTLE, HtlcRole.SEND, 2)
    told = account.on_event(replace(onward, preimage=preimage))
    assert told is not None
    assert (told.settled, told.outgoing_amount_msat, told.fee_msat) == (True, 1_000, 70)
    flows = account.take([local(1, 0), local(2, 0)])
    assert flows[1] == ChannelFlow(forwarded_in_msat=1_070)
    assert flows[2] == ChannelFlow(
        forwarded_out_msat=1_000, fees_earned_msat=70, forwards=1, sent_msat=5_000
    )
    # The next payment of this hash is nobody's forward.
    account.on_event(event(HtlcEventKind.FORWARD, HtlcRole.SEND, 3, outgoing=1_000))
    again = replace(onward, outgoing_htlc_id=3, preimage=preimage)
    assert account.on_event(again) is None


def test_a_try_that_failed_is_counted_where_it_left() -> None:
    account = FlowAccount()
    account.on_delegated("aa", incoming_scid=1, incoming_amount_msat=1_070)
    account.on_returned("aa", 2)
    assert account.take([local(1, 0), local(2, 0)]) == {
        1: ChannelFlow(),
        2: ChannelFlow(failed_forwards=1),
    }


def test_forwards_that_never_end_do_not_fill_the_memory() -> None:
    account = FlowAccount()
    for number in range(MAX_PENDING_EVENTS + 1):
        account.on_event(event(HtlcEventKind.FORWARD, HtlcRole.FORWARD, number, 2, 1))
    assert account.on_event(event(HtlcEventKind.SETTLE, HtlcRole.FORWARD, 0)) is None
    assert account.on_event(event(HtlcEventKind.SETTLE, HtlcRole.FORWARD, 1)) is not None


def channel(scid: int, one: str, other: str, ppm: int, *, disabled: bool = False) -> Channel:
    policy = ChannelPolicy(fee_rate_ppm=ppm, disabled=disabled)
    return Channel(scid, f"{scid}:0", one, other, CAPACITY, policy, policy)


def test_competitors_are_the_others_edges_that_are_in_use() -> None:
    own = channel(1, OWN, PEER, 5)
    off = channel(2, PEER, OTHER, 900, disabled=True)
    assert competing_ppm([own, off], PEER, OWN) == -1
    silent = Channel(3, "3:0", PEER, FAR, CAPACITY, None, None)
    others = [own, off, silent, channel(4, PEER, OTHER, 30), channel(5, PEER, FAR, 51)]
    assert competing_ppm(others, PEER, OWN) == 40


def test_a_channel_that_gossip_does_not_show_is_not_in_use() -> None:
    view = channel_view(OWN, local(1, 7), None, flow=ChannelFlow(), competing=-1, found=None)
    assert not view.active
    assert view.peer_policy is None
    public = channel(1, OWN, PEER, 5)
    view = channel_view(OWN, local(1, 7), public, flow=ChannelFlow(), competing=3, found=None)
    assert view.active
    assert view.policy == view.peer_policy == public.policy1
