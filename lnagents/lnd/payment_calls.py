"""Calls that pay, and what the node remembers of payments."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from lnagents.lnd import convert_payments
from lnagents.lnd.connection import Connection
from lnagents.lnd.interceptor import HtlcInterceptor
from lnagents.lnd.streams import reconnecting
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.lnd.types import StreamRestarted
from lnagents.model.errors import NotFoundError
from lnagents.model.payment import Attempt, HtlcEvent, Payment, Route
from lnagents.model.units import Msat, PaymentHash, ShortChannelId

PAYMENTS_PER_PAGE = 1_000

HELD_SECONDS = 150.0
"""How much longer than asked a payment is waited for: a receiver holds the parts of an incomplete
payment for 120 s (LND's `DefaultHtlcHoldDuration`) before it gives them back."""


class PaymentCalls:
    """Paying, tracking, HTLC events, deciding on forwards."""

    _connection: Connection

    async def pay(
        self,
        request: str,
        *,
        fee_limit_msat: Msat,
        timeout_seconds: int,
        max_parts: int = 1,
        outgoing_scids: Sequence[ShortChannelId] = (),
        amount_msat: Msat = 0,
    ) -> Payment:
        """Pay an invoice with LND's own route search, to its end; look at the status it gives.

        Args:
            request: the payment request (BOLT 11).
            fee_limit_msat: at most this much for all forwarders, in msat.
            timeout_seconds: how long new attempts are made. HTLCs on their way are waited for
                beyond that, by `HELD_SECONDS`.
            max_parts: into how many parts the payment may be split.
            outgoing_scids: own channels to leave by; empty for any.
            amount_msat: for an invoice that leaves the amount to the payer.

        Raises:
            AlreadyExistsError: this invoice was paid, or is being paid.
            NodeUnavailableError: the connection broke; the payment may go on: `track_payment`.
            NodeTimeoutError: HTLCs are still on their way; the same.
        """
        stubs = await self._connection.stubs()
        message = router.SendPaymentRequest(
            payment_request=request,
            amt_msat=amount_msat,
            fee_limit_msat=fee_limit_msat,
            timeout_seconds=timeout_seconds,
            max_parts=max_parts,
            no_inflight_updates=True,
            outgoing_chan_ids=outgoing_scids,
        )
        seconds = timeout_seconds + HELD_SECONDS
        return convert_payments.payment(
            await self._connection.first(stubs.router.SendPaymentV2, message, seconds)
        )

    async def send_to_route(
        self,
        payment_hash: PaymentHash,
        route: Route,
        *,
        skip_temporary_error: bool = False,
        timeout: float = HELD_SECONDS,
    ) -> Attempt:
        """Send one attempt along `route` and wait up to `timeout` seconds for its end.

        With `skip_temporary_error` a failure that may pass leaves the payment open, so that
        further attempts belong to it; else the payment fails with its first failed attempt.

        Raises:
            AlreadyExistsError: this payment hash was paid.
            NodeUnavailableError: the connection broke; the attempt may go on: `track_payment`.
            NodeTimeoutError: the HTLC is still on its way; the same.
        """
        stubs = await self._connection.stubs()
        request = router.SendToRouteRequest(
            payment_hash=bytes.fromhex(payment_hash),
            route=convert_payments.to_route(route),
            skip_temp_err=skip_temporary_error,
        )
        answer = await self._connection.ask(stubs.router.SendToRouteV2, request, timeout)
        return convert_payments.attempt(answer)

    async def track_payment(self, payment_hash: PaymentHash) -> Payment | None:
        """How a payment stands now; None if the node never began it."""
        stubs = await self._connection.stubs()
        request = router.TrackPaymentRequest(payment_hash=bytes.fromhex(payment_hash))
        try:
            # The first update is the present state.
            return convert_payments.payment(
                await self._connection.first(stubs.router.TrackPaymentV2, request)
            )
        except NotFoundError:
            return None

    async def list_payments(self, index_offset: int = 0) -> tuple[Payment, ...]:
        """All own payments after `index_offset` (`Payment.payment_index`), oldest first."""
        stubs = await self._connection.stubs()
        found: list[Payment] = []
        while True:
            request = ln.ListPaymentsRequest(
                include_incomplete=True,
                index_offset=found[-1].payment_index if found else index_offset,
                max_payments=PAYMENTS_PER_PAGE,
            )
            answer = await self._connection.ask(stubs.lightning.ListPayments, request)
            found += map(convert_payments.payment, answer.payments)
            if len(answer.payments) < PAYMENTS_PER_PAGE:
                return tuple(found)

    async def htlc_events(self) -> AsyncGenerator[HtlcEvent | StreamRestarted, None]:
        """What happens to HTLCs at the own node, as it happens; LND does not tell it again.

        `StreamRestarted` comes when the node has confirmed the subscription: nothing after it is
        missed until the next one.
        """
        updates = reconnecting(
            self._connection,
            lambda stubs: stubs.router.SubscribeHtlcEvents,
            router.SubscribeHtlcEventsRequest,
        )
        restarted: StreamRestarted | None = None
        confirmed = 0
        async for update in updates:
            if isinstance(update, StreamRestarted):
                restarted = update
                continue
            event = convert_payments.htlc_event(update)
            if event is not None:
                yield event
            elif restarted is not None:
                yield replace(restarted, restarts=confirmed)
                restarted = None
                confirmed += 1

    def htlc_interceptor(self) -> HtlcInterceptor:
        """What decides on the HTLCs that the node is asked to forward; LND allows one at a time."""
        return HtlcInterceptor(self._connection)
