"""What a price does to demand: learned from sales whose law the test knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from lnagents.learn.demand import CENTRES, FIRST, SLOPE, DemandLearner, PriceColumns

FEATURES = ("stock", "open", "price", "found", "sold")
ACTIONS = ("other", "price")
SPAN = math.log(100.0)
COLUMNS = PriceColumns(
    price="price",
    found="found",
    stock="stock",
    open="open",
    sold="sold",
    action="price",
    nats_per_price=math.log1p(10_000),
    nats_per_sold=math.log1p(100),
    nats_per_action=SPAN,
)

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def learner(seed: int = 0, *, untaught: bool = False) -> DemandLearner:
    return DemandLearner(COLUMNS, FEATURES, ACTIONS, seed, untaught=untaught)


def seen(price: Floats, found: Floats, sold: Floats, stock: float | Floats = 0.5) -> Floats:
    """Rows as a node would be shown them."""
    rows = np.zeros((len(price), len(FEATURES)), np.float32)
    rows[:, 0], rows[:, 1] = stock, 1.0
    rows[:, 2] = np.log1p(price) / COLUMNS.nats_per_price
    rows[:, 3] = np.log1p(found) / COLUMNS.nats_per_price
    rows[:, 4] = np.log1p(sold) / COLUMNS.nats_per_sold
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


@pytest.mark.parametrize("best", [40.0, 1_500.0])
def test_prices_find_what_earns_most(best: float) -> None:
    rounds, late = 200, slice(100, None)
    taught = np.mean(Market(best, 3).live(learner(), rounds)[late])
    untaught = np.mean(Market(best, 3).live(learner(untaught=True), rounds)[late])
    most = 6.0 * float(Market(best, 3).income(np.array([best], np.float32))[0])
    assert untaught < 0.7 * most
    assert taught > 0.8 * most


@pytest.mark.parametrize("best", [40.0, 1_500.0])
def test_what_is_believed_of_the_best_level_is_what_sales_say(best: float) -> None:
    agent, market = learner(), Market(best, 5)
    before = agent.beliefs()
    assert before @ CENTRES == pytest.approx(0.0, abs=0.1)
    market.live(agent, 200)
    found = agent.beliefs()
    away = float(found @ CENTRES) - (math.log(best) - float(np.log1p(market.found).mean()))
    spread = math.sqrt(found @ (CENTRES - found @ CENTRES) ** 2)
    assert abs(away) < 0.5
    assert spread < 0.5


def test_at_first_prices_are_the_actors() -> None:
    rows = seen(*(np.full(6, 100.0, np.float32),) * 2, np.full(6, 3.0, np.float32))
    agent, levels = learner(), np.full((6, 2), 0.1, np.float32)
    for _ in range(FIRST):
        assert agent.adjust(rows, levels) == pytest.approx(levels)
    adjusted = agent.adjust(rows, levels)
    assert 0.5 < agent.trust < 1.0
    assert (adjusted[:, 0] == levels[:, 0]).all()
    assert (adjusted[:, 1] != levels[:, 1]).all()


def test_without_sales_the_actor_is_left_alone() -> None:
    rows = seen(*(np.full(6, 100.0, np.float32),) * 2, np.zeros(6, np.float32))
    agent, levels = learner(), np.full((6, 2), 0.1, np.float32)
    for _ in range(4 * FIRST):
        assert agent.adjust(rows, levels) == pytest.approx(levels)


def test_what_is_short_is_dear() -> None:
    stock = np.array([0.0, 0.5, 1.0], np.float32)
    price = np.full(3, 100.0, np.float32)
    rows = seen(price, price, np.full(3, 1e4, np.float32), stock)
    agent = learner(untaught=True)
    for _ in range(FIRST + 2):
        wanted = agent.adjust(rows, np.zeros((3, 2), np.float32))[:, 1] * SPAN
    assert wanted == pytest.approx([SLOPE / 2.0, 0.0, -SLOPE / 2.0], abs=0.01)


def test_the_past_is_forgotten() -> None:
    agent = learner()
    Market(40.0, 5).live(agent, 100)
    low = agent.beliefs() @ CENTRES
    Market(1_500.0, 5).live(agent, 250)
    assert agent.beliefs() @ CENTRES > low + 1.0


def test_what_is_known_outlives_rows_that_come_and_go() -> None:
    agent, market = learner(), Market(1_500.0, 5)
    market.live(agent, 150)
    found = agent.beliefs()
    price = np.full(7, 300.0, np.float32)
    rows = seen(price, price, np.zeros(7, np.float32))
    agent.adjust(rows, np.zeros((7, 2), np.float32))
    assert agent.beliefs() == pytest.approx(found, abs=1e-3)


def test_rows_that_could_not_be_used_are_not_learned_from() -> None:
    agent = learner()
    price = np.full(4, 100.0, np.float32)
    rows = seen(price, price, np.full(4, 5.0, np.float32))
    rows[:, 1] = 0.0
    before = agent.beliefs()
    for _ in range(3 * FIRST):
        agent.adjust(rows, np.zeros((4, 2), np.float32))
    assert agent.trust == 0.0
    assert agent.beliefs() == pytest.approx(before)


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
