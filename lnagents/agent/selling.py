"""What an agent sells, and at what prices: its seller, its book of prices, and their learner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from lnagents.agent.config import MAX_PRICE_SAT, SellSection
from lnagents.agent.passes import PassDesk
from lnagents.agent.promises import FeePromises
from lnagents.agent.trade import SalesBook
from lnagents.lnd import LndClient
from lnagents.market import (
    DocumentSeller,
    PriceBook,
    PriceLearner,
    Product,
    SellerSettings,
    standard_issuers,
)
from lnagents.market.forwarding import ForwardDesk
from lnagents.model.units import NodeKey


def make_seller(
    sell: SellSection,
    client: LndClient,
    key: NodeKey,
    sales: SalesBook,
    prices: PriceBook,
    promises: FeePromises,
    passes: PassDesk | None,
    forwards: ForwardDesk | None = None,
) -> DocumentSeller:
    """The seller that the configuration asks for."""
    settings = SellerSettings(
        bands=sell.bands,
        tell_bands=sell.tell_bands,
        max_commitment_seconds=sell.max_commitment_seconds,
    )
    issuers = standard_issuers(key, settings, router=client, keeper=promises, passes=passes)
    return DocumentSeller(
        client,
        key,
        sales,
        prices,
        [issuer for issuer in issuers if issuer.product in prices.products],
        settings,
        forwards=forwards,
    )


class Prices:
    """The prices of an agent: what its actor decides, else as learned or configured."""

    def __init__(self, sell: SellSection, record: Callable[[str, str, str, str], None]) -> None:
        """`record` is told subject, verdict (`set`, `refused`), the change, and why."""
        self.book = PriceBook({Product(name): sell.price_sat for name in sell.products})
        self._record = record
        self._configured_sat = sell.price_sat
        self._highest_sat = sell.max_price_sat or MAX_PRICE_SAT
        self._period_seconds = sell.price_period_seconds
        self._decided: set[Product] = set()
        """What the actor has priced; the learner leaves it alone."""
        self._learner = (
            None
            if sell.max_price_sat is None
            else PriceLearner(self.book, maximum_sat=sell.max_price_sat)
        )
        for product in self.book.products:
            self._note(product, None, self.book.price_sat(product), "at the start")

    def reload(self, sell: SellSection) -> None:
        """Take over a changed price; learned and decided prices stay."""
        self._configured_sat = sell.price_sat
        if self._learner is None:
            for product in self.book.products:
                if product not in self._decided:
                    self.book.set_price(product, sell.price_sat)

    def decide(self, prices_sat: Mapping[str, int]) -> None:
        """Take over what an actor decided (`NodeDecision.prices_sat`), within bounds."""
        known = {product.value: product for product in self.book.products}
        for name in sorted(set(prices_sat) - set(known)):
            self._record(f"price {name}", "refused", f"{prices_sat[name]} sat", "it is not sold")
        decided = {known[name]: price for name, price in prices_sat.items() if name in known}
        for product in self._decided.difference(decided):
            # A learner sets its own price when its period ends.
            if self._learner is None:
                self._set(product, self._configured_sat, "as configured")
        self._decided = set(decided)
        for product, wanted in decided.items():
            price = min(max(wanted, self.book.minimum_sat), self._highest_sat)
            self._set(product, price, "decided" if price == wanted else "decided, within bounds")

    async def learn(self) -> None:
        """Judge and set prices, period by period; returns at once if they are not learned."""
        while self._learner is not None:
            await asyncio.sleep(self._period_seconds)
            before = {product: self.book.price_sat(product) for product in self.book.products}
            prices = self._learner.step(self._decided)
            for product, price in prices.items():
                self._note(product, before[product], price, "learned from what it brought")

    def _set(self, product: Product, price_sat: int, reason: str) -> None:
        before = self.book.price_sat(product)
        self.book.set_price(product, price_sat)
        self._note(product, before, price_sat, reason)

    def _note(self, product: Product, before: int | None, after: int | None, reason: str) -> None:
        if before != after:
            change = f"{'' if before is None else before}→{after} sat"
            self._record(f"price {product.value}", "set", change, reason)
