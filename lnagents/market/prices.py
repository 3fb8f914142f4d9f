"""What a seller's products cost now: one book of prices, which an actor sets and a learner may.

The learner takes prices as the arms of a bandit: a geometric grid between bounds, tried by
discounted UCB (Garivier and Moulines, "On Upper-Confidence Bound Policies for Non-Stationary
Bandits", 2008), with the revenue of a period as what an arm brings. It forgets, because demand
changes when others learn, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf, log, sqrt

from lnagents.market.paths import Product, Request
from lnagents.model.units import Msat, ShortChannelId

PRICES = 9
"""Arms of the bandit, for each product."""
DISCOUNT = 0.98
"""How much of what was learned still counts a period later."""
EXPLORATION = 0.3
"""Weight of what is not known, in shares of the best revenue that was seen."""


@dataclass(slots=True)
class Demand:
    """What happened to one product since it was last looked at."""

    asked: int = 0
    """Prices told to buyers that had none before: the catalogue does not count."""
    sold: int = 0
    revenue_msat: Msat = 0


class PriceBook:
    """The prices of one seller, in satoshi; None refuses to sell."""

    def __init__(self, prices: Mapping[Product, int | None], *, minimum_sat: int = 1) -> None:
        """`minimum_sat` bounds all prices from below. Never 0: Aperture gives that away.

        Raises:
            ValueError: the minimum is below 1.
        """
        if minimum_sat < 1:
            raise ValueError(f"a least price of {minimum_sat} sat is too small")
        self.minimum_sat = minimum_sat
        self._prices: dict[tuple[Product, ShortChannelId | None], int | None] = {
            (product, None): price for product, price in prices.items()
        }
        self._demand: dict[Product, Demand] = {}

    @property
    def products(self) -> tuple[Product, ...]:
        """What is sold at all."""
        return tuple(product for product, scid in self._prices if scid is None)

    def price_sat(self, product: Product, scid: ShortChannelId | None = None) -> int | None:
        """What `product` about channel `scid` costs now; None: it is not sold."""
        price = self._prices.get((product, scid), self._prices.get((product, None)))
        return None if price is None else max(price, self.minimum_sat)

    def set_price(
        self, product: Product, price_sat: int | None, scid: ShortChannelId | None = None
    ) -> None:
        """Set the price of `product`, for channel `scid` or for all that have none of their own."""
        self._prices[product, scid] = price_sat

    def asked(self, request: Request) -> None:
        """Somebody was told the price of `request`."""
        self._demand.setdefault(request.product, Demand()).asked += 1

    def sold(self, product: Product, price_msat: Msat) -> None:
        """Something was sold."""
        demand = self._demand.setdefault(product, Demand())
        demand.sold += 1
        demand.revenue_msat += price_msat

    def take_demand(self) -> dict[Product, Demand]:
        """Demand since the last call."""
        demand, self._demand = self._demand, {}
        return demand


class PriceLearner:
    """Learns the price of each product from what it brings; call `step` once a period."""

    def __init__(
        self, book: PriceBook, *, maximum_sat: int, products: Iterable[Product] | None = None
    ) -> None:
        """Prices stay between the book's minimum and `maximum_sat`.

        Raises:
            ValueError: the maximum is below the minimum.
        """
        if maximum_sat < book.minimum_sat:
            raise ValueError(f"{maximum_sat} sat are below the least price of {book.minimum_sat}")
        self._book = book
        chosen = book.products if products is None else products
        self._bandits = {
            product: _Bandit(_grid(book.minimum_sat, maximum_sat), book.price_sat(product))
            for product in chosen
        }
        self._apply()

    def step(self, held: Collection[Product] = ()) -> dict[Product, int]:
        """Judge the prices of the period that ends, and set those of the next.

        What somebody else has priced, `held`, is left alone and teaches nothing.
        """
        demand = self._book.take_demand()
        for product, bandit in self._bandits.items():
            if product not in held:
                bandit.learn(demand.get(product, Demand()).revenue_msat)
        return self._apply(held)

    def _apply(self, held: Collection[Product] = ()) -> dict[Product, int]:
        prices = {
            product: bandit.price
            for product, bandit in self._bandits.items()
            if product not in held
        }
        for product, price in prices.items():
            self._book.set_price(product, price)
        return prices


class _Bandit:
    """Discounted UCB over prices."""

    def __init__(self, prices: list[int], start: int | None) -> None:
        self._prices = prices
        self._counts = [0.0] * len(prices)
        self._revenues = [0.0] * len(prices)
        self._best_seen = 1.0
        first = prices[0] if start is None else start
        self._arm = min(range(len(prices)), key=lambda arm: abs(prices[arm] - first))

    @property
    def price(self) -> int:
        return self._prices[self._arm]

    def learn(self, revenue_msat: Msat) -> None:
        self._best_seen = max(self._best_seen * DISCOUNT, float(revenue_msat), 1.0)
        for arm in range(len(self._prices)):
            self._counts[arm] *= DISCOUNT
            self._revenues[arm] *= DISCOUNT
        self._counts[self._arm] += 1.0
        self._revenues[self._arm] += revenue_msat
        total = sum(self._counts)
        # The nearest of several equals, so that prices jump no further than they have to.
        self._arm = max(
            range(len(self._prices)),
            key=lambda arm: (self._promise(arm, total), -abs(arm - self._arm)),
        )

    def _promise(self, arm: int, total: float) -> float:
        count = self._counts[arm]
        if count < 1e-3:
            return inf
        bonus = EXPLORATION * self._best_seen * sqrt(log(max(total, 1.0) + 1.0) / count)
        return self._revenues[arm] / count + bonus


def _grid(low: int, high: int) -> list[int]:
    """Whole satoshi, about evenly spaced in their logarithm."""
    steps = PRICES - 1
    return sorted({round(low * (high / low) ** (index / steps)) for index in range(PRICES)})
