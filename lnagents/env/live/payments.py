"""How the payments of a round are made: by LND's own sender, or along routes of agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lnagents.env.live.delegation import BLOCK_PADDING, delegate
from lnagents.env.live.forwarding import Forwarder
from lnagents.env.live.node import LiveNode, within
from lnagents.env.world import MAX_PARTS, PAYMENT_TIMEOUT_SECONDS, RoundPayment
from lnagents.model.delegation import Delegation
from lnagents.model.errors import LnagentsError, NoRouteError
from lnagents.model.payment import (
    Attempt,
    AttemptStatus,
    Invoice,
    PaymentOutcome,
    PaymentStatus,
    Route,
)
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId

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


_NO_ROUTE = _Answer(False, 0, 0, 0, "no_route")


def _answer(attempt: Attempt, failed_before: int) -> _Answer:
    """After the last attempt of a payment along routes of our own."""
    if attempt.status is AttemptStatus.SETTLED:
        return _Answer(True, attempt.route.fee_msat, failed_before + 1, failed_before, "")
    reason = attempt.failure.code.name.lower() if attempt.failure is not None else "failed"
    return _Answer(False, 0, failed_before + 1, failed_before + 1, reason)


@dataclass(slots=True)
class Payments:
    """Makes payments on a live network."""

    nodes: Mapping[str, LiveNode]
    forwarders: Mapping[str, Forwarder]
    """Of the agents, by name."""
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
        if payment.route is not None:
            return await self._by_route(payment, payment.route, invoice)
        if payment.hop_by_hop:
            return await self._by_hop(payment, invoice)
        return await self._by_node(payment, invoice, seconds)

    async def _by_route(self, payment: RoundPayment, route: Route, invoice: Invoice) -> _Answer:
        """Along the nodes of a route, at the fees that the sender knows of now."""
        payer = self.nodes[payment.intent.source].client
        try:
            built = await within(
                payer.build_route(
                    invoice.amount_msat,
                    [hop.target for hop in route.hops],
                    final_cltv_delta=invoice.final_cltv_delta + BLOCK_PADDING,
                    outgoing_scid=route.hops[0].scid,
                    payment_addr=invoice.payment_addr,
                )
            )
        except NoRouteError:
            return _NO_ROUTE
        if built.fee_msat > payment.intent.fee_limit_msat:
            return _NO_ROUTE
        return _answer(await payer.send_to_route(invoice.payment_hash, built), 0)

    async def _by_hop(self, payment: RoundPayment, invoice: Invoice) -> _Answer:
        """By the channels that the sender prefers, if it is an agent, as far as the next agent."""
        payer = self.nodes[payment.intent.source]
        delegation = Delegation(
            destination=invoice.destination,
            payment_addr=invoice.payment_addr,
            amount_msat=invoice.amount_msat,
            final_cltv_delta=invoice.final_cltv_delta,
            passed=(payer.key,) if payer.key in self.agents else (),
        )
        choices: list[list[ShortChannelId]] = [[]]
        if payer.key in self.agents:
            channels = await within(payer.client.channels())
            ranked = self.forwarders[payer.name].by_preference(channels)
            choices = [[channel.scid] for channel in ranked]
        answer = _NO_ROUTE
        for outgoing_scids in choices:
            try:
                routes = await within(
                    payer.client.query_routes(
                        invoice.destination,
                        invoice.amount_msat,
                        fee_limit_msat=payment.intent.fee_limit_msat,
                        final_cltv_delta=invoice.final_cltv_delta + BLOCK_PADDING,
                        outgoing_scids=outgoing_scids,
                    )
                )
            except NoRouteError:
                continue
            sent = delegate(routes[0], self.agents, delegation)
            attempt = await payer.client.send_to_route(invoice.payment_hash, sent)
            answer = _answer(attempt, answer.attempts)
            if answer.settled:
                break
        return answer

    async def _by_node(self, payment: RoundPayment, invoice: Invoice, seconds: float) -> _Answer:
        payer = self.nodes[payment.intent.source].client
        paid = await payer.pay(
            invoice.payment_request,
            fee_limit_msat=payment.intent.fee_limit_msat,
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
