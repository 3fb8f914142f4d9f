"""Prices: an actor's decisions count, else what was learned, else what is configured."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lnagents.agent.config import SellSection
from lnagents.agent.selling import Prices
from lnagents.market import Product
from lnagents.market.prices import PriceBook, PriceLearner

Notes = list[tuple[str, str, str, str]]


def _prices(**settings: Any) -> tuple[Prices, Notes]:
    notes: Notes = []
    section = SellSection(
        service_port=1, pricer_port=2, products=("liquidity", "commitment"), **settings
    )
    prices = Prices(section, lambda *note: notes.append(note))
    notes.clear()
    return prices, notes


def _now(prices: Prices) -> tuple[int | None, int | None]:
    return prices.book.price_sat(Product.LIQUIDITY), prices.book.price_sat(Product.COMMITMENT)


def test_what_an_actor_decides_is_the_price_until_it_leaves_it_to_others() -> None:
    prices, notes = _prices(price_sat=5)
    prices.decide({})
    assert (_now(prices), notes) == ((5, 5), [])
    prices.decide({"liquidity": 9})
    prices.decide({"liquidity": 9})
    assert _now(prices) == (9, 5)
    assert notes == [("price liquidity", "set", "5→9 sat", "decided")]
    prices.decide({"commitment": 2})
    assert _now(prices) == (5, 2)


@pytest.mark.parametrize(("wanted", "price"), [(0, 1), (-7, 1), (10**9, 100_000), (7, 7)])
def test_no_decision_leaves_the_bounds(wanted: int, price: int) -> None:
    prices, _ = _prices(price_sat=5)
    prices.decide({"liquidity": wanted})
    assert _now(prices) == (price, 5)
    prices, _ = _prices(price_sat=5, max_price_sat=50)
    prices.decide({"liquidity": wanted})
    assert _now(prices)[0] == min(price, 50)


def test_what_is_not_sold_has_no_price() -> None:
    prices, notes = _prices(price_sat=5)
    prices.decide({"route": 3, "weather": 4})
    assert prices.book.price_sat(Product.ROUTE) is None
    assert [note[:2] for note in notes] == [
        ("price route", "refused"),
        ("price weather", "refused"),
    ]


def test_reloading_changes_what_nobody_decided() -> None:
    prices, _ = _prices(price_sat=5)
    prices.decide({"liquidity": 9})
    prices.reload(SellSection(service_port=1, pricer_port=2, price_sat=6))
    assert _now(prices) == (9, 6)
    prices.decide({})
    assert _now(prices) == (6, 6)


async def test_the_learner_leaves_decided_prices_alone() -> None:
    prices, notes = _prices(price_sat=1, max_price_sat=100, price_period_seconds=0.001)
    prices.decide({"liquidity": 77})
    task = asyncio.create_task(prices.learn())
    while len(notes) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    task.cancel()
    assert prices.book.price_sat(Product.LIQUIDITY) == 77
    assert {note[0] for note in notes[1:]} == {"price commitment"}
    assert {note[3] for note in notes[1:]} == {"learned from what it brought"}


def test_what_others_priced_teaches_nothing() -> None:
    book = PriceBook({Product.LIQUIDITY: 1, Product.ROUTE: 1})
    learner = PriceLearner(book, maximum_sat=100)
    book.set_price(Product.LIQUIDITY, 42)
    for _ in range(20):
        book.sold(Product.LIQUIDITY, 42_000)
        assert set(learner.step(held={Product.LIQUIDITY})) == {Product.ROUTE}
    assert book.price_sat(Product.LIQUIDITY) == 42
    # Left to itself again, it begins where it was: no arm has brought anything.
    assert learner.step()[Product.LIQUIDITY] < 42
