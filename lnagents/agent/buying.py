"""Buying: what the agent wants, what people ask it for, and what was paid for and is still to come.

All purchases of an agent go through one `BuyingDesk`, so that budgets, the book and what is learned
from a document are the same whoever asked. What people ask for is bought once, however often they
ask: as long as the answer holds it is handed out again, and one that was paid for and never came is
collected instead of being paid for again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

import structlog

from lnagents.agent.status import PurchaseReport
from lnagents.agent.trade import PurchaseBook
from lnagents.market import (
    Catalogue,
    Document,
    DocumentBuyer,
    Purchase,
    PurchaseState,
    Request,
    Seller,
    open_document,
)
from lnagents.model.errors import MarketError, PriceError, StoreError
from lnagents.model.units import Msat, NodeKey, format_msat

COLLECT_AGAIN_SECONDS = 60.0
"""Between two attempts to collect what was paid for and not delivered."""

PRICE_SECONDS = 60.0
"""How long a catalogue's prices are taken for granted."""

_log = structlog.get_logger("lnagents.agent.buying")


class BuyingDesk:
    """Buys for one agent and tells `on_document` each document that comes in, once."""

    def __init__(
        self,
        buyer: DocumentBuyer,
        book: PurchaseBook,
        on_document: Callable[[Document, bytes], None],
    ) -> None:
        """`on_document` is told the document and its signed bytes."""
        self._buyer = buyer
        self._book = book
        self._on_document = on_document
        self._catalogues: dict[NodeKey, tuple[float, Catalogue]] = {}
        self._collecting = asyncio.Lock()
        self._asked: WeakValueDictionary[tuple[NodeKey, str], asyncio.Lock] = WeakValueDictionary()

    async def catalogue(self, seller: Seller) -> Catalogue:
        """What `seller` offers, as of the last minute.

        Raises:
            MarketError: it does not answer.
        """
        known = self._catalogues.get(seller.key)
        now = time.monotonic()
        if known is None or now - known[0] > PRICE_SECONDS:
            known = self._catalogues[seller.key] = (now, await self._buyer.catalogue(seller))
        return known[1]

    async def buy(self, seller: Seller, request: Request, *, agreed_price_msat: Msat) -> Document:
        """Buy one answer; see `DocumentBuyer.buy` for what may be raised."""
        try:
            document = await self._buyer.buy(seller, request, agreed_price_msat=agreed_price_msat)
        except PriceError:
            self._catalogues.pop(seller.key, None)  # it has other prices by now
            raise
        self._take_in(await self._book.find(request.nonce))
        return document

    async def buy_once(
        self,
        seller: Seller,
        request: Request,
        *,
        max_price_msat: Msat | None = None,
        again: bool = False,
    ) -> PurchaseReport:
        """Buy the answer to `request`, unless this seller's answer to the same question holds.

        Args:
            seller: from whom.
            request: the question, with a new nonce.
            max_price_msat: the most to pay; None: what the seller asks, within the budget.
            again: buy also if there is an answer that holds. What was paid for and has not come is
                collected in any case.

        Raises:
            MarketError: there is nothing to buy, it costs more than `max_price_msat`, or it was
                paid for and has not come yet; then it is collected later.
            PaymentError: it was not paid, for instance because of the budget.
            LndError, StoreError: the own node or store failed.
        """
        key = (seller.key, request.scope())
        lock = self._asked.setdefault(key, asyncio.Lock())
        async with lock:
            known = await self._known(*key, again=again)
            if known is not None:
                return _report(known, paid_now=False)
            quote = await self._buyer.quote(seller, request)
            if max_price_msat is not None and quote.price_msat > max_price_msat:
                asked, most = format_msat(quote.price_msat), format_msat(max_price_msat)
                raise PriceError(f"it costs {asked}, and {most} are the most to pay")
            await self._buyer.buy(seller, request, quote=quote)
            purchase = await self._book.find(request.nonce)
            self._take_in(purchase)
            return _report(purchase, paid_now=True)

    async def collect(self, nonce: str | None = None) -> None:
        """Collect what was paid for and has not come: all of it, or one purchase.

        Raises:
            StoreError: the own store failed.
        """
        async with self._collecting:
            waiting = [
                one.nonce for one in await self._book.unfinished() if nonce in (None, one.nonce)
            ]
            await self._buyer.resume(waiting)
            for one in waiting:
                purchase = await self._book.find(one)
                if purchase.state is PurchaseState.DELIVERED:
                    self._take_in(purchase)

    async def keep_collecting(self) -> None:
        """Collect now, and again from time to time; never returns."""
        while True:
            try:
                await self.collect()
            except StoreError as exc:
                _log.warning("purchases_not_resumed", cause=str(exc))
            await asyncio.sleep(COLLECT_AGAIN_SECONDS)

    async def _known(self, seller: NodeKey, scope: str, *, again: bool) -> Purchase | None:
        """An answer that came before and holds, or was paid for and has come now."""
        for purchase in await self._book.of_question(seller, scope):
            if purchase.state in _UNFINISHED:
                found = await self._finish(purchase.nonce)
                if found is not None:
                    return found
            elif not again and _holds(purchase):
                return purchase
        return None

    async def _finish(self, nonce: str) -> Purchase | None:
        """Collect one purchase; None: it was never paid.

        Raises:
            MarketError: it was paid, and there is nothing for it yet, or never will be.
        """
        await self.collect(nonce)
        purchase = await self._book.find(nonce)
        if purchase.state is PurchaseState.DELIVERED:
            return purchase
        if purchase.state is PurchaseState.FAILED and not purchase.preimage:
            return None
        price = format_msat(purchase.price_msat)
        problem = f"{purchase.seller.url} was asked before, for {price}, and has not delivered"
        if purchase.state is PurchaseState.FAILED:
            raise MarketError(f"{problem}: {purchase.reason}; ask again to pay again")
        raise MarketError(f"{problem} yet; that is collected, and not paid again")

    def _take_in(self, purchase: Purchase) -> None:
        self._on_document(open_document(purchase.document), purchase.document)


def _holds(purchase: Purchase) -> bool:
    if purchase.state is not PurchaseState.DELIVERED:
        return False
    return open_document(purchase.document).expires_at > time.time()


def _report(purchase: Purchase, *, paid_now: bool) -> PurchaseReport:
    return PurchaseReport(purchase.nonce, purchase.price_msat, purchase.document, paid_now)


_UNFINISHED = (PurchaseState.CHALLENGED, PurchaseState.PAID)
