"""What a seller tells for free: its catalogue and its quotes. Needs neither node nor money."""

from __future__ import annotations

import time
from types import TracebackType

import httpx

from lnagents.market.catalogue import Catalogue, Quote, parse_catalogue, parse_quote
from lnagents.market.documents import ForwardQuote
from lnagents.market.forwarding import ForwardRequest, check_forward_quote
from lnagents.market.paths import CATALOGUE_PATH, QUOTES_PREFIX, Request, parse_quoted
from lnagents.market.records import Seller
from lnagents.market.transport import BoundedTransport, cause_of, refusal_of
from lnagents.model.errors import MarketError, NotForSaleError

EXCHANGE_SECONDS = 20.0
"""For one HTTP exchange, payments not included."""
MAX_ANSWER_BYTES = 262_144
"""A document has up to 4,096 bytes, a catalogue about 180 for each channel and product."""


class Browser:
    """Asks sellers what they sell. An async context manager."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            transport=transport or BoundedTransport(EXCHANGE_SECONDS, MAX_ANSWER_BYTES),
            timeout=EXCHANGE_SECONDS,
        )

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def catalogue(self, seller: Seller) -> Catalogue:
        """What `seller` offers now.

        Raises:
            MarketError: it does not answer, or not as this seller.
        """
        catalogue = parse_catalogue(await self._ask(seller, CATALOGUE_PATH, "catalogue"))
        if catalogue.seller != seller.key:
            raise MarketError(f"{seller.url} sells for {catalogue.seller}, not for {seller.key}")
        return catalogue

    async def quote(self, seller: Seller, request: Request) -> Quote:
        """The price of `request`; the seller holds it until the quote expires.

        Raises:
            NotForSaleError: the seller does not offer it.
            MarketError: it does not answer, or with a quote for something else.
        """
        asked = request.path()
        quote = parse_quote(await self._ask(seller, QUOTES_PREFIX + asked, "quote"))
        try:
            quoted, plain, mark = parse_quoted(quote.path)
        except NotForSaleError as exc:
            raise MarketError(f"{seller.url} made a quote that cannot be read: {exc}") from exc
        if (quoted, plain) != (request, asked):
            raise MarketError(f"{seller.url} made a quote for something else")
        if mark is None or (mark.price_sat, mark.expires_at) != (quote.price_sat, quote.expires_at):
            raise MarketError(f"{seller.url} made a quote that contradicts itself")
        return quote

    async def forward_quote(self, seller: Seller, request: ForwardRequest) -> ForwardQuote:
        """For which fee `seller` finds the rest of a way.

        Raises:
            NotForSaleError: it finds none.
            MarketError: it does not answer, or with what is no quote of its own for this.
        """
        data = await self._ask(seller, request.path(), "quote")
        return check_forward_quote(data, forwarder=seller.key, request=request, clock=time.time)

    async def _ask(self, seller: Seller, path: str, what: str) -> bytes:
        try:
            response = await self._http.get(seller.url.rstrip("/") + path)
        except httpx.HTTPError as exc:
            raise MarketError(f"{seller.url} does not answer: {cause_of(exc)}") from exc
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotForSaleError(f"{seller.url} has no {what}: {refusal_of(response)}")
        if response.status_code != httpx.codes.OK:
            raise MarketError(f"{seller.url} has no {what}: {refusal_of(response)}")
        return response.content
