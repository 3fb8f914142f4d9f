"""What is to be paid, and what the way must keep to: for own payments, and for those of others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from lnagents.agent.candidates import MAX_TIME_LOCK_BLOCKS, PathQuery
from lnagents.agent.limits import Purpose
from lnagents.model.delegation import MAX_HOPS, QuoteSeal
from lnagents.model.payment import Invoice
from lnagents.model.units import Msat, NodeKey, ShortChannelId


@dataclass(frozen=True, slots=True)
class Relay:
    """An agent to which the rest of the way may be left (`lnagents.model.delegation`)."""

    key: NodeKey
    fee_msat: Msat | None = None
    """What it gets, for the rest of the way and for itself; None: all that is left of the fee
    limit when the way to it is paid."""
    time_lock: int | None = None
    """Blocks from now after which its HTLC expires; None: all that is left."""
    quote: QuoteSeal | None = None
    """By which it knows the fee as the one that it quoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentOrder:
    """One payment that is to be made."""

    invoice: Invoice
    """Without a request, if it is paid for another."""
    purpose: Purpose = Purpose.PAYMENT
    max_fee_msat: Msat | None = None
    """Can only lower what the limits allow."""
    hop_limit: int = MAX_HOPS
    latest_expiry: int | None = None
    """Block by which the first HTLC has to expire; None: as late as LND allows."""
    avoided: frozenset[ShortChannelId] = frozenset()
    """Own channels that must not be used."""
    excluded: frozenset[NodeKey] = frozenset()
    """Nodes that must not be on the way."""
    passed: tuple[NodeKey, ...] = ()
    """Agents that chose before, and this one; told to a relay."""
    direct: bool = True
    """Whether a whole route may be chosen here."""
    relays: tuple[Relay, ...] = ()
    """To whom the rest may be left, in their order, if there is no whole route."""
    alongside: Callable[[sqlite3.Connection], None] | None = None
    """Written in the transaction that reserves the money, so that neither is there alone."""

    def query(self, max_fee_msat: Msat, height: int) -> PathQuery:
        """What whole routes are sought for at block `height`."""
        invoice = self.invoice
        return PathQuery(
            destination=invoice.destination,
            amount_msat=invoice.amount_msat,
            max_fee_msat=max_fee_msat,
            final_cltv_delta=invoice.final_cltv_delta,
            payment_addr=invoice.payment_addr,
            max_time_lock=self.blocks_left(height),
            max_hops=self.hop_limit,
            excluded=self.excluded,
        )

    def blocks_left(self, height: int) -> int:
        """By how many blocks after `height` the first HTLC may expire."""
        if self.latest_expiry is None:
            return MAX_TIME_LOCK_BLOCKS
        return min(MAX_TIME_LOCK_BLOCKS, self.latest_expiry - height)
