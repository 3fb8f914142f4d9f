"""Paying: every step is recorded before it is taken, so that no crash loses or repeats a payment.

A payment goes along one route at a time, in one part. Each attempt is written down before it is
sent. Where the node gives no clear answer (it is unreachable, the call timed out, the agent was
killed), the outcome is *unknown*: nothing more is sent for this payment until the node's own ledger
has told what became of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

import structlog

from lnagents.agent.candidates import Candidate, PathQuery, RouteFinder
from lnagents.agent.choosing import Choice, HintAdvisor, PassHolder, RouteChooser
from lnagents.agent.config import AgentConfig
from lnagents.agent.fates import POLL_LONGEST_SECONDS, fate_of
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.limits import Purpose, fee_limit
from lnagents.agent.liquidity import FINAL_FAILURES, POLICY_FAILURES, Liquidity
from lnagents.agent.observer import Observer
from lnagents.agent.orders import PaymentOrder, Relay
from lnagents.agent.pass_wallet import Presented
from lnagents.agent.relaying import relayed
from lnagents.agent.store import Store
from lnagents.lnd import LndClient
from lnagents.model.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    LndError,
    NodeTimeoutError,
    NodeUnavailableError,
    PaymentError,
    PermissionRefusedError,
    StoreError,
)
from lnagents.model.payment import (
    AttemptFailure,
    AttemptStatus,
    FailureCode,
    Invoice,
    PaymentStatus,
)
from lnagents.model.units import Msat, PaymentHash, ShortChannelId, format_msat

LOCAL_SECONDS = 0.5
"""How old the own balances may be when routes are sought; what was sent since counts anyway."""

GOSSIP_SECONDS = 0.1
"""After a policy failure: time for the policy that came with it to reach the own graph."""

MARGIN_SECONDS = 1.0
"""How much longer than its timeout a payment is waited for, so that it ends by itself."""

STOP_SECONDS = 5.0
"""How long payments may go on when the agent stops; then they are left for the next start."""

_log = structlog.get_logger("lnagents.agent.payments")


@dataclass(slots=True)
class _Run:
    """One payment under way in this process."""

    record: PaymentRecord
    order: PaymentOrder
    relays: list[Relay]
    """Agents to which the rest of the way may still be left."""
    deadline: float
    tried: set[tuple[ShortChannelId, ...]] = field(default_factory=set)
    avoided: set[ShortChannelId] = field(default_factory=set)
    tokens: list[tuple[int, int]] = field(default_factory=list)
    """Token of each choice, and how many attempts had failed before it."""
    failed_attempts: int = 0
    presented: list[Presented] = field(default_factory=list)
    """Passes of the attempt that is under way."""


class Payer:
    """Pays with the own node, within the limits; a `lnagents.market.LightningPayer`, too."""

    def __init__(
        self,
        *,
        client: LndClient,
        store: Store,
        observer: Observer,
        finder: RouteFinder,
        liquidity: Liquidity,
        chooser: RouteChooser,
        config: Callable[[], AgentConfig],
        on_outcome: Callable[[PaymentRecord, int, int], None],
    ) -> None:
        """`on_outcome` is told each payment that ended, its new attempts and how many failed."""
        self._client = client
        self._store = store
        self._observer = observer
        self._finder = finder
        self._liquidity = liquidity
        self._chooser = chooser
        self._config = config
        self._on_outcome = on_outcome
        self.advisor: HintAdvisor | None = None
        """Asked before each payment that is not a purchase itself."""
        self.passes: PassHolder | None = None
        """Presents the own passes."""
        self.prepare: Callable[[PaymentHash, Candidate], Awaitable[None]] | None = None
        """Awaited before each attempt of a payment that is not a purchase; it may buy a pass."""
        self.on_policy: Callable[[bytes], None] | None = None
        """Told the signed policies that come along with failures."""
        self._running: dict[PaymentHash, asyncio.Task[PaymentRecord]] = {}
        self._stopping = False

    @property
    def in_flight(self) -> int:
        """How many payments are under way."""
        return len(self._running)

    async def pay(
        self,
        request: str,
        *,
        max_fee_msat: Msat | None = None,
        timeout: float = 60.0,
        purpose: Purpose = Purpose.PAYMENT,
        relay: Relay | None = None,
    ) -> PaymentRecord:
        """Pay the invoice `request`, or find out what became of it.

        One that settled is not paid again, one under way is joined, one that failed is tried anew.

        Args:
            request: a BOLT 11 invoice with an amount.
            max_fee_msat: can only lower what the limits allow.
            timeout: seconds in which attempts are begun. One that is still on its way then goes
                on; the record says IN_FLIGHT.
            purpose: hints have budgets of their own.
            relay: an agent that is to find the rest of the way; None: it is chosen here.

        Raises:
            PaymentError: it cannot be paid at all: dry-run, no amount, expired, or it is being
                paid for another.
            LimitExceededError: a money limit forbids it.
            InvalidRequestError: not an invoice of this network.
            LndError, StoreError: the node or the store failed before anything was sent.
        """
        invoice = await self._client.decode_invoice(request)
        task = self._running.get(invoice.payment_hash)
        if task is None:
            known = await self._store.payments.find(invoice.payment_hash)
            if known is not None and known.state is PaymentState.SETTLED:
                return _own(known)
            task = self._running.get(invoice.payment_hash)
        if task is None:
            if known is None or known.state is PaymentState.FAILED:
                self._check(invoice)
            order = PaymentOrder(
                invoice=invoice,
                purpose=purpose,
                max_fee_msat=max_fee_msat,
                direct=relay is None,
                relays=() if relay is None else (relay,),
            )
            task = self._start(invoice.payment_hash, self._perform(order, timeout))
        return _own(await self._wait(invoice.payment_hash, task, timeout))

    async def forward(self, order: PaymentOrder, *, timeout: float) -> PaymentRecord:
        """Pay `order` for another, to its end, however long that takes.

        Unlike `pay`, this joins nothing: a hash that is known here was paid, or is being paid.

        Args:
            order: with the purpose FORWARD.
            timeout: seconds in which attempts are begun.

        Raises:
            PaymentError: the hash is known, or the agent is stopping; nothing was sent.
            LimitExceededError: a money limit forbids it; nothing was sent.
            StoreError: the store failed; `find_preimage` tells what became of it.
        """
        if self._stopping or order.invoice.payment_hash in self._running:
            raise PaymentError("the agent is stopping, or the payment is under way already")
        task = self._start(order.invoice.payment_hash, self._perform(order, timeout))
        return await asyncio.shield(task)

    async def pay_invoice(self, request: str, *, max_fee_msat: Msat) -> bytes:
        """Pay for a hint and return the preimage; idempotent, also across restarts.

        Raises:
            PaymentError: it was not paid.
        """
        timeout = self._config().market.buy.payment_timeout_seconds
        record = await self.pay(
            request, max_fee_msat=max_fee_msat, timeout=timeout, purpose=Purpose.HINT
        )
        while record.state is not PaymentState.SETTLED:
            if record.state is PaymentState.FAILED:
                raise PaymentError(f"the payment failed: {record.reason}")
            record = await self.pay(request, timeout=POLL_LONGEST_SECONDS, purpose=Purpose.HINT)
        return record.preimage

    async def find_preimage(self, payment_hash: PaymentHash) -> bytes | None:
        """Preimage of a payment that was begun before, once it is known; None if it failed."""
        task = self._running.get(payment_hash)
        record = await (asyncio.shield(task) if task else self._store.payments.find(payment_hash))
        if record is not None and not record.state.final:
            task = self._start(payment_hash, self._resolve(record))
            record = await asyncio.shield(task)
        return record.preimage if record and record.state is PaymentState.SETTLED else None

    async def resume(self) -> int:
        """Begin to find out what became of all payments that a restart interrupted.

        Nothing is sent. Returns how many there are; they are resolved in the background.
        """
        records = await self._store.payments.unfinished()
        for record in records:
            if record.payment_hash not in self._running:
                self._start(record.payment_hash, self._resolve(record))
        return len(records)

    async def stop(self) -> None:
        """Begin no more attempts, give those under way some time, then leave them."""
        self._stopping = True
        tasks = list(self._running.values())
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    # ---- One payment

    def _check(self, invoice: Invoice) -> None:
        if self._config().dry_run:
            amount = format_msat(invoice.amount_msat)
            raise PaymentError(f"dry-run: {amount} to {invoice.destination} would be paid now")
        if self._stopping:
            raise PaymentError("the agent is stopping")
        if invoice.amount_msat <= 0:
            raise PaymentError("the invoice names no amount")
        if invoice.expires_at <= time.time():
            raise PaymentError("the invoice has expired")
        if invoice.destination == self._observer.own_key:
            raise PaymentError("the invoice is the node's own")

    def _start(
        self, payment_hash: PaymentHash, work: Coroutine[None, None, PaymentRecord]
    ) -> asyncio.Task[PaymentRecord]:
        task = asyncio.get_running_loop().create_task(work, name=f"payment {payment_hash[:8]}")
        self._running[payment_hash] = task
        task.add_done_callback(lambda done: self._ended(payment_hash, done))
        return task

    def _ended(self, payment_hash: PaymentHash, task: asyncio.Task[PaymentRecord]) -> None:
        if self._running.get(payment_hash) is task:
            del self._running[payment_hash]
        if not task.cancelled() and (error := task.exception()) is not None:
            # Whoever asked gets it as well; a resumed payment has nobody else to tell.
            _log.warning("payment_not_finished", payment_hash=payment_hash, cause=str(error))

    async def _wait(
        self, payment_hash: PaymentHash, task: asyncio.Task[PaymentRecord], timeout: float
    ) -> PaymentRecord:
        done, _ = await asyncio.wait({task}, timeout=timeout + MARGIN_SECONDS)
        if done:
            return task.result()
        record = await self._store.payments.find(payment_hash)
        if record is None:
            raise PaymentError(f"payment {payment_hash} was not begun within {timeout:.0f} s")
        return record

    async def _perform(self, order: PaymentOrder, timeout: float) -> PaymentRecord:
        deadline = time.monotonic() + timeout
        limits = self._config().limits
        invoice = order.invoice
        record, new = await self._store.payments.reserve(
            invoice,
            max_fee_msat=fee_limit(limits, invoice.amount_msat, order.max_fee_msat),
            purpose=order.purpose,
            limits=limits,
            now=time.time(),
            alongside=order.alongside,
        )
        if record.state is PaymentState.SETTLED:
            return record
        if not new:
            return await self._resolve(record)
        run = _Run(record, order, list(order.relays), deadline)
        reason = await self._attempts(run)
        if reason is None:
            record = await self._existing(record.payment_hash)
        else:
            record = await self._store.payments.fail(
                record.payment_hash, reason=reason, now=time.time()
            )
        self._finish(run, record)
        return record

    async def _attempts(self, run: _Run) -> str | None:
        """Attempt after attempt until the payment has settled (None), or why it failed."""
        reason = "no route within the limits"
        advised = self.advisor is None or run.record.purpose is not Purpose.PAYMENT
        while True:
            if self._stopping:
                return f"the agent stopped; before: {reason}"
            if time.monotonic() >= run.deadline:
                return f"no more time; before: {reason}"
            try:
                candidates = await self._candidates(run)
                if not advised and self.advisor is not None and candidates:
                    advised = True
                    if await self.advisor.advise(run.record.payment_hash, candidates):
                        candidates = await self._candidates(run)
            except LndError as exc:
                return str(exc)  # nothing is in flight
            if not candidates:
                return reason
            choice = await self._chooser.choose(candidates)
            run.tokens.append((choice.token, run.failed_attempts))
            chosen = candidates[choice.index]
            if self.prepare is not None and run.record.purpose is Purpose.PAYMENT:
                await self.prepare(run.record.payment_hash, chosen)
            failure = await self._attempt(run, chosen, choice)
            if failure is None:
                return None
            reason = failure
            if failure.startswith(_FINAL):
                return failure

    async def _candidates(self, run: _Run) -> list[Candidate]:
        await self._observer.local_channels(LOCAL_SECONDS)
        height = await self._observer.height()
        passes = self.passes
        admitted = None if passes is None else passes.admitted(run.record.payment_hash)

        def find(query: PathQuery) -> list[Candidate]:
            return self._finder.find(
                query,
                count=self._config().routing.candidates,
                height=height,
                now=time.time(),
                tried=run.tried,
                avoided=run.avoided | run.order.avoided,
                admitted=admitted,
            )

        order, limit = run.order, run.record.max_fee_msat
        found = find(order.query(limit, height)) if order.direct else []
        for relay in run.relays:
            if not found:
                found = relayed(order, relay, limit, height, find)
        return found

    async def _attempt(self, run: _Run, chosen: Candidate, choice: Choice) -> str | None:
        """Send along one route; None if it settled, else why it did not."""
        route = chosen.route
        # Of a way that is left to a relay, only the way to it counts: edges end there.
        run.tried.add(route.scids[: len(chosen.edges)])
        payment_hash = run.record.payment_hash
        started = time.time()
        number = await self._store.payments.begin_attempt(
            payment_hash,
            route,
            probability=chosen.candidate.probability,
            reason=choice.reason,
            now=started,
        )
        self._observer.hold(route.scids[0], route.total_amount_msat)
        if self.passes is not None:
            route, run.presented = self.passes.attach(payment_hash, route, number)
        try:
            attempt = await self._client.send_to_route(payment_hash, route)
        except LndError as exc:
            return await self._unknown(run, chosen, number, exc)
        if attempt.status is AttemptStatus.SETTLED:
            await self._settled(run, chosen, route.fee_msat, attempt.preimage)
            return None
        return await self._failed(run, chosen, number, attempt.failure)

    async def _settled(self, run: _Run, chosen: Candidate, fee_msat: Msat, preimage: bytes) -> None:
        now = time.time()
        self._end_passes(run, AttemptStatus.SETTLED, None)
        self._liquidity.settled(chosen.edges[1:], now)
        self._store.save_beliefs(*self._liquidity.take_changes())
        await self._store.payments.settle(
            run.record.payment_hash, fee_msat=fee_msat, preimage=preimage, now=now
        )

    async def _failed(
        self, run: _Run, chosen: Candidate, number: int, failure: AttemptFailure | None
    ) -> str:
        now = time.time()
        run.failed_attempts += 1
        self._end_passes(run, AttemptStatus.FAILED, failure)
        self._observer.release(chosen.route.scids[0], chosen.route.total_amount_msat)
        await self._store.payments.fail_attempt(number, failure, now)
        if failure is None:
            return "an attempt failed without a cause"
        if self.on_policy is not None:
            self.on_policy(failure.policy_update)
        edges = list(chosen.edges)
        if failure.code is FailureCode.UNREADABLE_FAILURE:
            self._liquidity.unreadable(edges, now)
        elif failure.source_index == 0:
            run.avoided.add(chosen.route.scids[0])
        else:
            self._liquidity.failed(edges, failure, now)
        self._store.save_beliefs(*self._liquidity.take_changes())
        if failure.source_index == len(edges) < len(chosen.route.hops):
            # The relay gave it back: neither is there another way to it, nor is that its fault.
            run.relays = [one for one in run.relays if one.key != edges[-1][0].target]
            return f"the agent {edges[-1][0].target} found no way, or wants more"
        cause = f"{failure.code.name} at hop {failure.source_index} of {len(edges)}"
        if failure.code in FINAL_FAILURES and failure.source_index == len(edges):
            return f"{_FINAL} {cause}"
        if failure.code in POLICY_FAILURES:
            await asyncio.sleep(GOSSIP_SECONDS)
            # The same way may be right once the forwarder's true policy is known.
            run.tried.discard(chosen.route.scids[: len(edges)])
        return cause

    def _end_passes(self, run: _Run, status: AttemptStatus, failure: AttemptFailure | None) -> None:
        presented, run.presented = run.presented, []
        if self.passes is not None and presented:
            self.passes.ended(presented, status, failure)

    async def _unknown(
        self, run: _Run, chosen: Candidate, number: int, error: LndError
    ) -> str | None:
        """The node gave no clear answer: ask its ledger until it does."""
        payment_hash = run.record.payment_hash
        _log.warning("attempt_unknown", payment_hash=payment_hash, cause=str(error))
        open_ = isinstance(error, NodeUnavailableError | NodeTimeoutError)
        payment = await fate_of(self._client, payment_hash, time.time() if open_ else 0.0)
        if payment is not None and payment.status is PaymentStatus.SETTLED:
            await self._settled(run, chosen, payment.fee_msat, payment.preimage)
            return None
        refused = isinstance(
            error, AlreadyExistsError | InvalidRequestError | PermissionRefusedError
        )
        last = payment.attempts[-1] if payment is not None and payment.attempts else None
        cause = await self._failed(run, chosen, number, None if last is None else last.failure)
        return f"{_FINAL} {error}" if refused else f"{error}; then: {cause}"

    # ---- What the node's ledger says

    async def _resolve(self, record: PaymentRecord) -> PaymentRecord:
        """Bring a payment that this process did not begin to its end; sends nothing."""
        sent_at = await self._store.payments.last_attempt_at(record.payment_hash)
        payment = await fate_of(self._client, record.payment_hash, sent_at)
        now = time.time()
        if payment is not None and payment.status is PaymentStatus.SETTLED:
            resolved = await self._store.payments.settle(
                record.payment_hash, fee_msat=payment.fee_msat, preimage=payment.preimage, now=now
            )
        else:
            told = "it was never sent" if payment is None else "the node says that it failed"
            resolved = await self._store.payments.fail(
                record.payment_hash, reason=f"interrupted by a restart; {told}", now=now
            )
        self._on_outcome(resolved, 0, resolved.failed_attempts - record.failed_attempts)
        return resolved

    async def _existing(self, payment_hash: PaymentHash) -> PaymentRecord:
        record = await self._store.payments.find(payment_hash)
        if record is None:
            raise StoreError(f"payment {payment_hash} is not in the book")
        return record

    def _finish(self, run: _Run, record: PaymentRecord) -> None:
        attempt_cost = max(1, self._finder.attempt_cost.of(record.amount_msat))
        settled = record.state is PaymentState.SETTLED
        # A payment that fails costs as much as its whole fee limit would have, and an attempt.
        end = record.fee_msat / attempt_cost if settled else 1 + record.max_fee_msat / attempt_cost
        for token, failed_before in run.tokens:
            if token:
                self._chooser.outcome(token, end + run.failed_attempts - failed_before)
        self._on_outcome(record, len(run.tokens), run.failed_attempts)


def _own(record: PaymentRecord) -> PaymentRecord:
    """`record`, if it is of a payment that was asked for here.

    Raises:
        PaymentError: it was paid, or is being paid, for another.
    """
    if record.purpose is Purpose.FORWARD:
        raise PaymentError(f"payment {record.payment_hash} is one that was left to this agent")
    return record


_FINAL = "refused:"
"""Begins the reason of a failure after which no other route is tried."""
