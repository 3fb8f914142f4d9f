"""What a price does to demand, learned from what was sold: how a trained actor is set right.

An agent's rows differ in price, because of what they were found with and of what the actor wants.
So what is sold at which price says what prices do, long before a gradient of the income would: how
much a sale is worth varies far more than how many there are. The model is a Poisson regression of
the number of sales per row and round, with a prior in its coefficients and the past forgotten,

    log E[sales] = a + b s + c s² + d p + e (p - k) + f s p - g p² / 2 - h (p - k)² / 2

with p the log price, k that of others, both around the level that was found, and s how short stock
is, from -1 (full) to 1 (empty). Income is price times sales, so the best log price is where the
elasticity of sales is -1, which is a linear equation:

    p* = (1 + d + e + f s + h k) / (g + h)

The prior says that prices as they were found are right on average, that half of what others charge
counts, and that what is short should cost more. Prices move from the actor's to p* as far as there
are observations to trust; some are tried a little higher and others a little lower, in turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lnagents.learn.experience import FloatArray, State, UpdateReport

Floats = NDArray[np.float64]

LEVEL, SHORT, SHORT_SQUARED, PRICE, RELATIVE, SHORT_PRICE, CURVED, RELATIVE_CURVED = range(8)
"""The coefficients a to h."""

PRIOR: Floats = np.array([0.0, 0.0, 0.0, -0.5, -0.5, 1.0, 0.3, 0.3])
PRECISION: Floats = np.array([0.01, 3.0, 3.0, 10.0, 10.0, 10.0, 10.0, 10.0])
"""Of the prior, in units of expected sales times squared regressors."""

LEAST_CURVATURE = 0.1
"""Of g and h: without curvature there would be no best price."""

DEVIATION = 0.3
"""How much higher or lower prices are tried, in nats."""
HOLD = 4
"""Rounds for which they are: other nodes and the stock need time."""
FORGET = 0.985
"""Weight of an observation after a round more: half after 46 rounds."""
WINDOW = 250
"""Rounds that are kept."""
TRUST = 150.0
"""Observations after which prices are half way from the actor's to the best ones."""
FIRST, EVERY = 8, 2
"""Rounds before the first fit, and between fits."""
NEWTON_STEPS = 4
MOST = 3.0
"""Furthest from the actor's price, in nats."""


@dataclass(frozen=True, slots=True)
class PriceColumns:
    """Where an observation has what the learner needs, and what its numbers mean.

    Prices are seen as log(1 + price) / `nats_per_price`, sales as log(1 + sales) / `nats_per_sold`.
    """

    price: str
    """Own price."""
    found: str
    """Own price when the row was taken over; actions are levels around it."""
    others: str
    """What others charge for the same."""
    others_known: str
    """1 if anyone does, else 0."""
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


@dataclass(slots=True)
class _Batch:
    """One round's observations."""

    regressors: Floats
    """[rows, coefficients]."""
    sold: Floats
    """[rows]."""


class DemandLearner:
    """Sets an actor's prices right, row by row; one object per agent.

    The same seed and the same inputs give the same outputs bit for bit, also across `state` and
    `restore`.
    """

    def __init__(
        self, columns: PriceColumns, features: tuple[str, ...], actions: tuple[str, ...], seed: int
    ) -> None:
        """Knows the prior.

        Args:
            columns: names among the others.
            features: columns of a row.
            actions: what is decided for every row.
            seed: of what is tried.

        Raises:
            ValueError: one of the names is missing.
        """
        self._columns = columns
        wanted = (
            columns.price, columns.found, columns.others, columns.others_known,
            columns.stock, columns.open, columns.sold,
        )  # fmt: skip
        missing = [name for name in wanted if name not in features]
        if missing or columns.action not in actions:
            raise ValueError(f"{(*missing, columns.action)[0]!r} is no column")
        self._place = {name: features.index(name) for name in wanted}
        self._action = actions.index(columns.action)
        self._generator = torch.Generator().manual_seed(seed)
        self._coefficients = PRIOR.copy()
        self._batches: list[_Batch] = []
        self._open: Floats | None = None
        """[rows, 3], what the last decision was made on: short, others' price, whether open."""
        self._tried = np.zeros(0)
        self._reference: float | None = None
        """Log price that all others are told around."""
        self._rounds = 0
        self._fits = 0
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
        others = columns.nats_per_price * seen[:, self._place[columns.others]] - reference
        others = np.where(seen[:, self._place[columns.others_known]] > 0.0, others, 0.0)
        short = 1.0 - 2.0 * seen[:, self._place[columns.stock]]
        usable = seen[:, self._place[columns.open]]
        self._take_in(seen, usable, reference)
        if self._rounds % HOLD == 0 or len(self._tried) != len(rows):
            order = torch.randperm(len(rows), generator=self._generator).numpy()
            self._tried = DEVIATION * np.where(order % 2 == 0, 1.0, -1.0)
        self._rounds += 1
        self._open = np.stack((short, others, usable), 1)
        prices = found - reference + columns.nats_per_action * levels[:, self._action]
        moves = self.trust * np.clip(self.best(short, others) - prices, -MOST, MOST) + self._tried
        adjusted = levels.copy()
        adjusted[:, self._action] = np.clip(
            levels[:, self._action] + moves / columns.nats_per_action, -1.0, 1.0
        )
        return adjusted

    def best(self, short: Floats, others: Floats) -> Floats:
        """[rows], the log prices around the reference at which income would be highest."""
        found = self._coefficients
        curved, relative = np.maximum(found[[CURVED, RELATIVE_CURVED]], LEAST_CURVATURE)
        gain = 1.0 + found[PRICE] + found[RELATIVE] + found[SHORT_PRICE] * short
        best: Floats = (gain + relative * others) / (curved + relative)
        return best

    @property
    def trust(self) -> float:
        """How far prices are moved towards the best ones, 0 to 1."""
        if not self._fits:
            return 0.0
        weight = sum(len(one.sold) * FORGET**age for age, one in enumerate(reversed(self._batches)))
        return weight / (weight + TRUST)

    def reward(self, value: float) -> UpdateReport | None:
        """Fit anew if it is time to; `value` is what the round brought, for the report alone."""
        self._rewards.append(value)
        if len(self._batches) < FIRST or len(self._rewards) < EVERY:
            return None
        rewards, self._rewards = self._rewards, []
        return self._fit(rewards)

    def _take_in(self, seen: Floats, usable: Floats, reference: float) -> None:
        """What was sold since the last decision, of rows that were usable all the time."""
        before, self._open = self._open, None
        if before is None or len(before) != len(seen):
            return
        columns = self._columns
        real = (before[:, 2] > 0.0) & (usable > 0.0)
        if not real.any():
            return
        short, others = before[real, 0], before[real, 1]
        price = columns.nats_per_price * seen[real, self._place[columns.price]] - reference
        relative = price - others
        sold = np.expm1(columns.nats_per_sold * seen[real, self._place[columns.sold]])
        regressors = np.stack(
            (
                np.ones_like(price), short, short * short, price, relative, short * price,
                -price * price / 2.0, -relative * relative / 2.0,
            ),
            1,
        )  # fmt: skip
        self._batches = [*self._batches[1 - WINDOW :], _Batch(regressors, sold)]

    def _fit(self, rewards: list[float]) -> UpdateReport:
        """Newton's method on the penalised likelihood, from where the last fit ended."""
        regressors = np.concatenate([one.regressors for one in self._batches])
        sold = np.concatenate([one.sold for one in self._batches])
        ages = np.arange(len(self._batches))[::-1]
        weights = np.repeat(FORGET**ages, [len(one.sold) for one in self._batches])
        found = self._coefficients.copy()
        if not self._fits:
            found[LEVEL] = math.log(max(float(sold.mean()), 0.02))
        expected = np.exp(np.clip(regressors @ found, -8.0, 4.0))
        surprise = float(np.average(expected - sold * np.log(expected), weights=weights))
        norm = 0.0
        for _ in range(NEWTON_STEPS):
            expected = np.exp(np.clip(regressors @ found, -8.0, 4.0))
            slope = regressors.T @ (weights * (sold - expected)) - PRECISION * (found - PRIOR)
            curvature = (regressors * (weights * expected)[:, None]).T @ regressors
            step = np.linalg.solve(curvature + np.diag(PRECISION), slope)
            norm = float(np.linalg.norm(step))
            found = found + step * min(1.0, 1.0 / max(1e-12, float(np.abs(step).max())))
        self._coefficients = found
        self._fits += 1
        return UpdateReport(
            part="fees",
            number=self._fits,
            samples=len(self._batches),
            epochs=NEWTON_STEPS,
            mean_reward=math.fsum(rewards) / len(rewards),
            divergence=0.0,
            entropy=math.log(2.0),
            value_loss=surprise,
            gradient_norm=norm,
        )

    def state(self) -> State:
        """Everything that the next outputs depend on."""
        return {
            "coefficients": torch.from_numpy(self._coefficients.copy()),
            "batches": [
                (torch.from_numpy(one.regressors), torch.from_numpy(one.sold))
                for one in self._batches
            ],
            "open": None if self._open is None else torch.from_numpy(self._open.copy()),
            "tried": torch.from_numpy(self._tried.copy()),
            "reference": self._reference,
            "rounds": self._rounds,
            "fits": self._fits,
            "rewards": list(self._rewards),
            "generator": self._generator.get_state(),
        }

    def restore(self, state: State) -> None:
        """Continue from `state`."""
        self._coefficients = state["coefficients"].numpy().copy()
        self._batches = [_Batch(one.numpy(), sold.numpy()) for one, sold in state["batches"]]
        self._open = None if state["open"] is None else state["open"].numpy().copy()
        self._tried = state["tried"].numpy().copy()
        self._reference = state["reference"]
        self._rounds, self._fits = int(state["rounds"]), int(state["fits"])
        self._rewards = [float(one) for one in state["rewards"]]
        self._generator.set_state(state["generator"])
