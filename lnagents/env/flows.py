"""What passed each own channel, counted from the node's HTLC events.

LND tells amounts when a forward begins and only its fate when it ends, so begun ones are kept until
then. Handling one event costs a few microseconds and touches no disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from lnagents.model.graph import LocalChannel
from lnagents.model.payment import HtlcEvent, HtlcEventKind, HtlcRole
from lnagents.model.units import Msat, PaymentHash, ShortChannelId
from lnagents.model.view import ChannelFlow

MAX_PENDING_EVENTS = 20_000
"""Forwards whose end was never told; beyond this the oldest are given up."""


@dataclass(frozen=True, slots=True)
class EndedForward:
    """A forward of the own node that came to its end."""

    event: HtlcEvent
    """The one that told the end."""
    settled: bool
    outgoing_amount_msat: Msat
    """0 if a failure came whose beginning was not seen."""
    fee_msat: Msat
    """What the node earned by it; of a failed one, what it would have earned."""


@dataclass(slots=True)
class _Flow:
    """`ChannelFlow` in the making."""

    forwarded_in_msat: Msat = 0
    forwarded_out_msat: Msat = 0
    fees_earned_msat: Msat = 0
    forwards: int = 0
    failed_forwards: int = 0
    sent_msat: Msat = 0
    receipts: int = 0


class FlowAccount:
    """Counts events; `take` gives what came together since it was called before."""

    def __init__(self) -> None:
        self.events = 0
        """HTLC events handled so far."""
        self._flows: dict[ShortChannelId, _Flow] = {}
        self._pending: dict[tuple[HtlcRole, ShortChannelId, int], HtlcEvent] = {}
        self._balances: dict[ShortChannelId, Msat] = {}
        self._delegated: dict[PaymentHash, tuple[ShortChannelId, Msat]] = {}

    @property
    def under_way(self) -> int:
        """Forwards and own payments that have begun and not ended."""
        return len(self._pending)

    def on_delegated(
        self, payment_hash: PaymentHash, incoming_scid: ShortChannelId, incoming_amount_msat: Msat
    ) -> None:
        """What leaves as an own payment of this hash is a forward of what came in there.

        So does a node forward that chose the next channel itself: LND only sees a payment.
        """
        self._delegated[payment_hash] = incoming_scid, incoming_amount_msat

    def on_returned(self, payment_hash: PaymentHash, outgoing_scid: ShortChannelId) -> None:
        """The payment that `on_delegated` announced left over that channel and did not arrive."""
        self._flow(outgoing_scid).failed_forwards += 1
        self.forget_delegated(payment_hash)

    def forget_delegated(self, payment_hash: PaymentHash) -> None:
        """The payment that `on_delegated` announced is not made."""
        self._delegated.pop(payment_hash, None)

    def on_event(self, event: HtlcEvent) -> EndedForward | None:
        """Take in one event; a forward that it ends is given back."""
        self.events += 1
        kind = event.kind
        if kind is HtlcEventKind.FINAL:
            return None  # tells of the link what SETTLE and the failures told of the forward
        role = event.role
        if role is HtlcRole.RECEIVE:
            if kind is HtlcEventKind.SETTLE:
                self._flow(event.incoming_scid).receipts += 1
            return None
        sent = role is HtlcRole.SEND
        scid, number = (
            (event.outgoing_scid, event.outgoing_htlc_id)
            if sent
            else (event.incoming_scid, event.incoming_htlc_id)
        )
        key = (role, scid, number)
        if kind is HtlcEventKind.FORWARD:
            self._pending[key] = event
            if len(self._pending) > MAX_PENDING_EVENTS:
                del self._pending[next(iter(self._pending))]
            return None
        begun = self._pending.pop(key, event if kind is HtlcEventKind.LINK_FAIL else None)
        if kind is HtlcEventKind.SETTLE:
            return None if begun is None else self._on_settled(event, begun)
        return None if sent else self._on_failed(event, begun)

    def _on_settled(self, event: HtlcEvent, begun: HtlcEvent) -> EndedForward | None:
        out = self._flow(begun.outgoing_scid)
        amount = begun.outgoing_amount_msat
        came_in, fee = (begun.incoming_scid, begun.incoming_amount_msat), begun.fee_msat
        if begun.role is HtlcRole.SEND:
            payment_hash = hashlib.sha256(event.preimage).hexdigest() if self._delegated else ""
            if payment_hash not in self._delegated:
                out.sent_msat += amount
                return None
            came_in = self._delegated.pop(payment_hash)
            fee = came_in[1] - amount
        self._flow(came_in[0]).forwarded_in_msat += came_in[1]
        out.forwarded_out_msat += amount
        out.fees_earned_msat += fee
        out.forwards += 1
        return EndedForward(event, True, amount, fee)

    def _on_failed(self, event: HtlcEvent, begun: HtlcEvent | None) -> EndedForward:
        outgoing = begun.outgoing_scid if begun is not None else event.outgoing_scid
        self._flow(outgoing).failed_forwards += 1
        if begun is None:
            return EndedForward(event, False, 0, 0)
        return EndedForward(event, False, begun.outgoing_amount_msat, begun.fee_msat)

    def _flow(self, scid: ShortChannelId) -> _Flow:
        flow = self._flows.get(scid)
        if flow is None:
            flow = self._flows[scid] = _Flow()
        return flow

    def take(self, channels: Iterable[LocalChannel]) -> dict[ShortChannelId, ChannelFlow]:
        """The flows of all `channels` since the last call; `channels` are as the node reports now.

        Events of receipts carry no amount: received is what else does not explain the balance, so
        it is known from the second call on.
        """
        flows, self._flows = self._flows, {}
        before, self._balances = self._balances, {}
        taken = {}
        for channel in channels:
            scid, balance = channel.scid, channel.local_balance_msat
            self._balances[scid] = balance
            flow = flows.get(scid, _Flow())
            received = 0
            if flow.receipts and scid in before:
                gained = balance - before[scid]
                received = max(
                    0, gained - flow.forwarded_in_msat + flow.forwarded_out_msat + flow.sent_msat
                )
            taken[scid] = ChannelFlow(
                forwarded_in_msat=flow.forwarded_in_msat,
                forwarded_out_msat=flow.forwarded_out_msat,
                fees_earned_msat=flow.fees_earned_msat,
                forwards=flow.forwards,
                failed_forwards=flow.failed_forwards,
                sent_msat=flow.sent_msat,
                received_msat=received,
            )
        return taken
