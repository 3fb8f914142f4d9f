"""Priority on the own channels: what is kept for holders of passes, and who gets through.

`PassDesk` stands where the agent sells (it keeps room for each pass) and where it decides on
forwards: a holder passes as long as its pass lasts, everybody else as long as enough stays free for
holders, and whoever presents what is no valid pass is refused, so that a holder finds out. Nothing
of it asks the node, and only a holder waits for the disk: its use is written down before it gets
through, so that no crash lets it be repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from lnagents.agent.candidates import sendable_msat
from lnagents.agent.forwarder import Decision
from lnagents.agent.pass_ledger import PassLedger
from lnagents.agent.rooms import Rooms, htlc_cost_msat
from lnagents.lnd import FailHtlc, HeldHtlc, HtlcAnswer, ResumeHtlc
from lnagents.market import PriorityPass, Sale, open_document
from lnagents.market.issuers import band_of
from lnagents.market.pass_book import HtlcName, PassBook, PassRefusal, Pool
from lnagents.market.passes import PASS_RECORD, Passage, PassUse, pass_id
from lnagents.market.paths import MAX_SECONDS, PassRequest, parse_quoted
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.graph import LocalChannel
from lnagents.model.payment import HtlcEvent, HtlcEventKind, HtlcRole
from lnagents.model.units import Msat, ShortChannelId, format_short_channel_id

FORGET_SECONDS = 600.0
"""Between two looks for passes that are over."""

TIGHT_SHARE = 0.1
"""If less than that of a channel is left to those without a pass, it has to be known well."""

UNSEEN_SECONDS = 5.0
"""An HTLC that was let through so long ago and is not under way is over."""

_ENDS = {HtlcEventKind.SETTLE, HtlcEventKind.FORWARD_FAIL, HtlcEventKind.LINK_FAIL}

_log = structlog.get_logger("lnagents.agent.passes")


class PassDesk:
    """A `lnagents.market.PassKeeper`, and a decider on forwards."""

    def __init__(
        self,
        rooms: Rooms,
        ledger: PassLedger,
        *,
        reserved_share: float,
        bands: int,
        max_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`reserved_share` of capacity and HTLC slots of each channel is kept free for holders.

        `bands`: as with hints, whether a pass can be had depends on the balance only by which of
        so many parts of the capacity it lies in: it is told to those who have not paid.
        """
        self.max_seconds = max_seconds
        self._rooms = rooms
        self._ledger = ledger
        self._share = reserved_share
        self._bands = bands
        self._clock = clock
        self.book = PassBook(clock=clock)
        self._let_through: dict[HtlcName, float] = {}
        """With a pass, and when (monotonic clock)."""
        rooms.on_shown = self._on_shown

    async def load(self) -> None:
        """Take over what was sold and used before.

        Raises:
            StoreError: the store cannot be read.
            LndError: the node does not tell its channels.
        """
        now = self._clock()
        for path, answer in await self._ledger.sold_since(now - MAX_SECONDS):
            self._sold(path, answer)
        for identity, spent_msat in await self._ledger.spent():
            self.book.restore(identity, spent_msat)
        for identity, name, amount_msat in await self._ledger.under_way():
            self.book.resume(identity, name, amount_msat)
            self._let_through[name] = float("-inf")
        await self._rooms.refresh()

    async def run(self) -> None:
        """Forget what is over, until cancelled."""
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            self.book.forget_expired()

    # ---- Selling

    def check(self, request: PassRequest, channel: LocalChannel) -> None:
        """See that there is room."""
        self.book.check(request, self._pool(channel))

    def reserve(self, request: PassRequest, channel: LocalChannel, until: float) -> None:
        """Keep the room."""
        self.book.reserve(request, self._pool(channel), until)

    def on_sale(self, sale: Sale) -> None:
        """A document was sold; if it is a pass, it may be used from now on."""
        self._sold(sale.path, sale.answer)

    def promised_msat(self, scid: ShortChannelId) -> Msat:
        """What holders may still send over a channel, and own payments should leave to them."""
        return self.book.promised_msat(scid)

    def _sold(self, path: str, answer: bytes) -> None:
        document = open_document(answer)
        if isinstance(document, PriorityPass):
            self.book.sold(parse_quoted(path)[1], pass_id(answer), document)

    def _pool(self, channel: LocalChannel) -> Pool:
        available = sendable_msat(channel) if channel.active else 0
        told, _ = band_of(available, channel.capacity_msat, self._bands)
        return Pool(self._kept_msat(channel), self._kept_slots(channel), told)

    def _kept_msat(self, channel: LocalChannel) -> Msat:
        return int(self._share * channel.capacity_msat)

    def _kept_slots(self, channel: LocalChannel) -> int:
        return int(self._share * channel.max_accepted_htlcs)

    # ---- Deciding

    def decide(self, htlc: HeldHtlc) -> Decision:
        """Whether it gets through; no opinion on what nothing speaks against."""
        presented = htlc.custom_records.get(PASS_RECORD)
        if presented is None:
            if not self._leaves_enough(htlc):
                return FailHtlc()
            self._rooms.let_through(htlc)
            return None
        use = self._admit(htlc, presented)
        if use is None:
            return FailHtlc()
        self._rooms.let_through(htlc)
        return self._write_down(htlc, use)

    async def _write_down(self, htlc: HeldHtlc, use: PassUse) -> HtlcAnswer:
        """Let a holder through once that is on disk."""
        await self._ledger.used(use.pass_id, _name(htlc), _passage(htlc), self._clock())
        return ResumeHtlc()

    def _leaves_enough(self, htlc: HeldHtlc) -> bool:
        """Whether what is kept stays free, by whichever channel to the peer the node sends it."""
        amount = htlc.outgoing_amount_msat
        ways = self._rooms.ways(htlc.outgoing_scid, amount)
        return all(self.leaves_enough(scid, amount) for scid in ways)

    def leaves_enough(self, scid: ShortChannelId, amount_msat: Msat) -> bool:
        """Whether what is kept of channel `scid` stays free if `amount_msat` leaves over it."""
        channel = self._rooms.channel(scid)
        if channel is None:
            return True
        msat, slots = self._rooms.free(scid)
        # This HTLC, and each that a holder may still send, takes more than its amount.
        extra = (1 + self.book.promised_slots(scid)) * htlc_cost_msat(channel)
        left_msat = msat - amount_msat - extra - self._kept_msat(channel)
        left_slots = slots - 1 - self._kept_slots(channel)
        if (
            left_msat < TIGHT_SHARE * channel.capacity_msat
            or left_slots < TIGHT_SHARE * channel.max_accepted_htlcs
        ):
            self._rooms.hurry()
        return left_msat >= 0 and left_slots >= 0

    def _admit(self, htlc: HeldHtlc, presented: bytes) -> PassUse | None:
        """The use of a pass that lets it through; None: it is refused."""
        name, passage = _name(htlc), _passage(htlc)
        use: PassUse | None = None
        try:
            use = PassUse.from_bytes(presented)
        except DocumentInvalidError:
            refusal: PassRefusal | None = PassRefusal.UNREADABLE
        else:
            refusal = self.book.admit(name, use, passage)
        if refusal is None:
            self._let_through[name] = time.monotonic()
            return use
        identity = b"" if use is None else use.pass_id
        self._ledger.refused(identity, name, passage, refusal, self._clock())
        _log.warning(
            "pass_refused",
            payment_hash=htlc.payment_hash,
            channel=format_short_channel_id(htlc.outgoing_scid),
            reason=refusal.value,
        )
        return None

    # ---- What became of it

    def on_event(self, event: HtlcEvent) -> None:
        """Take in what happened to an HTLC of the node."""
        if event.role is HtlcRole.FORWARD and event.kind in _ENDS:
            name = event.incoming_scid, event.incoming_htlc_id
            settled = event.kind is HtlcEventKind.SETTLE
            self._rooms.ended(name, settled=settled)
            self._ended(name, settled=settled, known=True)
        elif event.role is HtlcRole.SEND and event.kind is HtlcEventKind.FORWARD:
            self._rooms.hurry()  # own payments are not counted here

    def _on_shown(self, shown: frozenset[HtlcName], asked: float) -> None:
        """End those whose end was not told, as the events were interrupted: nobody knows how."""
        for name, at in list(self._let_through.items()):
            if name not in shown and at < asked - UNSEEN_SECONDS:
                self._ended(name, settled=True, known=False)

    def _ended(self, name: HtlcName, *, settled: bool, known: bool) -> None:
        if self._let_through.pop(name, None) is not None and self.book.ended(name, settled=settled):
            self._ledger.ended(name, settled=settled, known=known)


def _name(htlc: HeldHtlc) -> HtlcName:
    return htlc.incoming_scid, htlc.incoming_htlc_id


def _passage(htlc: HeldHtlc) -> Passage:
    return Passage(htlc.payment_hash, htlc.outgoing_scid, htlc.outgoing_amount_msat)
