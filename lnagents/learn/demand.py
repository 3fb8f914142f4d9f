"""At which level prices earn most, learned from what was sold: how a trained actor is set right.

An agent sees few sales a round, so one number is learned from them, the same for all of its rows:
the log price c around which income is highest. What is short costs more: a row's price is

    log price = level + SLOPE (1/2 - stock)

and a row whose level is x brings, in the mean of a round,

    income(x) = A / (1 + ((x - c) / WIDTH)²)

with an A of its own for every row. WIDTH is what one router among trained ones met on networks of
the twin, at six levels relative to the best of them, before and after a drain and a new competitor
alike. Where the best lies differs from network to network, and nothing says it but sales. Their
number, which varies far less than what they bring, is Poisson's with mean income / price; with a
Gamma prior on each A what sales say of c is a closed form,

    log p(c | sales) = log p(c) + Σ n log g(x - c) - Σ_rows (a + Σ n) log(b + Σ g(x - c) / price)

with g = income / A; sums are over rounds, and the past is forgotten. At first c is where the
prices lie that were found. Levels are drawn from what is believed of c (Thompson sampling), so that
what is uncertain gets tried. Prices go from the actor's to these as far as there are sales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lnagents.learn.experience import FloatArray, State, UpdateReport

Floats = NDArray[np.float64]

SLOPE = 4.0
"""By how many nats an empty row is dearer than a full one."""
WIDTH = 1.23
"""How many nats away from the best level income is half of the highest."""
CENTRES: Floats = np.arange(-30, 41) / 10.0
"""Where the best level may lie, in nats around the level that was found."""
DEVIATION = 1.2
"""Of the prior of the best level, in nats."""
SHAPE = 0.5
"""Of the Gamma prior of A; its mean is that of all rows together."""

HOLD = 3
"""Rounds for which a level is tried: prices need some to get there."""
FORGET = 0.99
"""Weight of what was seen after a round more: half after 69 rounds."""
TRUST = 3.0
"""Sales after which prices are half way from the actor's to the level."""
FIRST = 3
"""Rounds in which the actor's prices are left as they are."""


@dataclass(frozen=True, slots=True)
class PriceColumns:
    """Where an observation has what the learner needs, and what its numbers mean.

    Prices are seen as log(1 + price) / `nats_per_price`, sales as log(1 + sales) / `nats_per_sold`.
    """

    price: str
    """Own price."""
    found: str
    """Own price when the row was taken over; actions are levels around it."""
    stock: str
    """How much there is to sell, 0 (nothing) to 1."""
    open: str
    """1 if the row can be used, else 0."""
    sold: str
    """Sales since the round before."""
    action: str
    """The action that sets the price."""
    nats_per_price: float
    nats_per_sold: float
    nats_per_action: float
    """How far an action of 1 leads from the price that was found."""


class _Sales:
    """What sales say of the best level; sums over rounds in which the past is forgotten."""

    def __init__(self, rows: int) -> None:
        self.gone = np.zeros(len(CENTRES))
        """Log likelihood by rows that are no more."""
        self.chosen = np.zeros(len(CENTRES))
        """Σ n log g."""
        self.sold = np.zeros(rows)
        self.offered = np.zeros((rows, len(CENTRES)))
        """[rows, centres], Σ g / price."""

    def fade(self) -> None:
        """A round more has passed."""
        for one in (self.gone, self.chosen, self.sold, self.offered):
            one *= FORGET

    def take_in(self, real: NDArray[np.bool_], price: Floats, level: Floats, sold: Floats) -> None:
        """What rows have sold; arrays are [rows], prices and levels around what was found."""
        income = 1.0 / (1.0 + ((level[:, None] - CENTRES) / WIDTH) ** 2)
        self.chosen += np.where(real, sold, 0.0) @ np.log(income)
        self.sold += np.where(real, sold, 0.0)
        self.offered += np.where(real[:, None], income * np.exp(-price)[:, None], 0.0)

    def with_rows(self, rows: int) -> _Sales:
        """Other rows have come, of which nothing is known yet."""
        other = _Sales(rows)
        other.gone = self.likelihood()
        return other

    def likelihood(self) -> Floats:
        """[centres], logarithms up to a constant."""
        mean = float(self.offered.sum(axis=0).mean()) / max(1.0, float(self.sold.sum()))
        if mean <= 0.0:
            return self.gone + self.chosen
        paid = np.log(SHAPE * mean + self.offered)
        found: Floats = self.gone + self.chosen - (SHAPE + self.sold) @ paid
        return found


class DemandLearner:
    """Sets an actor's prices right, row by row; one object per agent.

    The same seed and the same inputs give the same outputs bit for bit, also across `state` and
    `restore`.
    """

    def __init__(
        self,
        columns: PriceColumns,
        features: tuple[str, ...],
        actions: tuple[str, ...],
        seed: int,
        *,
        untaught: bool = False,
    ) -> None:
        """Knows nothing but where prices are found.

        Args:
            columns: names among the others.
            features: columns of a row.
            actions: what is decided for every row.
            seed: of what is tried.
            untaught: keep to the level that was found, whatever is sold: what the rest is worth.

        Raises:
            ValueError: one of the names is missing.
        """
        self._columns = columns
        wanted = (columns.price, columns.found, columns.stock, columns.open, columns.sold)
        missing = [name for name in wanted if name not in features]
        if missing or columns.action not in actions:
            raise ValueError(f"{(*missing, columns.action)[0]!r} is no column")
        self._place = {name: features.index(name) for name in wanted}
        self._action = actions.index(columns.action)
        self._untaught = untaught
        self._generator = torch.Generator().manual_seed(seed)
        self._sales = _Sales(0)
        self._seen = 0.0
        """Sales, those long past forgotten."""
        self._open: Floats | None = None
        """[rows, 2], what the last decision was made on: how short, and whether open."""
        self._reference: float | None = None
        """Mean log price that was found."""
        self._level = 0.0
        self._rounds = 0
        self._draws = 0
        self._rewards: list[float] = []

    def adjust(self, rows: FloatArray, levels: FloatArray) -> FloatArray:
        """Take in what the last prices have sold, and set the actor's new ones right.

        Args:
            rows: [rows, features], what is seen now.
            levels: [rows, actions], what the actor wants, each from -1 to 1.

        Returns:
            `levels` with other prices.
        """
        columns, seen = self._columns, rows.astype(np.float64)
        found = columns.nats_per_price * seen[:, self._place[columns.found]]
        if self._reference is None and len(found):
            self._reference = float(found.mean())
        reference = self._reference or 0.0
        short = 0.5 - seen[:, self._place[columns.stock]]
        usable = seen[:, self._place[columns.open]]
        self._take_in(seen, usable, reference)
        if self._rounds % HOLD == 0:
            self._level = self._draw()
        self._rounds += 1
        self._open = np.stack((short, usable), 1)
        prices = found - reference + columns.nats_per_action * levels[:, self._action]
        moves = self.trust * (self._level + SLOPE * short - prices)
        adjusted = levels.copy()
        adjusted[:, self._action] = np.clip(
            levels[:, self._action] + moves / columns.nats_per_action, -1.0, 1.0
        )
        return adjusted

    @property
    def trust(self) -> float:
        """How far prices are moved from the actor's to the level, 0 to 1."""
        return self._seen / (self._seen + TRUST) if self._rounds > FIRST else 0.0

    def beliefs(self) -> Floats:
        """[centres], how probable it is that the best level lies there."""
        logs = -0.5 * (CENTRES / DEVIATION) ** 2 + self._sales.likelihood()
        odds = np.exp(logs - logs.max())
        believed: Floats = odds / odds.sum()
        return believed

    def reward(self, value: float) -> UpdateReport | None:
        """Tell now and then what is believed; `value` is what the round brought, for that alone."""
        self._rewards.append(value)
        if self._untaught or len(self._rewards) < HOLD:
            return None
        rewards, self._rewards = self._rewards, []
        self._draws += 1
        odds = np.maximum(self.beliefs(), 1e-12)
        return UpdateReport(
            part="fees",
            number=self._draws,
            samples=round(self._seen),
            epochs=1,
            mean_reward=math.fsum(rewards) / len(rewards),
            divergence=float(odds @ (np.log(odds) + 0.5 * (CENTRES / DEVIATION) ** 2)),
            entropy=float(-odds @ np.log(odds)),
            value_loss=0.0,
            gradient_norm=0.0,
        )

    def _draw(self) -> float:
        """A level, as often as it is believed to be the best."""
        if self._untaught:
            return 0.0
        lot = float(torch.rand((), generator=self._generator, dtype=torch.float64))
        place = int(np.searchsorted(np.cumsum(self.beliefs()), lot))
        return float(CENTRES[min(place, len(CENTRES) - 1)])

    def _take_in(self, seen: Floats, usable: Floats, reference: float) -> None:
        """What was sold since the last decision, of rows that were usable all the time."""
        before, self._open = self._open, None
        if len(self._sales.sold) != len(seen):
            self._sales = self._sales.with_rows(len(seen))
        if before is None or len(before) != len(seen):
            return
        columns = self._columns
        self._sales.fade()
        self._seen *= FORGET
        real = (before[:, 1] > 0.0) & (usable > 0.0)
        price = columns.nats_per_price * seen[:, self._place[columns.price]] - reference
        sold = np.expm1(columns.nats_per_sold * seen[:, self._place[columns.sold]])
        self._sales.take_in(real, price, price - SLOPE * before[:, 0], sold)
        self._seen += float(sold[real].sum())

    def state(self) -> State:
        """Everything that the next outputs depend on."""
        sales = (self._sales.gone, self._sales.chosen, self._sales.sold, self._sales.offered)
        return {
            "sales": [torch.from_numpy(one.copy()) for one in sales],
            "seen": self._seen,
            "open": None if self._open is None else torch.from_numpy(self._open.copy()),
            "reference": self._reference,
            "level": self._level,
            "rounds": self._rounds,
            "draws": self._draws,
            "rewards": list(self._rewards),
            "generator": self._generator.get_state(),
        }

    def restore(self, state: State) -> None:
        """Continue from `state`."""
        gone, chosen, sold, offered = (one.numpy().copy() for one in state["sales"])
        self._sales = _Sales(len(sold))
        self._sales.gone, self._sales.chosen = gone, chosen
        self._sales.sold, self._sales.offered = sold, offered
        self._seen = float(state["seen"])
        self._open = None if state["open"] is None else state["open"].numpy().copy()
        self._reference = state["reference"]
        self._level = float(state["level"])
        self._rounds, self._draws = int(state["rounds"]), int(state["draws"])
        self._rewards = [float(one) for one in state["rewards"]]
        self._generator.set_state(state["generator"])
