"""How the payments of a round are made: by LND's own sender, or along routes of agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lnagents.env.live.delegation import BLOCK_PADDING, Delegation, delegate
from lnagents.env.live.node import LiveNode, within
from lnagents.env.world import MAX_PARTS, PAYMENT_TIMEOUT_SECONDS, RoundPayment
from lnagents.model.errors import LnagentsError, NoRouteError
from lnagents.model.payment import AttemptStatus, Invoice, PaymentOutcome, PaymentStatus
from lnagents.model.units import Msat, NodeKey, PaymentHash
from lnagents.model.workload import fee_limit

MAX_IN_FLIGHT = 32
"""Payments under way at once; a two-core machine makes no more of them with more."""

UNRESOLVED = "unresolved"
"""Reason of a payment that had no answer when the world stopped waiting."""


@dataclass(frozen=True, slots=True)
class _Answer:
    settled: bool
    fee_msat: Msat
    attempts: int
    failed_attempts: int
    reason: str


@dataclass(slots=True)
class Payments:
    """Makes payments on a live network."""

    nodes: Mapping[str, LiveNode]
    agents: frozenset[NodeKey]
    """Who goes on by itself with a payment that is routed hop by hop."""
    priority: set[PaymentHash]
    """Filled with the hashes of payments that have priority, before they are sent."""

    async def make(self, payments: Sequence[RoundPayment], seconds: float) -> list[PaymentOutcome]:
        """Make each payment at its time; those without an answer after `seconds` are given up."""
        began = time.monotonic()
        places = asyncio.Semaphore(MAX_IN_FLIGHT)
        tasks = [
            asyncio.ensure_future(self._one(payment, began, began + seconds, places))
            for payment in payments
        ]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        now = time.monotonic()
        return [
            _unresolved(payment, now - began) if task.cancelled() else task.result()
            for payment, task in zip(payments, tasks, strict=True)
        ]

    async def _one(
        self, payment: RoundPayment, began: float, end: float, places: asyncio.Semaphore
    ) -> PaymentOutcome:
        intent = payment.intent
        await asyncio.sleep(max(0.0, began + intent.at_seconds - time.monotonic()))
        async with places:
            started = time.monotonic()
            payment_hash = ""
            try:
                payee = self.nodes[intent.destination].client
                invoice = await within(payee.add_invoice(intent.amount_msat))
                payment_hash = invoice.payment_hash
                if payment.priority:
                    self.priority.add(payment_hash)
                answer = await self._pay(payment, invoice, end - started)
            except LnagentsError as exc:
                answer = _Answer(False, 0, 0, 0, str(exc))
        return PaymentOutcome(
            index=intent.index,
            source=intent.source,
            destination=intent.destination,
            amount_msat=intent.amount_msat,
            settled=answer.settled,
            fee_msat=answer.fee_msat,
            attempts=answer.attempts,
            failed_attempts=answer.failed_attempts,
            started_at=started - began,
            seconds=time.monotonic() - started,
            reason=answer.reason,
            payment_hash=payment_hash,
        )

    async def _pay(self, payment: RoundPayment, invoice: Invoice, seconds: float) -> _Answer:
        if payment.route is None and not payment.hop_by_hop:
            return await self._by_node(payment, invoice, seconds)
        payer = self.nodes[payment.intent.source].client
        route = payment.route
        if route is None:
            try:
                found = await within(
                    payer.query_routes(
                        invoice.destination,
                        invoice.amount_msat,
                        fee_limit_msat=fee_limit(invoice.amount_msat),
                        final_cltv_delta=invoice.final_cltv_delta + BLOCK_PADDING,
                    )
                )
            except NoRouteError:
                return _Answer(False, 0, 0, 0, "no_route")
            route = found[0]
        delegation = Delegation(
            destination=invoice.destination,
            payment_addr=invoice.payment_addr,
            amount_msat=invoice.amount_msat,
            final_cltv_delta=invoice.final_cltv_delta,
            passed=(),
        )
        sent = delegate(route, self.agents if payment.hop_by_hop else frozenset(), delegation)
        attempt = await payer.send_to_route(invoice.payment_hash, sent)
        if attempt.status is AttemptStatus.SETTLED:
            return _Answer(True, sent.total_amount_msat - invoice.amount_msat, 1, 0, "")
        reason = attempt.failure.code.name.lower() if attempt.failure is not None else "failed"
        return _Answer(False, 0, 1, 1, reason)

    async def _by_node(self, payment: RoundPayment, invoice: Invoice, seconds: float) -> _Answer:
        payer = self.nodes[payment.intent.source].client
        paid = await payer.pay(
            invoice.payment_request,
            fee_limit_msat=fee_limit(invoice.amount_msat),
            timeout_seconds=max(1, int(min(PAYMENT_TIMEOUT_SECONDS, seconds))),
            max_parts=MAX_PARTS,
        )
        settled = paid.status is PaymentStatus.SETTLED
        return _Answer(
            settled,
            paid.fee_msat if settled else 0,
            len(paid.attempts),
            paid.failed_attempts,
            "" if settled else paid.failure_reason,
        )


def _unresolved(payment: RoundPayment, seconds: float) -> PaymentOutcome:
    intent = payment.intent
    return PaymentOutcome(
        index=intent.index,
        source=intent.source,
        destination=intent.destination,
        amount_msat=intent.amount_msat,
        settled=False,
        fee_msat=0,
        attempts=0,
        failed_attempts=0,
        started_at=min(intent.at_seconds, seconds),
        seconds=max(0.0, seconds - intent.at_seconds),
        reason=UNRESOLVED,
    )
