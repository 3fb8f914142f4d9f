from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market.paths import LiquidityRequest, Product, RouteRequest
from lnagents.market.prices import DISCOUNT, PriceBook, PriceLearner
from tests.unit.market.market_fakes import SCID, SELLER_KEY

HINT = LiquidityRequest(scid=SCID, source=SELLER_KEY, amount_msat=1, nonce="00" * 16)
ROUTE = RouteRequest(destination=SELLER_KEY, amount_msat=1, nonce="00" * 16)


def test_prices_are_by_product_and_channel() -> None:
    book = PriceBook({Product.LIQUIDITY: 2, Product.ROUTE: None})
    assert book.products == (Product.LIQUIDITY, Product.ROUTE)
    assert book.price_sat(Product.LIQUIDITY, SCID) == 2
    assert book.price_sat(Product.ROUTE) is None
    assert book.price_sat(Product.COMMITMENT, SCID) is None
    book.set_price(Product.LIQUIDITY, 7, SCID)
    assert book.price_sat(Product.LIQUIDITY, SCID) == 7
    assert book.price_sat(Product.LIQUIDITY, SCID + 1) == 2
    book.set_price(Product.LIQUIDITY, None, SCID)
    assert book.price_sat(Product.LIQUIDITY, SCID) is None
    assert book.products == (Product.LIQUIDITY, Product.ROUTE)


@given(st.integers(-100, 100), st.integers(1, 50))
def test_no_price_is_below_the_minimum(price: int, minimum: int) -> None:
    book = PriceBook({Product.LIQUIDITY: price}, minimum_sat=minimum)
    assert book.price_sat(Product.LIQUIDITY) == max(price, minimum)


def test_nothing_is_given_away() -> None:
    with pytest.raises(ValueError, match="too small"):
        PriceBook({}, minimum_sat=0)


def test_demand_is_told_once() -> None:
    book = PriceBook({Product.LIQUIDITY: 2})
    book.asked(HINT)
    book.asked(HINT)
    book.asked(ROUTE)
    book.sold(Product.LIQUIDITY, 2_000)
    demand = book.take_demand()
    assert (demand[Product.LIQUIDITY].asked, demand[Product.LIQUIDITY].sold) == (2, 1)
    assert demand[Product.LIQUIDITY].revenue_msat == 2_000
    assert demand[Product.ROUTE].asked == 1
    assert book.take_demand() == {}


class Buyers:
    """Each buys if the price is at most what it is worth to it, up to `most_sat`."""

    def __init__(self, most_sat: int, seed: int) -> None:
        self.most_sat = most_sat
        self._random = random.Random(seed)

    def visit(self, book: PriceBook, count: int = 40) -> int:
        price = book.price_sat(Product.LIQUIDITY)
        assert price is not None
        bought = sum(self._random.uniform(0, self.most_sat) >= price for _ in range(count))
        for _ in range(bought):
            book.sold(Product.LIQUIDITY, price * 1_000)
        return bought * price


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", [1, 100])
def test_the_price_that_brings_most_is_found(seed: int, start: int) -> None:
    # Demand falls evenly from 1 to 20 sat, so revenue is greatest at 10 sat: 40 * 0.5 * 10 = 200.
    book = PriceBook({Product.LIQUIDITY: start})
    learner = PriceLearner(book, maximum_sat=100)
    buyers = Buyers(20, seed)
    for _ in range(150):
        buyers.visit(book)
        learner.step()
    late = 0
    for _ in range(100):
        late += buyers.visit(book)
        learner.step()
    assert late / 100 > 0.75 * 200


def test_learning_follows_buyers_that_change() -> None:
    book = PriceBook({Product.LIQUIDITY: 5})
    learner = PriceLearner(book, maximum_sat=100)
    buyers = Buyers(20, 1)
    for _ in range(200):
        buyers.visit(book)
        learner.step()
    buyers.most_sat = 100  # now 50 sat bring most: 40 * 0.5 * 50 = 1,000
    for _ in range(round(3 / (1 - DISCOUNT))):
        buyers.visit(book)
        learner.step()
    late = 0
    for _ in range(100):
        late += buyers.visit(book)
        learner.step()
    assert late / 100 > 0.7 * 1_000


@given(st.integers(1, 20), st.integers(0, 500), st.lists(st.integers(0, 10**6), max_size=60))
def test_learned_prices_stay_within_bounds(low: int, span: int, revenues: list[int]) -> None:
    book = PriceBook({Product.LIQUIDITY: 5, Product.ROUTE: None}, minimum_sat=low)
    learner = PriceLearner(book, maximum_sat=low + span)
    for revenue in revenues:
        book.sold(Product.LIQUIDITY, revenue)
        learner.step()
        for product in book.products:
            price = book.price_sat(product)
            assert price is not None
            assert low <= price <= low + span


def test_only_the_products_that_are_named_are_learned() -> None:
    book = PriceBook({Product.LIQUIDITY: 5, Product.ROUTE: None})
    learner = PriceLearner(book, maximum_sat=50, products=[Product.LIQUIDITY])
    assert set(learner.step()) == {Product.LIQUIDITY}
    assert book.price_sat(Product.ROUTE) is None


def test_a_maximum_below_the_minimum_is_refused() -> None:
    with pytest.raises(ValueError, match="below the least price"):
        PriceLearner(PriceBook({Product.LIQUIDITY: 5}, minimum_sat=5), maximum_sat=4)


def test_the_same_revenues_give_the_same_prices() -> None:
    def run() -> list[int | None]:
        book = PriceBook({Product.LIQUIDITY: 5})
        learner, buyers = PriceLearner(book, maximum_sat=50), Buyers(20, 3)
        prices = []
        for _ in range(50):
            buyers.visit(book)
            learner.step()
            prices.append(book.price_sat(Product.LIQUIDITY))
        return prices

    assert run() == run()
