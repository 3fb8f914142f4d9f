"""Calls about the node's own invoices."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator

from lnagents.lnd import convert_payments
from lnagents.lnd.connection import Connection
from lnagents.lnd.streams import reconnecting
from lnagents.lnd.stubs import invoices_pb2 as inv
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.types import InvoiceState, StreamRestarted
from lnagents.model.payment import Invoice
from lnagents.model.units import Msat, PaymentHash

INVOICES_PER_PAGE = 1_000


class InvoiceCalls:
    """Making, reading and watching invoices."""

    _connection: Connection

    async def add_invoice(
        self,
        amount_msat: Msat,
        *,
        description: str = "",
        expiry_seconds: int = 3_600,
        private: bool = False,
    ) -> Invoice:
        """A new own invoice; `private` adds route hints, 0 msat lets the payer choose."""
        stubs = await self._connection.stubs()
        request = ln.Invoice(
            memo=description, value_msat=amount_msat, expiry=expiry_seconds, private=private
        )
        answer = await self._connection.ask(stubs.lightning.AddInvoice, request)
        return await self.decode_invoice(answer.payment_request)

    async def add_hold_invoice(
        self, amount_msat: Msat, preimage: bytes, *, expiry_seconds: int = 3_600
    ) -> Invoice:
        """A new own invoice whose HTLCs are kept until `settle_invoice` or `cancel_invoice`.

        Args:
            amount_msat: 0 lets the payer choose.
            preimage: 32 bytes that nobody else knows yet; LND is told their hash only.
            expiry_seconds: how long it may be paid.
        """
        stubs = await self._connection.stubs()
        request = inv.AddHoldInvoiceRequest(
            hash=hashlib.sha256(preimage).digest(), value_msat=amount_msat, expiry=expiry_seconds
        )
        answer = await self._connection.ask(stubs.invoices.AddHoldInvoice, request)
        return await self.decode_invoice(answer.payment_request)

    async def settle_invoice(self, preimage: bytes) -> None:
        """Take the HTLCs that an own hold invoice keeps.

        Raises:
            NotFoundError: the node never made it.
            LndError: nothing has been paid yet.
        """
        stubs = await self._connection.stubs()
        request = inv.SettleInvoiceMsg(preimage=preimage)
        await self._connection.ask(stubs.invoices.SettleInvoice, request)

    async def cancel_invoice(self, payment_hash: PaymentHash) -> None:
        """Give back what an own invoice keeps, and refuse what comes.

        Raises:
            NotFoundError: the node never made it.
            LndError: it is settled.
        """
        stubs = await self._connection.stubs()
        request = inv.CancelInvoiceMsg(payment_hash=bytes.fromhex(payment_hash))
        await self._connection.ask(stubs.invoices.CancelInvoice, request)

    async def decode_invoice(self, request: str) -> Invoice:
        """What a payment request (BOLT 11) of anybody says.

        Raises:
            InvalidRequestError: it is damaged, or for another network.
        """
        stubs = await self._connection.stubs()
        message = ln.PayReqString(pay_req=request)
        answer = await self._connection.ask(stubs.lightning.DecodePayReq, message)
        return convert_payments.invoice(answer, request)

    async def lookup_invoice(self, payment_hash: PaymentHash) -> InvoiceState:
        """What became of an own invoice.

        Raises:
            NotFoundError: the node never made it.
        """
        stubs = await self._connection.stubs()
        request = ln.PaymentHash(r_hash=bytes.fromhex(payment_hash))
        return convert_payments.invoice_state(
            await self._connection.ask(stubs.lightning.LookupInvoice, request)
        )

    async def list_invoices(self, index_offset: int = 0) -> tuple[InvoiceState, ...]:
        """All own invoices that were added after `index_offset`, oldest first."""
        stubs = await self._connection.stubs()
        found: list[InvoiceState] = []
        while True:
            request = ln.ListInvoiceRequest(
                index_offset=found[-1].add_index if found else index_offset,
                num_max_invoices=INVOICES_PER_PAGE,
            )
            answer = await self._connection.ask(stubs.lightning.ListInvoices, request)
            found += map(convert_payments.invoice_state, answer.invoices)
            if len(answer.invoices) < INVOICES_PER_PAGE:
                return tuple(found)

    async def invoices(
        self, *, add_index: int = 0, settle_index: int = 0
    ) -> AsyncGenerator[InvoiceState | StreamRestarted, None]:
        """Own invoices as they are added and settled.

        Begins after `add_index` and `settle_index`; with 0 each begins with what is new. After an
        interruption it goes on where it was, so nothing that followed an invoice it told is lost.
        """

        def request() -> ln.InvoiceSubscription:
            return ln.InvoiceSubscription(add_index=add_index, settle_index=settle_index)

        updates = reconnecting(
            self._connection, lambda stubs: stubs.lightning.SubscribeInvoices, request
        )
        async for update in updates:
            if isinstance(update, StreamRestarted):
                yield update
                continue
            add_index = max(add_index, update.add_index)
            settle_index = max(settle_index, update.settle_index)
            yield convert_payments.invoice_state(update)
