"""Between LND's messages and our types: nothing is lost and no unit is mixed up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.lnd import (
    ChannelClosed,
    ChannelOpening,
    InvoiceStatus,
    NodeAnnounced,
    PolicyAnnounced,
    convert,
    convert_payments,
)
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.model.errors import InvalidRequestError
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import (
    AttemptStatus,
    FailureCode,
    Hop,
    HtlcEventKind,
    HtlcRole,
    PaymentStatus,
    Route,
)

MAX_MSAT = 21_000_000 * 100_000_000 * 1_000

KEY = "02" + "ab" * 32
OTHER = "03" + "cd" * 32

keys = st.binary(min_size=32, max_size=32).map(lambda tail: "02" + tail.hex())
scids = st.integers(0, 2**64 - 1)
amounts = st.integers(0, MAX_MSAT)
heights = st.integers(0, 2**32 - 1)
records = st.dictionaries(st.integers(65_536, 2**64 - 1), st.binary(max_size=40), max_size=3)
hops = st.builds(
    Hop,
    scid=scids,
    target=keys,
    amount_msat=amounts,
    fee_msat=amounts,
    expiry=heights,
    custom_records=records,
)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    path = tuple(draw(st.lists(hops, min_size=1, max_size=5)))
    secret = draw(st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)))
    return Route(
        hops=path,
        total_amount_msat=path[-1].amount_msat + draw(amounts),
        total_time_lock=draw(heights),
        payment_addr=secret,
        payment_total_msat=draw(amounts) if secret else 0,
    )


policies = st.builds(
    ChannelPolicy,
    base_fee_msat=st.integers(0, 2**32 - 1),
    fee_rate_ppm=st.integers(0, 2**32 - 1),
    inbound_base_fee_msat=st.integers(-(2**31), 2**31 - 1),
    inbound_fee_rate_ppm=st.integers(-(2**31), 2**31 - 1),
    min_htlc_msat=amounts,
    max_htlc_msat=st.integers(0, 2**64 - 1),
    time_lock_delta=st.integers(0, 2**16 - 1),
    disabled=st.booleans(),
    last_update=st.integers(0, 2**32 - 1),
)


def announced(policy: ChannelPolicy) -> ln.RoutingPolicy:
    return ln.RoutingPolicy(
        time_lock_delta=policy.time_lock_delta,
        min_htlc=policy.min_htlc_msat,
        fee_base_msat=policy.base_fee_msat,
        fee_rate_milli_msat=policy.fee_rate_ppm,
        disabled=policy.disabled,
        max_htlc_msat=policy.max_htlc_msat,
        last_update=policy.last_update,
        inbound_fee_base_msat=policy.inbound_base_fee_msat,
        inbound_fee_rate_milli_msat=policy.inbound_fee_rate_ppm,
    )


@given(routes())
def test_routes_survive_the_wire(route: Route) -> None:
    wire = convert_payments.to_route(route).SerializeToString()
    assert convert_payments.route(ln.Route.FromString(wire)) == route


@given(routes())
def test_only_the_last_hop_carries_the_payment_secret(route: Route) -> None:
    message = convert_payments.to_route(route)
    assert not any(hop.HasField("mpp_record") for hop in message.hops[:-1])
    assert message.hops[-1].HasField("mpp_record") == bool(route.payment_addr)
    assert message.total_fees_msat == route.total_amount_msat - route.hops[-1].amount_msat


@given(policies)
def test_policies_survive_the_wire(policy: ChannelPolicy) -> None:
    wire = announced(policy).SerializeToString()
    assert convert.policy(ln.RoutingPolicy.FromString(wire)) == policy


@given(policies)
def test_an_update_says_everything_that_a_node_decides(policy: ChannelPolicy) -> None:
    update = convert.to_policy_update("ab" * 32 + ":1", policy)
    update = ln.PolicyUpdateRequest.FromString(update.SerializeToString())
    assert update.WhichOneof("scope") == "chan_point"
    assert update.HasField("inbound_fee")
    assert update.min_htlc_msat_specified
    assert (
        update.base_fee_msat,
        update.fee_rate_ppm,
        update.inbound_fee.base_fee_msat,
        update.inbound_fee.fee_rate_ppm,
        update.min_htlc_msat,
        update.max_htlc_msat,
        update.time_lock_delta,
    ) == (
        policy.base_fee_msat,
        policy.fee_rate_ppm,
        policy.inbound_base_fee_msat,
        policy.inbound_fee_rate_ppm,
        policy.min_htlc_msat,
        policy.max_htlc_msat,
        policy.time_lock_delta,
    )


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1))
def test_outpoints_survive_the_wire(txid: bytes, index: int) -> None:
    text = convert.funding_outpoint(txid, index)
    point = convert.to_channel_point(text)
    assert bytes.fromhex(point.funding_txid_str)[::-1] == txid
    assert point.output_index == index


@pytest.mark.parametrize("text", ["", "ab", "ab" * 32, "ab" * 32 + ":x", "ab:0"])
def test_a_bad_channel_point_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a channel point"):
        convert.to_channel_point(text)


def test_an_opening_leaves_fees_to_the_node_unless_they_are_given() -> None:
    plain = convert.to_opening(ChannelOpening(KEY, 1_000_000, 400_000))
    assert plain.node_pubkey.hex() == KEY
    assert (plain.local_funding_amount, plain.push_sat) == (1_000_000, 400_000)
    assert not plain.use_base_fee
    assert not plain.use_fee_rate
    free = convert.to_opening(ChannelOpening(KEY, 1_000_000, base_fee_msat=0, fee_rate_ppm=0))
    assert free.use_base_fee
    assert free.use_fee_rate
    assert (free.base_fee, free.fee_rate) == (0, 0)


def test_failure_codes_are_those_of_lnd() -> None:
    theirs = {value.name: value.number for value in ln.Failure.FailureCode.DESCRIPTOR.values}
    assert {code.name: code.value for code in FailureCode} == theirs
    assert convert_payments.failure_code(4711) is FailureCode.UNKNOWN_FAILURE


def test_every_status_of_lnd_has_one_of_ours() -> None:
    for payment in ln.Payment.PaymentStatus.values()[1:]:
        assert convert_payments.payment(ln.Payment(status=payment)).status in PaymentStatus
    for attempt in ln.HTLCAttempt.HTLCStatus.values():
        assert convert_payments.attempt(ln.HTLCAttempt(status=attempt)).status in AttemptStatus
    for invoice in ln.Invoice.InvoiceState.values():
        assert convert_payments.invoice_state(ln.Invoice(state=invoice)).status in InvoiceStatus


def test_a_failed_attempt_says_where_why_and_with_which_policy() -> None:
    message = ln.HTLCAttempt(
        attempt_id=7,
        status=ln.HTLCAttempt.FAILED,
        attempt_time_ns=1_500_000_000,
        resolve_time_ns=2_500_000_000,
        failure=ln.Failure(
            code=ln.Failure.FEE_INSUFFICIENT,
            failure_source_index=2,
            channel_update=ln.ChannelUpdate(chan_id=2**64 - 1),
        ),
    )
    attempt = convert_payments.attempt(message)
    assert attempt.failure is not None
    assert attempt.failure.code is FailureCode.FEE_INSUFFICIENT
    assert attempt.failure.source_index == 2
    assert attempt.failure.policy_scid == 2**64 - 1
    assert (attempt.attempted_at, attempt.resolved_at) == (1.5, 2.5)
    assert convert_payments.attempt(ln.HTLCAttempt()).resolved_at is None


def test_a_payment_has_a_preimage_only_when_it_settled() -> None:
    zeros, preimage = "00" * 32, "5a" * 32
    failed = ln.Payment(
        payment_preimage=zeros,
        status=ln.Payment.FAILED,
        failure_reason=ln.FAILURE_REASON_NO_ROUTE,
    )
    assert convert_payments.payment(failed).preimage == b""
    assert convert_payments.payment(failed).failure_reason == "no_route"
    settled = convert_payments.payment(
        ln.Payment(payment_preimage=preimage, status=ln.Payment.SUCCEEDED, fee_msat=3)
    )
    assert settled.preimage.hex() == preimage
    assert settled.failure_reason == ""
    assert settled.fee_msat == 3


def test_a_channel_of_whole_satoshi_becomes_msat() -> None:
    message = ln.Channel(
        chan_id=2**63,
        capacity=1_000_000,
        local_balance=594_815,
        remote_balance=400_000,
        commit_fee=4_526,
        fee_per_kw=4_026,
        unsettled_balance=5,
        commitment_type=ln.CommitmentType.ANCHORS,
        pending_htlcs=[ln.HTLC(), ln.HTLC()],
        local_constraints=ln.ChannelConstraints(chan_reserve_sat=10_000, max_accepted_htlcs=483),
        remote_constraints=ln.ChannelConstraints(chan_reserve_sat=20_000, max_accepted_htlcs=30),
    )
    channel = convert.local_channel(message)
    assert channel.scid == 2**63
    assert channel.anchors_msat == 660_000
    # 1,124 units of weight; `commit_fee` has one more satoshi, rounded off the balances.
    assert channel.opener_cost_msat == 4_525_000 + 660_000
    assert channel.local_balance_msat == 594_815_000
    assert (channel.local_reserve_msat, channel.remote_reserve_msat) == (10_000_000, 20_000_000)
    assert (channel.pending_htlcs, channel.max_accepted_htlcs) == (2, 483)
    message.commitment_type = ln.CommitmentType.STATIC_REMOTE_KEY
    assert convert.local_channel(message).anchors_msat == 0
    assert convert.local_channel(message).opener_cost_msat == 2_914_000
    message.commitment_type = ln.CommitmentType.SIMPLE_TAPROOT
    assert convert.local_channel(message).opener_cost_msat == 3_897_000 + 660_000


def test_an_edge_without_an_announcement_has_no_policy() -> None:
    message = ln.ChannelEdge(
        channel_id=9, node1_pub=KEY, node2_pub=OTHER, capacity=5, node2_policy=ln.RoutingPolicy()
    )
    graph = convert.graph(
        ln.ChannelGraph(nodes=[ln.LightningNode(pub_key=KEY, alias="a")], edges=[message])
    )
    channel = graph.channels[9]
    assert graph.aliases == {KEY: "a"}
    assert channel.policy1 is None
    assert channel.policy2 is not None
    assert channel.capacity_msat == 5_000
    assert [edge.source for edge in graph.edges()] == [OTHER]


def test_graph_updates_come_one_by_one() -> None:
    update = ln.GraphTopologyUpdate(
        node_updates=[ln.NodeUpdate(identity_key=KEY, alias="a")],
        channel_updates=[
            ln.ChannelEdgeUpdate(chan_id=1, capacity=2, advertising_node=KEY, connecting_node=OTHER)
        ],
        closed_chans=[ln.ClosedChannelUpdate(chan_id=3, closed_height=4)],
    )
    node, policy, closed = convert.graph_updates(update)
    assert node == NodeAnnounced(KEY, "a")
    assert isinstance(policy, PolicyAnnounced)
    assert (policy.edge.source, policy.edge.target, policy.edge.capacity_msat) == (
        KEY,
        OTHER,
        2_000,
    )
    assert closed == ChannelClosed(3, 4)


def test_htlc_events() -> None:
    info = router.HtlcInfo(
        incoming_timelock=140,
        outgoing_timelock=100,
        incoming_amt_msat=1_010,
        outgoing_amt_msat=1_000,
    )
    forward = convert_payments.htlc_event(
        router.HtlcEvent(
            incoming_channel_id=1,
            incoming_htlc_id=2,
            outgoing_channel_id=3,
            event_type=router.HtlcEvent.FORWARD,
            forward_event=router.ForwardEvent(info=info),
        )
    )
    assert forward is not None
    assert (forward.kind, forward.role) == (HtlcEventKind.FORWARD, HtlcRole.FORWARD)
    assert (forward.incoming_scid, forward.incoming_htlc_id, forward.outgoing_scid) == (1, 2, 3)
    assert forward.fee_msat == 10
    assert (forward.incoming_expiry, forward.outgoing_expiry) == (140, 100)

    refused = convert_payments.htlc_event(
        router.HtlcEvent(
            event_type=router.HtlcEvent.FORWARD,
            link_fail_event=router.LinkFailEvent(
                info=info,
                wire_failure=ln.Failure.TEMPORARY_CHANNEL_FAILURE,
                failure_detail=router.FailureDetail.INSUFFICIENT_BALANCE,
            ),
        )
    )
    assert refused is not None
    assert refused.failure_detail == "insufficient_balance"
    assert refused.kind is HtlcEventKind.LINK_FAIL

    without_detail = convert_payments.htlc_event(
        router.HtlcEvent(
            link_fail_event=router.LinkFailEvent(
                wire_failure=ln.Failure.FEE_INSUFFICIENT,
                failure_detail=router.FailureDetail.NO_DETAIL,
            )
        )
    )
    assert without_detail is not None
    assert without_detail.failure_detail == "fee_insufficient"

    settled = convert_payments.htlc_event(
        router.HtlcEvent(
            event_type=router.HtlcEvent.SEND, settle_event=router.SettleEvent(preimage=b"p")
        )
    )
    assert settled is not None
    assert (settled.kind, settled.role, settled.preimage) == (
        HtlcEventKind.SETTLE,
        HtlcRole.SEND,
        b"p",
    )
    final = convert_payments.htlc_event(router.HtlcEvent(final_htlc_event=router.FinalHtlcEvent()))
    assert final is not None
    assert (final.kind, final.failure_detail) == (HtlcEventKind.FINAL, "failed")
    began = router.HtlcEvent(subscribed_event=router.SubscribedEvent())
    assert convert_payments.htlc_event(began) is None


def test_an_invoice_with_a_blinded_path_has_route_hints() -> None:
    message = ln.PayReq(timestamp=100, expiry=60, num_msat=5, payment_hash="aa")
    invoice = convert_payments.invoice(message, "lnbcrt1")
    assert (invoice.expires_at, invoice.amount_msat, invoice.has_route_hints) == (160.0, 5, False)
    message.blinded_paths.add()
    assert convert_payments.invoice(message, "lnbcrt1").has_route_hints
