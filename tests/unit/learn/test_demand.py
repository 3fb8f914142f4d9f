"""What a price does to demand: learned from sales whose law the test knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from lnagents.learn.demand import DEVIATION, FIRST, HOLD, DemandLearner, PriceColumns

FEATURES = ("stock", "open", "price", "found", "others_known", "others", "sold")
ACTIONS = ("other", "price")
SPAN = math.log(100.0)
COLUMNS = PriceColumns(
    price="price",
    found="found",
    others="others",
    others_known="others_known",
    stock="stock",
    open="open",
    sold="sold",
    action="price",
    nats_per_price=math.log1p(10_000),
    nats_per_sold=math.log1p(100),
    nats_per_action=SPAN,
)

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def learner(seed: int = 0) -> DemandLearner:
    return DemandLearner(COLUMNS, FEATURES, ACTIONS, seed)


def seen(price: Floats, found: Floats, sold: Floats, stock: float | Floats = 0.5) -> Floats:
    """Rows as a node would be shown them, with nobody else to buy from."""
    rows = np.zeros((len(price), len(FEATURES)), np.float32)
    rows[:, 0], rows[:, 1] = stock, 1.0
    rows[:, 2] = np.log1p(price) / COLUMNS.nats_per_price
    rows[:, 3] = np.log1p(found) / COLUMNS.nats_per_price
    rows[:, 6] = np.log1p(sold) / COLUMNS.nats_per_sold
    return rows


class Market:
    """Six rows that were found at prices far apart; the best price is known, and the same."""

    def __init__(self, best: float, seed: int) -> None:
        self.found = np.array([30, 60, 120, 500, 1_000, 2_000], np.float32)
        self.price = self.found.copy()
        self._best = math.log(best)
        self._rng = np.random.default_rng(seed)

    def income(self, price: Floats) -> Floats:
        """Expected, of each row: highest at the best price."""
        away = np.log(price) - self._best
        income: Floats = price * np.exp(-away - away**2 / 2.0) / np.float32(math.exp(self._best))
        return income

    def live(self, agent: DemandLearner, rounds: int) -> list[float]:
        """Expected incomes, round by round; the actor wants the prices as they were found."""
        incomes, sold = [], np.zeros(6, np.float32)
        for _ in range(rounds):
            wanted = agent.adjust(seen(self.price, self.found, sold), np.zeros((6, 2), np.float32))
            self.price = self.found * np.exp(SPAN * wanted[:, 1])
            incomes.append(float(self.income(self.price).sum()))
            expected = self.income(self.price) / self.price * math.exp(self._best)
            sold = self._rng.poisson(expected).astype(np.float32)
            agent.reward(incomes[-1])
        return incomes


@pytest.mark.parametrize("best", [100.0, 1_000.0])
def test_prices_find_what_earns_most(best: float) -> None:
    market = Market(best, 3)
    found = float(market.income(market.found).sum())
    late = np.mean(market.live(learner(), 200)[100:])
    most = 6.0 * float(market.income(np.array([best], np.float32))[0])
    assert found < 0.6 * most
    assert late > 0.5 * (found + most)


def test_at_first_prices_are_only_tried_around_the_actors() -> None:
    rows = seen(*(np.full(6, 100.0, np.float32),) * 2, np.zeros(6, np.float32))
    agent, levels = learner(), np.full((6, 2), 0.1, np.float32)
    tried = []
    for _ in range(HOLD + 1):
        adjusted = agent.adjust(rows, levels)
        assert (adjusted[:, 0] == levels[:, 0]).all()
        tried.append((adjusted - levels)[:, 1] * SPAN)
    assert np.abs(tried[0]) == pytest.approx(np.full(6, DEVIATION), abs=1e-5)
    assert tried[0].sum() == pytest.approx(0.0, abs=1e-5)
    assert all((one == tried[0]).all() for one in tried[:HOLD])
    assert (tried[HOLD] != tried[0]).any()
    assert agent.trust == 0.0


def test_what_is_short_is_dear() -> None:
    best = learner().best(np.array([-1.0, 0.0, 1.0]), np.zeros(3))
    assert best[0] < best[1] < best[2]


def test_half_of_what_others_charge_counts() -> None:
    best = learner().best(np.zeros(2), np.array([0.0, 2.0]))
    assert best[1] - best[0] == pytest.approx(1.0)


def test_rows_that_came_or_could_not_be_used_are_not_learned_from() -> None:
    agent = learner()
    price = np.full(4, 100.0, np.float32)
    rows = seen(price, price, np.zeros(4, np.float32))
    for number in range(3 * FIRST):
        some = rows[: 3 + number % 2]
        agent.adjust(some, np.zeros((len(some), 2), np.float32))
        assert agent.reward(1.0) is None
    closed = rows.copy()
    closed[:, 1] = 0.0
    for _ in range(3 * FIRST):
        agent.adjust(closed, np.zeros((4, 2), np.float32))
        assert agent.reward(1.0) is None


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(0, 5), rounds=st.integers(1, 30), seed=st.integers(0, 1_000))
def test_actions_stay_in_bounds_whatever_is_sold(channels: int, rounds: int, seed: int) -> None:
    rng, agent = np.random.default_rng(seed), learner(seed)
    for _ in range(rounds):
        price, found = (rng.integers(0, 5_000, channels).astype(np.float32) for _ in range(2))
        sold = rng.integers(0, 1_000, channels).astype(np.float32)
        rows = seen(price, found, sold, rng.random(channels, np.float32))
        levels = rng.uniform(-1.0, 1.0, (channels, 2)).astype(np.float32)
        adjusted = agent.adjust(rows, levels)
        assert np.isfinite(adjusted).all()
        assert (np.abs(adjusted) <= 1.0).all()
        agent.reward(float(sold.sum()))


def test_it_goes_on_bit_for_bit() -> None:
    one, market = learner(1), Market(300.0, 1)
    market.live(one, 31)
    again = learner(2)
    again.restore(one.state())
    twins = (Market(300.0, 5), Market(300.0, 5))
    assert twins[0].live(one, 20) == twins[1].live(again, 20)


def test_names_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="sold"):
        DemandLearner(COLUMNS, FEATURES[:-1], ACTIONS, 0)
