"""Delegated forwarding: others leave the rest of a way to this agent, which pays it for them.

An HTLC comes in whose next channel does not exist (`lnagents.model.delegation`). The agent pays the
same hash onward, over channels that it chooses, and settles the HTLC with the preimage that this
brings: it has earned the difference. If it finds no way, the HTLC goes back and nobody has paid.

**What could be lost** is an amount that was paid onward while the HTLC went back. Against that:

* LND gives back what it holds as soon as the daemon's connection breaks, unless it was started with
  `requireinterceptor`. Then it keeps them, over its own restarts too, and offers them again (LND
  0.21.1, `htlcswitch/interceptable_switch.go`). Without it this agent takes on nothing.
* Everything is on disk before it is done (`DelegationLedger`). An HTLC that is offered again finds
  its payment begun, and gets its end: nothing is paid a second time.
* LND gives every HTLC back 19 blocks before it expires (`DefaultFinalCltvRejectDelta`). What is
  paid onward expires `time_lock_delta` blocks before the HTLC, so that is how long a daemon may be
  away at the worst possible moment, less 19. If it stays away for longer, it finds out from the
  node's own book what became of the HTLC, provided that the node keeps one
  (`store-final-htlc-resolutions`); otherwise what it cannot find out counts as lost.
* A hash that was paid, or is being paid, is not paid again for another HTLC, so that nobody who
  learned its preimage gets anything here.
* What is under way counts against the agent's money limits until the HTLC's money has come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from lnagents.agent.config import DelegationSection
from lnagents.agent.delegation_ledger import (
    DelegationLedger,
    DelegationRecord,
    DelegationRefusal,
    DelegationState,
    DelegationTotals,
)
from lnagents.agent.forwarder import Decision, Taken
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.limits import Purpose
from lnagents.agent.observer import Observer
from lnagents.agent.orders import PaymentOrder, Relay
from lnagents.lnd import FailHtlc, HeldHtlc, HtlcAnswer, SettleHtlc
from lnagents.market.pass_book import HtlcName
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation
from lnagents.model.errors import (
    LimitExceededError,
    LndError,
    PaymentError,
    PermissionRefusedError,
    StoreError,
)
from lnagents.model.payment import HtlcEvent, HtlcEventKind, Invoice
from lnagents.model.units import Msat, PaymentHash, ShortChannelId

AGAIN_SECONDS = 5.0
"""Until a store that failed is asked again what became of an HTLC."""

LOCAL_SECONDS = 1.0
"""How old the own channels may be when it is decided over which an HTLC may not go on."""

LOOK_SECONDS = 30.0
"""Between two looks for HTLCs whose end no event told; so old must they be to count."""

GIVEN_BACK_BLOCKS = 19
"""Before its expiry LND gives an HTLC back, and not sooner (`DefaultFinalCltvRejectDelta`)."""

UNTOLD_BLOCKS = 1_008
"""After its expiry, an HTLC of which the node does not tell how it ended counts as given back."""

_log = structlog.get_logger("lnagents.agent.delegation")


class OnwardPayer(Protocol):
    """What pays onward; `lnagents.agent.payments.Payer` does."""

    async def forward(self, order: PaymentOrder, *, timeout: float) -> PaymentRecord:
        """Pay for another, to the end."""

    async def find_preimage(self, payment_hash: PaymentHash) -> bytes | None:
        """Preimage of a payment that was begun before, once it is known; None if it failed."""


class QuoteChecker(Protocol):
    """Knows the quotes that were made here; `lnagents.agent.quoting.ForwardQuotes` does."""

    async def is_own(self, delegation: Delegation) -> bool:
        """Whether the delegation's quote was made here, for just this; it may have expired."""


class NodeBook(Protocol):
    """What the node wrote down; `lnagents.lnd.LndClient` asks it."""

    async def htlc_settled(self, scid: ShortChannelId, htlc_id: int) -> bool | None:
        """Whether an HTLC that came in was settled, or given back; None: not told."""


class _RefusedError(Exception):
    def __init__(self, refusal: DelegationRefusal, reason: str = "") -> None:
        super().__init__(reason or refusal.value)
        self.refusal = refusal


class DelegationDesk:
    """A decider on forwards: takes on those whose way is left to it."""

    def __init__(
        self,
        *,
        payer: OnwardPayer,
        ledger: DelegationLedger,
        node: NodeBook,
        observer: Observer,
        section: DelegationSection,
        quotes: QuoteChecker | None = None,
        leaves_enough: Callable[[ShortChannelId, Msat], bool] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `quotes` none were ever made here.

        `leaves_enough`: whether an amount may leave over an own channel, of which a part is kept
        for holders of passes.
        """
        self._payer = payer
        self._ledger = ledger
        self._node = node
        self._observer = observer
        self._section = section
        self._terms = section.terms()
        self._quotes = quotes
        self._leaves_enough = leaves_enough
        self._clock = clock
        self._began = clock()
        self._handling: dict[PaymentHash, tuple[HtlcName, asyncio.Lock]] = {}
        self._open: set[HtlcName] = set()
        """Taken on, and not known to have ended."""
        self._ends: asyncio.Queue[tuple[HtlcName, bool]] = asyncio.Queue()
        self.totals = DelegationTotals()
        """What came of all so far."""

    async def load(self) -> None:
        """Take over what was taken on before.

        Raises:
            StoreError: the store cannot be read.
        """
        await self._count()
        self._open = {record.name for record in await self._ledger.unfinished()}

    async def run(self) -> None:
        """Write down how HTLCs end, until cancelled."""
        while True:
            # At once, too: what ended while the agent was away no event tells.
            with contextlib.suppress(LndError, StoreError):
                await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    while True:
                        await self._end(*await self._ends.get())

    # ---- Deciding

    def decide(self, htlc: HeldHtlc) -> Decision:
        """No opinion on what asks for a channel of its own."""
        data = htlc.custom_records.get(DELEGATION_RECORD)
        if htlc.outgoing_scid != NOWHERE or data is None:
            return None
        return Taken(self._take(htlc, data))

    async def _take(self, htlc: HeldHtlc, data: bytes) -> HtlcAnswer:
        name = htlc.incoming_scid, htlc.incoming_htlc_id
        handled = self._handling.get(htlc.payment_hash)
        if handled is not None and handled[0] != name:
            return self._refuse(htlc, _RefusedError(DelegationRefusal.KNOWN_HASH))
        lock = asyncio.Lock() if handled is None else handled[1]
        self._handling[htlc.payment_hash] = name, lock
        try:
            # One that the node offers again, as it restarted, waits for what is being done.
            async with lock:
                return await self._decide(htlc, data)
        finally:
            if not lock.locked():
                self._handling.pop(htlc.payment_hash, None)

    async def _decide(self, htlc: HeldHtlc, data: bytes) -> HtlcAnswer:
        name = htlc.incoming_scid, htlc.incoming_htlc_id
        try:
            known = await self._ledger.find(name)
            if known is None:
                await self._pay_onward(htlc, data)
        except _RefusedError as exc:
            return self._refuse(htlc, exc)
        except (LndError, StoreError) as exc:
            _log.warning("delegation_unknown", payment_hash=htlc.payment_hash, cause=str(exc))
        while True:
            try:
                return await self._conclude(name)
            except (LndError, StoreError) as exc:
                _log.warning("delegation_unknown", payment_hash=htlc.payment_hash, cause=str(exc))
                await asyncio.sleep(AGAIN_SECONDS)

    async def _conclude(self, name: HtlcName) -> HtlcAnswer:
        """The answer to an HTLC, by the book, as soon as its payment has ended."""
        record = await self._ledger.find(name)
        if record is None or record.state is DelegationState.FAILED:
            return FailHtlc()
        preimage = await self._payer.find_preimage(record.payment_hash)
        if preimage is None:
            await self._ledger.failed(name, self._clock())
            return FailHtlc()
        await self._ledger.settling(name)
        return SettleHtlc(preimage)

    def _refuse(self, htlc: HeldHtlc, refused: _RefusedError) -> FailHtlc:
        self._ledger.refused(htlc, refused.refusal, str(refused), self._clock())
        _log.info(
            "delegation_refused",
            payment_hash=htlc.payment_hash,
            error=refused.refusal.name,
            reason=str(refused),
        )
        return FailHtlc()

    # ---- Taking on

    async def _pay_onward(self, htlc: HeldHtlc, data: bytes) -> None:
        """Pay for `htlc`, to the end; the book tells how it went."""
        order = await self._order(htlc, data)
        self._open.add((htlc.incoming_scid, htlc.incoming_htlc_id))
        self._observer.begin_delegated(
            htlc.payment_hash, htlc.incoming_scid, htlc.incoming_amount_msat
        )
        try:
            record = await self._payer.forward(order, timeout=self._section.payment_seconds)
        except LimitExceededError as exc:
            raise _RefusedError(DelegationRefusal.LIMIT, str(exc)) from exc
        except PaymentError as exc:
            raise _RefusedError(DelegationRefusal.KNOWN_HASH, str(exc)) from exc
        _log.info(
            "delegation",
            payment_hash=htlc.payment_hash,
            state=record.state.value,
            amount_msat=record.amount_msat,
            incoming_msat=htlc.incoming_amount_msat,
            fee_msat=record.fee_msat,
            reason=record.reason,
        )
        if record.state is not PaymentState.SETTLED:
            self._observer.end_delegated(htlc.payment_hash)

    async def _order(self, htlc: HeldHtlc, data: bytes) -> PaymentOrder:
        """What is to be paid for `htlc`.

        Raises:
            _RefusedError: it is not taken on.
        """
        try:
            told = Delegation.from_bytes(data)
        except ValueError as exc:
            raise _RefusedError(DelegationRefusal.MALFORMED, str(exc)) from exc
        section, own_key = self._section, self._observer.own_key
        if own_key in told.passed or told.destination == own_key:
            raise _RefusedError(DelegationRefusal.LOOP)
        if len(self._handling) > section.max_under_way:
            raise _RefusedError(DelegationRefusal.BUSY)
        if await self._ledger.known(htlc.payment_hash):
            raise _RefusedError(DelegationRefusal.KNOWN_HASH)
        if told.amount_msat > section.max_amount_msat:
            raise _RefusedError(DelegationRefusal.TOO_LARGE)
        quoted = await self._quoted(told)
        arrived = htlc.incoming_amount_msat - told.amount_msat
        # A quote holds: for its fee the way is paid as long as that costs no more than the fee.
        margin = 0 if quoted else self._terms.margin_msat(told.amount_msat)
        if arrived < told.fee_budget_msat:
            raise _RefusedError(DelegationRefusal.UNDERPAID)
        if arrived < margin:
            raise _RefusedError(DelegationRefusal.FEE_TOO_LOW)
        latest = htlc.incoming_expiry - section.time_lock_delta
        if latest - await self._observer.height() < told.final_cltv_delta:
            raise _RefusedError(DelegationRefusal.TOO_LATE)
        channels = await self._observer.local_channels(LOCAL_SECONDS)
        channel = channels.get(htlc.incoming_scid)
        avoided = {htlc.incoming_scid}
        if self._leaves_enough is not None:
            most = htlc.incoming_amount_msat
            avoided |= {scid for scid in channels if not self._leaves_enough(scid, most)}
        came_from = set() if channel is None else {channel.peer}
        return PaymentOrder(
            invoice=_invoice(htlc, told),
            purpose=Purpose.FORWARD,
            max_fee_msat=arrived - margin,
            hop_limit=min(told.hop_limit, section.max_hops),
            latest_expiry=latest,
            avoided=frozenset(avoided),
            excluded=frozenset((came_from | set(told.passed)) - {told.destination}),
            passed=(*told.passed, own_key),
            relays=tuple(Relay(key) for key in section.agents),
            alongside=self._ledger.accepting(htlc, quoted=quoted, now=self._clock()),
        )

    async def _quoted(self, told: Delegation) -> bool:
        """Whether the budget is what this agent has quoted, and still stands by."""
        if told.quote is None:
            return False
        if self._quotes is None or not await self._quotes.is_own(told):
            raise _RefusedError(DelegationRefusal.FORGED_QUOTE)
        return told.quote.expires_at > self._clock()

    # ---- What became of it

    def on_event(self, event: HtlcEvent) -> None:
        """Take in that an HTLC has left its channel."""
        if event.kind is HtlcEventKind.FINAL:
            name = event.incoming_scid, event.incoming_htlc_id
            if name in self._open:
                self._ends.put_nowait((name, not event.failure_detail))

    async def look(self) -> None:
        """End those that are in their channel no more, though no event told how.

        Raises:
            LndError: the node does not tell its channels.
            StoreError: the store cannot be used.
        """
        now = self._clock()
        channels = await self._observer.local_channels(0.0)
        for record in await self._ledger.unfinished():
            fresh = record.at >= self._began and now - record.at < LOOK_SECONDS
            if fresh or record.payment_hash in self._handling:
                continue
            channel = channels.get(record.name[0])
            if channel is None or record.name[1] not in channel.arriving:
                settled = await self._settled(record, closed=channel is None)
                if settled is not None:
                    await self._end(record.name, settled)

    async def _settled(self, record: DelegationRecord, *, closed: bool) -> bool | None:
        """Whether one that has left its channel was settled; None: not known yet.

        `closed`: the channel is not open any more, and the chain decides. Where the node does not
        tell, it follows from what it may do: before it gives HTLCs back by itself, nothing but the
        preimage can have ended one that was handed over.
        """
        try:
            told = await self._node.htlc_settled(*record.name)
        except PermissionRefusedError:  # a macaroon from before this was asked
            told = None
        if told is not None:
            return told
        if record.state is DelegationState.ACCEPTED and not closed:
            return False
        height = await self._observer.height()
        if height < record.incoming_expiry - GIVEN_BACK_BLOCKS and not closed:
            return True
        return False if height >= record.incoming_expiry + UNTOLD_BLOCKS else None

    async def _count(self) -> None:
        self.totals = await self._ledger.totals()
        self._observer.count_delegated(self.totals.settled, self.totals.earned_msat)

    async def _end(self, name: HtlcName, settled: bool) -> None:
        try:
            state = await self._ledger.ended(name, settled=settled, now=self._clock())
        except StoreError as exc:
            _log.warning("delegation_unknown", cause=str(exc))  # `look` finds it later
            return
        if state not in (DelegationState.ACCEPTED, DelegationState.SETTLING):
            self._open.discard(name)
        await self._count()
        if state is DelegationState.LOST:
            _log.error("delegation_lost", channel=name[0], htlc=name[1])


def _invoice(htlc: HeldHtlc, told: Delegation) -> Invoice:
    """What has to be paid, as far as the sender tells it."""
    return Invoice(
        payment_request="",
        payment_hash=htlc.payment_hash,
        destination=told.destination,
        amount_msat=told.amount_msat,
        expires_at=0.0,
        final_cltv_delta=told.final_cltv_delta,
        payment_addr=told.payment_addr,
    )
