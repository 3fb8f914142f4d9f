"""What an agent sells, and at what prices: its seller, its book of prices, and their learner."""

from __future__ import annotations

import asyncio

import structlog

from lnagents.agent.config import SellSection
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
from lnagents.model.units import NodeKey

_log = structlog.get_logger("lnagents.agent.selling")


def make_seller(
    sell: SellSection,
    client: LndClient,
    key: NodeKey,
    sales: SalesBook,
    prices: PriceBook,
    promises: FeePromises,
    passes: PassDesk | None,
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
    )


class Prices:
    """The prices of an agent: as configured, or learned."""

    def __init__(self, sell: SellSection) -> None:
        self.book = PriceBook({Product(name): sell.price_sat for name in sell.products})
        self._period_seconds = sell.price_period_seconds
        self._learner = (
            None
            if sell.max_price_sat is None
            else PriceLearner(self.book, maximum_sat=sell.max_price_sat)
        )

    def reload(self, sell: SellSection) -> None:
        """Take over a changed price; learned prices stay."""
        if self._learner is None:
            for product in self.book.products:
                self.book.set_price(product, sell.price_sat)

    async def learn(self) -> None:
        """Judge and set prices, period by period; returns at once if they are not learned."""
        while self._learner is not None:
            await asyncio.sleep(self._period_seconds)
            prices = self._learner.step()
            _log.info("prices", **{product.value: price for product, price in prices.items()})
