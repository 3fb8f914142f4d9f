"""Answers questions about the own channels, each paid token once.

Behind Aperture a token is bound to its path, but good for any number of requests, for ever. So the
seller makes the one sale that a payment is good for: the first request gets a fresh hint, every
repetition the very same bytes, which a buyer needs who crashed after paying. It trusts nothing that
Aperture says, but asks its own node whether the token's invoice was settled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lnagents.lnd import InvoiceState, InvoiceStatus
from lnagents.market.catalogue import LIQUIDITY, Catalogue, Offer
from lnagents.market.hint import LiquidityHint, sign_hint
from lnagents.market.l402 import TokenIdentity
from lnagents.market.paths import LiquidityRequest, parse_path
from lnagents.market.records import Sale, SalesRecorder
from lnagents.model.errors import NotForSaleError, NotFoundError, TokenError
from lnagents.model.graph import LocalChannel
from lnagents.model.units import (
    MSAT_PER_SAT,
    Msat,
    NodeKey,
    PaymentHash,
    ShortChannelId,
    format_short_channel_id,
)

PriceOf: TypeAlias = Callable[[ShortChannelId], "int | None"]
"""What one hint about an own channel costs now, in satoshi; None refuses to sell."""

CHANNELS_HELD_SECONDS = 1.0
"""For how long the list of own channels answers those who have not paid."""


APERTURE_MEMO = "L402"
"""Description of every invoice that Aperture makes (0.5.0, aperture.go)."""


class SellerNode(Protocol):
    """What selling needs of the own node; `lnagents.lnd.LndClient` has it."""

    async def sign_message(self, message: bytes) -> str:
        """Sign with the node's key (SignMessage)."""

    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        """The own open channels (ListChannels)."""

    async def lookup_invoice(self, payment_hash: PaymentHash) -> InvoiceState:
        """An own invoice; raises NotFoundError (LookupInvoice)."""


@dataclass(frozen=True, slots=True)
class SellerSettings:
    """What a seller reveals, and for how long it stands by it."""

    bands: int = 10
    """Privacy: answers depend on the balance only by which of so many equal parts of the capacity
    it lies in, however many questions somebody pays for."""
    valid_seconds: float = 60.0
    minimum_price_sat: int = 1
    """No hint is sold for less. Never 0: Aperture lets a price of 0 pass for free."""

    def __post_init__(self) -> None:
        if self.bands < 1 or self.valid_seconds <= 0 or self.minimum_price_sat < 1:
            raise ValueError(f"{self} has a value that is too small")


def passing_probability(amount: Msat, available: Msat, capacity: Msat, bands: int) -> float:
    """Probability that `amount` is at most what is available, to one who knows the band only.

    The capacity is divided into `bands` equal parts; within its part `available` may be anywhere
    with equal probability. All amounts in msat.
    """
    width = max(1, capacity // bands)
    low = available // width * width
    if amount <= low:
        return 1.0
    return max(0.0, (low + width - amount) / width)


class HintSeller:
    """Prices and answers questions about the public channels of the node `key`."""

    def __init__(
        self,
        node: SellerNode,
        key: NodeKey,
        sales: SalesRecorder,
        price: PriceOf,
        settings: SellerSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._key = key
        self._sales = sales
        self._price = price
        self._settings = settings or SellerSettings()
        self._clock = clock
        self._sequence = 0
        self._channels: dict[ShortChannelId, LocalChannel] = {}
        self._channels_at = float("-inf")

    async def catalogue(self) -> Catalogue:
        """All offers at their present prices.

        Raises:
            LndError: the node did not tell its channels.
        """
        offers = []
        for channel in (await self._known_channels()).values():
            price = self._price_of(channel.scid)
            if price is not None:
                name = format_short_channel_id(channel.scid)
                offers.append(
                    Offer(product=LIQUIDITY, channel=name, peer=channel.peer, price_sat=price)
                )
        return Catalogue(
            seller=self._key,
            bands=self._settings.bands,
            valid_seconds=self._settings.valid_seconds,
            offers=tuple(offers),
        )

    async def quote(self, path: str) -> int:
        """What `path` costs now, in satoshi, at least 1.

        Raises:
            NotForSaleError: there is nothing to buy.
            LndError: the node did not tell its channels.
        """
        request = parse_path(path)
        self._channel_of(request, await self._known_channels())
        price = self._price_of(request.scid)
        if price is None:
            raise NotForSaleError(f"no hints about {format_short_channel_id(request.scid)} now")
        return price

    async def answer(self, path: str, token: TokenIdentity) -> bytes:
        """The signed document that `token` has bought.

        Raises:
            NotForSaleError: there is nothing to buy under `path`, or not any more.
            TokenError: the token was not paid for, or has bought something else.
            StoreError: the sale could not be recorded, so nothing was handed out.
            LndError: the node did not answer.
        """
        request = parse_path(path)
        sale = await self._sales.find_sale(token.payment_hash)
        if sale is None:
            paid_msat = await self._paid_msat(token)
            channel = self._channel_of(request, await self._fresh_channels())
            document = await sign_hint(self._node, self._hint(request, channel))
            sale = await self._sales.record_sale(
                Sale(
                    payment_hash=token.payment_hash,
                    token_id=token.token_id,
                    path=path,
                    price_msat=paid_msat,
                    answer=document,
                    sold_at=self._clock(),
                )
            )
        if (sale.path, sale.token_id) != (path, token.token_id):
            raise TokenError("the token has bought something else")
        return sale.answer

    async def _paid_msat(self, token: TokenIdentity) -> Msat:
        try:
            invoice = await self._node.lookup_invoice(token.payment_hash)
        except NotFoundError as exc:
            raise TokenError("the token belongs to no invoice of this node") from exc
        if invoice.description != APERTURE_MEMO:
            raise TokenError("the token's invoice was not made for a token")
        if invoice.status is not InvoiceStatus.SETTLED:
            raise TokenError("the token's invoice is not paid")
        if invoice.paid_msat < self._settings.minimum_price_sat * MSAT_PER_SAT:
            raise TokenError("the token's invoice is for less than a hint costs")
        return invoice.paid_msat

    def _hint(self, request: LiquidityRequest, channel: LocalChannel) -> LiquidityHint:
        now = self._clock()
        if not channel.active:
            probability = 0.0
        else:
            available = (
                channel.spendable_msat if request.source == self._key else channel.receivable_msat
            )
            probability = passing_probability(
                request.amount_msat, available, channel.capacity_msat, self._settings.bands
            )
        # Nanoseconds grow across restarts without a counter on disk.
        self._sequence = max(self._sequence + 1, round(now * 1_000_000_000))
        return LiquidityHint(
            issuer=self._key,
            scid=request.scid,
            source=request.source,
            amount_msat=request.amount_msat,
            probability=probability,
            issued_at=now,
            expires_at=now + self._settings.valid_seconds,
            sequence=self._sequence,
        )

    def _channel_of(
        self, request: LiquidityRequest, channels: dict[ShortChannelId, LocalChannel]
    ) -> LocalChannel:
        channel = channels.get(request.scid)
        name = format_short_channel_id(request.scid)
        if channel is None:
            raise NotForSaleError(f"{name} is not a public channel of this node")
        if request.source not in (self._key, channel.peer):
            raise NotForSaleError(f"{request.source} is not an end of {name}")
        return channel

    def _price_of(self, scid: ShortChannelId) -> int | None:
        price = self._price(scid)
        return None if price is None else max(price, self._settings.minimum_price_sat)

    async def _known_channels(self) -> dict[ShortChannelId, LocalChannel]:
        if self._clock() - self._channels_at >= CHANNELS_HELD_SECONDS:
            return await self._fresh_channels()
        return self._channels

    async def _fresh_channels(self) -> dict[ShortChannelId, LocalChannel]:
        channels = await self._node.channels()
        self._channels = {channel.scid: channel for channel in channels if not channel.private}
        self._channels_at = self._clock()
        return self._channels
