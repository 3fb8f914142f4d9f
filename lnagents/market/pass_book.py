"""The seller's book of passes: what is kept for holders, what was sold of it, what was used.

A channel keeps a *pool*: an amount and a number of HTLC slots. A pass takes its amount and one slot
out of the pool from the moment it is issued until it expires or is used up, so never more is sold
than there is. A holder may have one HTLC at a time under way with it, and all that settled together
with what is under way never exceeds its amount; an HTLC that fails gives its part back. Where the
fate of an HTLC cannot be known, it counts as settled: the buyer paid for priority, not the seller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from lnagents.market.documents import PriorityPass
from lnagents.market.passes import Passage, PassUse, is_presented_by
from lnagents.market.paths import PassRequest
from lnagents.model.errors import NotForSaleError
from lnagents.model.units import (
    Msat,
    NodeKey,
    PaymentHash,
    ShortChannelId,
    format_msat,
    format_short_channel_id,
)

REMEMBERED_SECONDS = 3_600.0
"""For which an expired pass is still told from one that was never sold."""

HtlcName: TypeAlias = tuple[ShortChannelId, int]
"""Of an incoming HTLC at this node: its channel and its number there."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What a channel keeps for holders."""

    amount_msat: Msat
    slots: int
    now_msat: Msat
    """What could really leave now, as far as buyers may be told; a new pass needs that, too."""


class PassRefusal(str, Enum):
    """Why an HTLC that presented a pass is refused."""

    UNREADABLE = "what was presented cannot be read"
    UNKNOWN = "no pass of this id was sold here"
    EXPIRED = "the pass has expired"
    OTHER_CHANNEL = "the pass is for another channel"
    OTHER_PAYMENT = "the pass is for another payment"
    NOT_THE_HOLDER = "the pass's key did not sign for this payment"
    UNDER_WAY = "another HTLC is under way with the pass"
    USED_UP = "the amount exceeds what is left of the pass"


@dataclass(slots=True)
class _Reservation:
    """One pass, from its issue on; sold once its document counts."""

    scid: ShortChannelId
    amount_msat: Msat
    expires_at: float
    payment_hash: PaymentHash | None
    buyer_key: NodeKey | None
    spent_msat: Msat = 0
    under_way: HtlcName | None = None
    under_way_msat: Msat = 0

    @property
    def unspent_msat(self) -> Msat:
        return self.amount_msat - self.spent_msat

    @property
    def left_msat(self) -> Msat:
        return self.unspent_msat - self.under_way_msat


class PassBook:
    """All passes of one node."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._issued: dict[str, _Reservation] = {}
        """By the path that asked for it, without a quote: it has the buyer's nonce."""
        self._sold: dict[bytes, _Reservation] = {}
        self._of_channel: dict[ShortChannelId, list[_Reservation]] = {}
        self._under_way: dict[HtlcName, _Reservation] = {}

    # ---- Selling

    def check(self, request: PassRequest, pool: Pool) -> None:
        """See that the pass could be issued now.

        Raises:
            NotForSaleError: not as much is left.
        """
        if request.path() in self._issued:
            return
        live = self._live(request.scid)
        # What is under way has left the channel, and takes its part of the pool back if it fails.
        left = min(
            pool.amount_msat - sum(one.unspent_msat for one in live),
            pool.now_msat - sum(one.left_msat for one in live),
        )
        if request.amount_msat > left or len(live) >= pool.slots:
            name, amount = format_short_channel_id(request.scid), format_msat(request.amount_msat)
            raise NotForSaleError(f"passes for {amount} over {name} are sold out now")

    def reserve(self, request: PassRequest, pool: Pool, until: float) -> None:
        """Take the pass out of the pool until then; asking again for the same changes nothing.

        Raises:
            NotForSaleError: not as much is left.
        """
        self.check(request, pool)
        if request.path() in self._issued:
            # Of several requests with one paid token only one answer counts.
            return
        self._add(
            request.path(),
            _Reservation(
                request.scid, request.amount_msat, until, request.payment_hash, request.buyer_key
            ),
        )

    def sold(self, path: str, identity: bytes, document: PriorityPass) -> None:
        """The pass that was asked for by `path` is sold; it may be one of an earlier process."""
        reservation = self._issued.get(path)
        if reservation is None:
            reservation = _Reservation(
                document.scid,
                document.amount_msat,
                document.expires_at,
                document.payment_hash,
                document.buyer_key,
            )
            self._add(path, reservation)
        self._sold[identity] = reservation

    def promised_msat(self, scid: ShortChannelId) -> Msat:
        """What holders may still send over a channel."""
        return sum(one.left_msat for one in self._live(scid))

    def promised_slots(self, scid: ShortChannelId) -> int:
        """How many HTLCs holders may still add to a channel at once."""
        return sum(one.under_way is None for one in self._live(scid))

    def forget_expired(self) -> None:
        """Give up what no HTLC can use any more."""
        now = self._clock()

        def over(one: _Reservation) -> bool:
            return one.expires_at + REMEMBERED_SECONDS < now and one.under_way is None

        self._issued = {path: one for path, one in self._issued.items() if not over(one)}
        self._sold = {name: one for name, one in self._sold.items() if not over(one)}
        self._of_channel = {
            scid: left
            for scid, passes in self._of_channel.items()
            if (left := [one for one in passes if not over(one)])
        }

    # ---- Use

    def admit(self, name: HtlcName, use: PassUse, passage: Passage) -> PassRefusal | None:
        """Let HTLC `name` use the pass; None: it may, and its part of the pass is under way."""
        one = self._sold.get(use.pass_id)
        if one is None:
            return PassRefusal.UNKNOWN
        if self._under_way.get(name) is one:
            return None  # a node that was interrupted asks about it again
        refusal = self._refusal(one, use, passage)
        if refusal is None:
            one.under_way, one.under_way_msat = name, passage.amount_msat
            self._under_way[name] = one
        return refusal

    def _refusal(self, one: _Reservation, use: PassUse, passage: Passage) -> PassRefusal | None:
        if one.expires_at <= self._clock():
            return PassRefusal.EXPIRED
        if one.scid != passage.scid:
            return PassRefusal.OTHER_CHANNEL
        if one.payment_hash is not None and one.payment_hash != passage.payment_hash:
            return PassRefusal.OTHER_PAYMENT
        if one.buyer_key is not None and not is_presented_by(one.buyer_key, use, passage):
            return PassRefusal.NOT_THE_HOLDER
        if one.under_way is not None:
            return PassRefusal.UNDER_WAY
        if passage.amount_msat > one.left_msat:
            return PassRefusal.USED_UP
        return None

    def ended(self, name: HtlcName, *, settled: bool) -> bool:
        """HTLC `name` is over; whether it used a pass."""
        one = self._under_way.pop(name, None)
        if one is None:
            return False
        if settled:
            one.spent_msat += one.under_way_msat
        one.under_way, one.under_way_msat = None, 0
        return True

    def restore(self, identity: bytes, spent_msat: Msat) -> None:
        """So much of a sold pass was spent in an earlier process."""
        one = self._sold.get(identity)
        if one is not None:
            one.spent_msat += spent_msat

    def resume(self, identity: bytes, name: HtlcName, amount_msat: Msat) -> None:
        """HTLC `name`, admitted by an earlier process, may still be under way."""
        one = self._sold.get(identity)
        if one is not None:
            one.under_way, one.under_way_msat = name, amount_msat
            self._under_way[name] = one

    @property
    def under_way(self) -> Iterable[HtlcName]:
        """The HTLCs that use passes now."""
        return tuple(self._under_way)

    def _add(self, path: str, one: _Reservation) -> None:
        self._issued[path] = one
        self._of_channel.setdefault(one.scid, []).append(one)

    def _live(self, scid: ShortChannelId) -> list[_Reservation]:
        """Those that still take something out of the pool of `scid`."""
        now = self._clock()
        return [
            one
            for one in self._of_channel.get(scid, ())
            if one.expires_at > now and (one.left_msat > 0 or one.under_way is not None)
        ]
