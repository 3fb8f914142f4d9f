"""Between LND's messages and our types: routes, payments, invoices and HTLCs. All pure."""

from __future__ import annotations

import struct

from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.lnd.types import (
    HeldHtlc,
    HtlcAnswer,
    InvoiceState,
    InvoiceStatus,
    ResumeHtlc,
    SettleHtlc,
)
from lnagents.model.payment import (
    Attempt,
    AttemptFailure,
    AttemptStatus,
    FailureCode,
    Hop,
    HtlcEvent,
    HtlcEventKind,
    HtlcRole,
    Invoice,
    Payment,
    PaymentStatus,
    Route,
)

NANOSECONDS = 1_000_000_000

_PAYMENT_STATUS = {
    ln.Payment.INITIATED: PaymentStatus.IN_FLIGHT,
    ln.Payment.IN_FLIGHT: PaymentStatus.IN_FLIGHT,
    ln.Payment.SUCCEEDED: PaymentStatus.SETTLED,
    ln.Payment.FAILED: PaymentStatus.FAILED,
}

_ATTEMPT_STATUS = {
    ln.HTLCAttempt.IN_FLIGHT: AttemptStatus.IN_FLIGHT,
    ln.HTLCAttempt.SUCCEEDED: AttemptStatus.SETTLED,
    ln.HTLCAttempt.FAILED: AttemptStatus.FAILED,
}

_INVOICE_STATUS = {
    ln.Invoice.OPEN: InvoiceStatus.OPEN,
    ln.Invoice.ACCEPTED: InvoiceStatus.ACCEPTED,
    ln.Invoice.SETTLED: InvoiceStatus.SETTLED,
    ln.Invoice.CANCELED: InvoiceStatus.CANCELED,
}

_HTLC_ROLES = {
    router.HtlcEvent.SEND: HtlcRole.SEND,
    router.HtlcEvent.RECEIVE: HtlcRole.RECEIVE,
    router.HtlcEvent.FORWARD: HtlcRole.FORWARD,
}


# ---- Routes, attempts, payments


def route(message: ln.Route) -> Route:
    """From every message that carries a route."""
    hops = tuple(
        Hop(
            scid=hop.chan_id,
            target=hop.pub_key,
            amount_msat=hop.amt_to_forward_msat,
            fee_msat=hop.fee_msat,
            expiry=hop.expiry,
            custom_records=dict(hop.custom_records),
        )
        for hop in message.hops
    )
    last = message.hops[-1].mpp_record if message.hops else ln.MPPRecord()
    return Route(
        hops=hops,
        total_amount_msat=message.total_amt_msat,
        total_time_lock=message.total_time_lock,
        payment_addr=last.payment_addr,
        payment_total_msat=last.total_amt_msat,
    )


def to_route(value: Route) -> ln.Route:
    """For SendToRouteV2. The payment secret and total go to the last hop."""
    message = ln.Route(
        total_time_lock=value.total_time_lock,
        total_fees_msat=value.fee_msat,
        total_amt_msat=value.total_amount_msat,
        hops=[
            ln.Hop(
                chan_id=hop.scid,
                expiry=hop.expiry,
                amt_to_forward_msat=hop.amount_msat,
                fee_msat=hop.fee_msat,
                pub_key=hop.target,
                custom_records=hop.custom_records,
            )
            for hop in value.hops
        ],
    )
    if value.payment_addr:
        record = message.hops[-1].mpp_record
        record.payment_addr = value.payment_addr
        record.total_amt_msat = value.payment_total_msat
    return message


def failure_code(number: int) -> FailureCode:
    """The code, or UNKNOWN_FAILURE for one that a newer LND may send."""
    try:
        return FailureCode(number)
    except ValueError:
        return FailureCode.UNKNOWN_FAILURE


_CHANNEL_UPDATE = struct.Struct(">QIBBHQII")
_HAS_MAXIMUM = 1


def channel_update(message: ln.ChannelUpdate) -> bytes:
    """The message as its node signed it (BOLT 7), without the type; empty if there is none."""
    if not message.signature:
        return b""
    fixed = _CHANNEL_UPDATE.pack(
        message.chan_id,
        message.timestamp,
        message.message_flags,
        message.channel_flags,
        message.time_lock_delta,
        message.htlc_minimum_msat,
        message.base_fee,
        message.fee_rate,
    )
    # A field that the flags do not announce is not on the wire.
    has_maximum = message.message_flags & _HAS_MAXIMUM
    maximum = message.htlc_maximum_msat.to_bytes(8) if has_maximum else b""
    return message.signature + message.chain_hash + fixed + maximum + message.extra_opaque_data


def attempt(message: ln.HTLCAttempt) -> Attempt:
    """From SendToRouteV2, and from the attempts of a payment."""
    failure = None
    if message.HasField("failure"):
        failure = AttemptFailure(
            code=failure_code(message.failure.code),
            source_index=message.failure.failure_source_index,
            policy_scid=message.failure.channel_update.chan_id,
            policy_update=channel_update(message.failure.channel_update),
        )
    return Attempt(
        attempt_id=message.attempt_id,
        route=route(message.route),
        status=_ATTEMPT_STATUS[message.status],
        attempted_at=message.attempt_time_ns / NANOSECONDS,
        resolved_at=message.resolve_time_ns / NANOSECONDS if message.resolve_time_ns else None,
        failure=failure,
        preimage=message.preimage,
    )


def payment(message: ln.Payment) -> Payment:
    """From SendPaymentV2, TrackPaymentV2 and ListPayments."""
    settled = message.status == ln.Payment.SUCCEEDED
    reason = ""
    if message.failure_reason:
        name = ln.PaymentFailureReason.Name(message.failure_reason)
        reason = name.removeprefix("FAILURE_REASON_").lower()
    return Payment(
        payment_hash=message.payment_hash,
        status=_PAYMENT_STATUS[message.status],
        amount_msat=message.value_msat,
        fee_msat=message.fee_msat,
        attempts=tuple(attempt(htlc) for htlc in message.htlcs),
        # Zeros until it settles.
        preimage=bytes.fromhex(message.payment_preimage) if settled else b"",
        failure_reason=reason,
        created_at=message.creation_time_ns / NANOSECONDS,
        payment_index=message.payment_index,
    )


# ---- Invoices


def invoice(message: ln.PayReq, request: str) -> Invoice:
    """From DecodePayReq of `request`."""
    return Invoice(
        payment_request=request,
        payment_hash=message.payment_hash,
        destination=message.destination,
        amount_msat=message.num_msat,
        expires_at=float(message.timestamp + message.expiry),
        final_cltv_delta=message.cltv_expiry,
        payment_addr=message.payment_addr,
        description=message.description,
        has_route_hints=bool(message.route_hints or message.blinded_paths),
    )


def invoice_state(message: ln.Invoice) -> InvoiceState:
    """From LookupInvoice, ListInvoices and SubscribeInvoices."""
    return InvoiceState(
        payment_hash=message.r_hash.hex(),
        payment_request=message.payment_request,
        status=_INVOICE_STATUS[message.state],
        amount_msat=message.value_msat,
        paid_msat=message.amt_paid_msat,
        created_at=float(message.creation_date),
        expires_at=float(message.creation_date + message.expiry),
        settled_at=float(message.settle_date) if message.settle_date else None,
        description=message.memo,
        preimage=message.r_preimage,
        add_index=message.add_index,
        settle_index=message.settle_index,
    )


# ---- Events


def htlc_event(message: router.HtlcEvent) -> HtlcEvent | None:
    """From SubscribeHtlcEvents; None for the event that only says that the stream began."""
    info = router.HtlcInfo()
    detail = ""
    preimage = b""
    which = message.WhichOneof("event")
    if which == "forward_event":
        kind, info = HtlcEventKind.FORWARD, message.forward_event.info
    elif which == "forward_fail_event":
        kind = HtlcEventKind.FORWARD_FAIL
    elif which == "link_fail_event":
        kind, info = HtlcEventKind.LINK_FAIL, message.link_fail_event.info
        detail = _link_failure(message.link_fail_event)
    elif which == "settle_event":
        kind, preimage = HtlcEventKind.SETTLE, message.settle_event.preimage
    elif which == "final_htlc_event":
        kind = HtlcEventKind.FINAL
        detail = "" if message.final_htlc_event.settled else "failed"
    else:
        return None
    return HtlcEvent(
        kind=kind,
        # The final event names no role: it tells that the incoming HTLC is gone from the channel.
        role=_HTLC_ROLES.get(message.event_type, HtlcRole.RECEIVE),
        timestamp_ns=message.timestamp_ns,
        incoming_scid=message.incoming_channel_id,
        incoming_htlc_id=message.incoming_htlc_id,
        outgoing_scid=message.outgoing_channel_id,
        outgoing_htlc_id=message.outgoing_htlc_id,
        incoming_amount_msat=info.incoming_amt_msat,
        outgoing_amount_msat=info.outgoing_amt_msat,
        incoming_expiry=info.incoming_timelock,
        outgoing_expiry=info.outgoing_timelock,
        failure_detail=detail,
        preimage=preimage,
    )


def held_htlc(message: router.ForwardHtlcInterceptRequest) -> HeldHtlc:
    """From HtlcInterceptor."""
    return HeldHtlc(
        incoming_scid=message.incoming_circuit_key.chan_id,
        incoming_htlc_id=message.incoming_circuit_key.htlc_id,
        incoming_amount_msat=message.incoming_amount_msat,
        incoming_expiry=message.incoming_expiry,
        payment_hash=message.payment_hash.hex(),
        outgoing_scid=message.outgoing_requested_chan_id,
        outgoing_amount_msat=message.outgoing_amount_msat,
        outgoing_expiry=message.outgoing_expiry,
        custom_records=dict(message.custom_records),
        auto_fail_height=message.auto_fail_height,
    )


def to_htlc_answer(htlc: HeldHtlc, answer: HtlcAnswer) -> router.ForwardHtlcInterceptResponse:
    """For HtlcInterceptor."""
    message = router.ForwardHtlcInterceptResponse(
        incoming_circuit_key=router.CircuitKey(
            chan_id=htlc.incoming_scid, htlc_id=htlc.incoming_htlc_id
        )
    )
    if isinstance(answer, ResumeHtlc):
        message.action = router.RESUME
    elif isinstance(answer, SettleHtlc):
        message.action = router.SETTLE
        message.preimage = answer.preimage
    else:
        message.action = router.FAIL
        message.failure_code = ln.Failure.FailureCode.ValueType(answer.code.value)
    return message


def _link_failure(event: router.LinkFailEvent) -> str:
    """LND's own detail such as `insufficient_balance`, else the code that it sent back."""
    if event.failure_detail > router.FailureDetail.NO_DETAIL:
        return router.FailureDetail.Name(event.failure_detail).lower()
    return failure_code(event.wire_failure).name.lower()
