"""Answers questions about the own node, each paid token once.

Behind Aperture a token is bound to its path, but good for any number of requests, for ever. So the
seller makes the one sale that a payment is good for: the first request gets a fresh document, every
repetition the very same bytes, which a buyer needs who crashed after paying, until the token has
expired. It trusts nothing that Aperture says, but asks its own node whether the token's invoice was
settled, and for how much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lnagents.lnd import InvoiceState, InvoiceStatus
from lnagents.market.allowance import Allowance
from lnagents.market.catalogue import Catalogue, Offer, Quote
from lnagents.market.documents import sign_document
from lnagents.market.forwarding import ForwardDesk, parse_forward_path
from lnagents.market.issuers import (
    CommitmentIssuer,
    FeeKeeper,
    Header,
    Issuer,
    LiquidityIssuer,
    PassIssuer,
    PassKeeper,
    RouteIssuer,
    RouteNode,
)
from lnagents.market.l402 import TokenIdentity
from lnagents.market.paths import Product, QuoteMark, Request, parse_quoted, quoted_path
from lnagents.market.prices import PriceBook
from lnagents.market.records import Sale, SalesRecorder
from lnagents.market.seals import Seals
from lnagents.model.errors import NotForSaleError, NotFoundError, SellerBusyError, TokenError
from lnagents.model.graph import LocalChannel
from lnagents.model.units import (
    MSAT_PER_SAT,
    Msat,
    NodeKey,
    PaymentHash,
    ShortChannelId,
    format_short_channel_id,
)

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
    it lies in, and tell probabilities of routes in as many steps, however many questions somebody
    pays for."""
    tell_bands: bool = False
    """Whether a hint names the part itself: what several questions would find out, for one."""
    valid_seconds: float = 60.0
    """How long hints and route quotes hold."""
    max_commitment_seconds: int = 3_600
    """For how long a promise can be bought."""
    quote_seconds: int = 60
    """How long a quoted price holds."""
    challenges_burst: int = 2_000
    """How many prices Aperture is told at once, each of which makes an invoice, and ..."""
    challenges_per_second: float = 10.0
    """... in the long run. It bounds the invoices that nobody pays: LND forgets none by itself."""
    token_seconds: float = 86_400.0
    """How long after its payment a token is good, also for the same answer again."""

    def __post_init__(self) -> None:
        counts = (
            self.bands,
            self.max_commitment_seconds,
            self.quote_seconds,
            self.challenges_burst,
        )
        times = (self.valid_seconds, self.token_seconds, self.challenges_per_second)
        if min(counts) < 1 or min(times) <= 0:
            raise ValueError(f"{self} has a value that is too small")


class DocumentSeller:
    """Prices and answers questions, for the node `key`."""

    def __init__(
        self,
        node: SellerNode,
        key: NodeKey,
        sales: SalesRecorder,
        prices: PriceBook,
        issuers: Sequence[Issuer],
        settings: SellerSettings | None = None,
        *,
        forwards: ForwardDesk | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """What has a price and an issuer is sold; `standard_issuers` makes those there are.

        `forwards` finds ways for others.
        """
        self._node = node
        self._key = key
        self._sales = sales
        self._prices = prices
        self._issuers = {issuer.product: issuer for issuer in issuers}
        self._settings = settings or SellerSettings()
        self._forwards = forwards
        self._clock = clock
        self._seals = Seals(node)
        self._allowance = Allowance(
            self._settings.challenges_burst, self._settings.challenges_per_second, clock
        )
        self._sequence = 0
        self._channels: dict[ShortChannelId, LocalChannel] = {}
        self._channels_at = float("-inf")

    async def catalogue(self) -> Catalogue:
        """All offers at their present prices.

        Raises:
            LndError: the node did not tell its channels.
        """
        channels = await self._known_channels()
        settings = self._settings
        return Catalogue(
            seller=self._key,
            bands=settings.bands,
            valid_seconds=settings.valid_seconds,
            max_seconds=settings.max_commitment_seconds,
            quote_seconds=settings.quote_seconds,
            offers=tuple(
                offer for product in self._issuers for offer in self._offers(product, channels)
            ),
            forwarding=None if self._forwards is None else self._forwards.terms,
        )

    def _offers(
        self, product: Product, channels: dict[ShortChannelId, LocalChannel]
    ) -> list[Offer]:
        if product is Product.ROUTE:
            price = self._prices.price_sat(product)
            return [] if price is None else [Offer(product=product.value, price_sat=price)]
        return [
            Offer(
                product=product.value,
                channel=format_short_channel_id(scid),
                peer=channel.peer,
                price_sat=price,
            )
            for scid, channel in channels.items()
            if (price := self._prices.price_sat(product, scid)) is not None
        ]

    async def quote(self, path: str) -> Quote:
        """A price for the question `path` that holds for a while.

        Raises:
            NotForSaleError: there is nothing to buy.
            LndError: the node did not answer.
        """
        request, plain, mark = parse_quoted(path)
        if mark is not None:
            raise NotForSaleError("a quote for a quote is not made")
        price = await self._present_price(request)
        expires_at = int(self._clock()) + self._settings.quote_seconds
        mark = await self._seals.mark(plain, price, expires_at)
        return Quote(path=quoted_path(plain, mark), price_sat=price, expires_at=expires_at)

    async def forward_quote(self, path: str) -> bytes:
        """What finding the rest of a way costs, signed.

        Raises:
            NotForSaleError: this node does not do that, or knows no way.
            SellerBusyError: too many have asked.
            LndError: the node did not answer.
        """
        request = parse_forward_path(path)
        if self._forwards is None:
            raise NotForSaleError("this node finds no ways for others")
        return await self._forwards.quote(request)

    async def price_sat(self, path: str) -> int:
        """What `path` costs now, at least 1 satoshi: as quoted if it carries a quote.

        Raises:
            NotForSaleError: there is nothing to buy, or the quote is foreign or has expired.
            SellerBusyError: too many have asked and not paid.
            LndError: the node did not answer.
        """
        price = await self._price_sat(path)
        if not self._allowance.take():
            raise SellerBusyError("too many prices were asked for lately")
        return price

    async def _price_sat(self, path: str) -> int:
        request, plain, mark = parse_quoted(path)
        if mark is None:
            return await self._present_price(request)
        await self._check_seal(plain, mark)
        if mark.expires_at <= self._clock():
            raise NotForSaleError("the quote has expired")
        await self._issuer(request).check(request, await self._known_channels())
        return mark.price_sat

    async def answer(self, path: str, token: TokenIdentity) -> bytes:
        """The signed document that `token` has bought.

        Raises:
            NotForSaleError: there is nothing to buy under `path`, or not any more.
            TokenError: the token was not paid for, has bought something else, or has expired.
            StoreError: the sale could not be recorded, so nothing was handed out.
            LndError: the node did not answer.
        """
        request, plain, mark = parse_quoted(path)
        sale = await self._sales.find_sale(token.payment_hash)
        if sale is None:
            paid_msat = await self._paid_msat(token, request, plain, mark)
            document = await self._document(request)
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
            if sale.answer == document:  # else another request was faster
                self._prices.sold(request.product, paid_msat)
        if (sale.path, sale.token_id) != (path, token.token_id):
            raise TokenError("the token has bought something else")
        self._check_age(sale.sold_at)
        return sale.answer

    async def _present_price(self, request: Request) -> int:
        price = self._prices.price_sat(request.product, request.channel)
        if price is None:
            raise NotForSaleError(f"no {request.product.value} is sold now")
        await self._issuer(request).check(request, await self._known_channels())
        self._prices.asked(request)
        return price * request.units

    async def _paid_msat(
        self, token: TokenIdentity, request: Request, plain: str, mark: QuoteMark | None
    ) -> Msat:
        """What the token's payment brought in.

        Raises:
            TokenError: no settled invoice that Aperture made for a token stands behind it, or one
                for too little, or it is too old.
        """
        try:
            invoice = await self._node.lookup_invoice(token.payment_hash)
        except NotFoundError as exc:
            raise TokenError("no invoice of this node stands behind the token") from exc
        if invoice.description != APERTURE_MEMO:
            raise TokenError("the token's invoice was not made for a token")
        if invoice.status is not InvoiceStatus.SETTLED:
            raise TokenError("the token's invoice is not paid")
        least_sat = self._prices.minimum_sat * request.units
        if mark is not None:
            await self._check_seal(plain, mark)
            least_sat = mark.price_sat
        if invoice.paid_msat < least_sat * MSAT_PER_SAT:
            raise TokenError("the token's invoice is for less than this costs")
        if invoice.settled_at is not None:
            self._check_age(invoice.settled_at)
        return invoice.paid_msat

    def _check_age(self, since: float) -> None:
        if self._clock() > since + self._settings.token_seconds:
            raise TokenError("the token has expired")

    async def _check_seal(self, plain: str, mark: QuoteMark) -> None:
        if not await self._seals.is_own(plain, mark):
            raise NotForSaleError("the quote is not of this seller, or for something else")

    async def _document(self, request: Request) -> bytes:
        issuer = self._issuer(request)
        channels = await self._fresh_channels()
        now = self._clock()
        # Nanoseconds grow across restarts without a counter on disk.
        self._sequence = max(self._sequence + 1, round(now * 1_000_000_000))
        header = Header(
            issuer=self._key,
            issued_at=now,
            expires_at=now + issuer.seconds(request),
            sequence=self._sequence,
        )
        return await sign_document(self._node, await issuer.issue(request, channels, header))

    def _issuer(self, request: Request) -> Issuer:
        issuer = self._issuers.get(request.product)
        if issuer is None:
            raise NotForSaleError(f"no {request.product.value} is sold here")
        return issuer

    async def _known_channels(self) -> dict[ShortChannelId, LocalChannel]:
        if self._clock() - self._channels_at >= CHANNELS_HELD_SECONDS:
            return await self._fresh_channels()
        return self._channels

    async def _fresh_channels(self) -> dict[ShortChannelId, LocalChannel]:
        channels = await self._node.channels()
        self._channels = {channel.scid: channel for channel in channels if not channel.private}
        self._channels_at = self._clock()
        return self._channels


def standard_issuers(
    key: NodeKey,
    settings: SellerSettings,
    *,
    router: RouteNode | None = None,
    keeper: FeeKeeper | None = None,
    passes: PassKeeper | None = None,
) -> list[Issuer]:
    """Issuers of hints, and of what else there is somebody for.

    Args:
        key: the own node's.
        settings: what is revealed, and for how long it holds.
        router: finds the routes that are quoted.
        keeper: keeps the fees that are committed to.
        passes: admits those who have one.
    """
    issuers: list[Issuer] = [
        LiquidityIssuer(key, settings.valid_seconds, settings.bands, settings.tell_bands)
    ]
    if keeper is not None:
        issuers.append(CommitmentIssuer(keeper, settings.max_commitment_seconds))
    if router is not None:
        issuers.append(RouteIssuer(router, key, settings.valid_seconds, settings.bands, keeper))
    if passes is not None:
        issuers.append(PassIssuer(passes))
    return issuers
