"""What the runs of a study say: paired differences over seeds, interquartile means, 95 % intervals.

Money is satoshi per payment of the buyers, so that networks and plays compare; who has more of it
than in the same network with the same payments under another play, has won that much by it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnagents.evaluate.market.plays import (
    ABSTAINS,
    BELIEVED,
    BLIND,
    FREE_RIDE,
    INFORMED,
    LEARNED,
    LIARS,
    MARKET,
    NO_MARKET,
    RESALE,
)
from lnagents.evaluate.market.study import (
    BUYERS,
    FIRST_BUYER,
    FIRST_SELLER,
    NEVER,
    REST,
    SELLERS,
)
from lnagents.evaluate.results import Results
from lnagents.evaluate.statistics import (
    Estimate,
    Floats,
    estimate,
    interquartile_mean,
    mean,
    paired_difference,
)
from lnagents.model.units import MSAT_PER_SAT

LATE = 2 / 3
"""Prices are learned by then, as far as they are learned."""

_SUMS = (
    "profit_msat",
    "payments",
    "settled",
    "fees_msat",
    "failed_attempts",
    "cost_msat",
    "seconds",
    "hints_bought",
    "hints_paid_msat",
    "hints_fees_msat",
    "hints_sold",
    "hints_earned_msat",
    "resold",
    "resold_msat",
)

Sums = dict[str, float]


@dataclass(frozen=True, slots=True)
class OneRun:
    """A run's sums by group, and what else there is to say of it."""

    groups: Mapping[str, Sums]
    virtual_seconds: float
    dealings: Sequence[Mapping[str, int]]
    price_sat: Sequence[float]
    revenue_msat: Sequence[float]

    def sum(self, column: str, *groups: str) -> float:
        """Of a column over some groups; no groups means all."""
        return sum(self.groups[name][column] for name in groups or self.groups)


Figure = Callable[[OneRun], float]


def _buyers(column: str, scale: float = 1.0) -> Figure:
    def figure(run: OneRun) -> float:
        both = (FIRST_BUYER, BUYERS)
        return run.sum(column, *both) / run.sum("payments", *both) / scale

    return figure


def _profit(*groups: str) -> Figure:
    def figure(run: OneRun) -> float:
        per = run.sum("payments", FIRST_BUYER, BUYERS) * MSAT_PER_SAT
        return run.sum("profit_msat", *groups) / per

    return figure


def _routing(run: OneRun) -> float:
    """Profit of the first seller but for its hints."""
    per = run.sum("payments", FIRST_BUYER, BUYERS) * MSAT_PER_SAT
    earned = run.sum("profit_msat", FIRST_SELLER) - run.sum("hints_earned_msat", FIRST_SELLER)
    return earned / per


def _first_buyer_cost(run: OneRun) -> float:
    """Per payment of its own, less what it earned by selling on."""
    cost = run.sum("cost_msat", FIRST_BUYER) - run.sum("resold_msat", FIRST_BUYER)
    return cost / run.sum("payments", FIRST_BUYER) / MSAT_PER_SAT


FIGURES: dict[str, Figure] = {
    "success_percent": lambda run: 100 * _buyers("settled")(run),
    "failed_attempts": _buyers("failed_attempts"),
    "cost_sat": _buyers("cost_msat", MSAT_PER_SAT),
    "seconds": _buyers("seconds"),
    "hints": _buyers("hints_bought"),
    "hints_sat": _buyers("hints_paid_msat", MSAT_PER_SAT),
    "buyers_profit_sat": _profit(FIRST_BUYER, BUYERS),
    "sellers_profit_sat": _profit(FIRST_SELLER, SELLERS),
    "rest_profit_sat": _profit(REST),
    "rest_success_percent": lambda run: 100 * run.sum("settled", REST) / run.sum("payments", REST),
    "settled_per_second": lambda run: run.sum("settled") / run.virtual_seconds,
}
"""Of the value-of-information table, each per payment of a buyer where that makes sense."""


def read_runs(results: Results) -> dict[tuple[str, str], dict[int, OneRun]]:
    """The runs by family and play, then by network.

    Raises:
        ExperimentError: there are none, or a file is damaged.
    """
    sums = results.query(f"SELECT run, name, {', '.join(_SUMS)} FROM groups")  # noqa: S608 - names of ours
    groups: dict[str, dict[str, Sums]] = {}
    for place, run in enumerate(sums["run"]):
        row = {column: float(sums[column][place]) for column in _SUMS}
        groups.setdefault(run, {})[sums["name"][place]] = row
    runs = results.query(
        "SELECT run, family, play, index, virtual_seconds, dealings, price_sat, revenue_msat"
        " FROM runs ORDER BY family, play, index"
    )
    found: dict[tuple[str, str], dict[int, OneRun]] = {}
    for place, run in enumerate(runs["run"]):
        key = runs["family"][place], runs["play"][place]
        found.setdefault(key, {})[runs["index"][place]] = OneRun(
            groups[run],
            runs["virtual_seconds"][place],
            runs["dealings"][place],
            runs["price_sat"][place],
            runs["revenue_msat"][place],
        )
    return found


class Findings:
    """What is in a study's results."""

    def __init__(self, results: Results) -> None:
        """Read them; see `read_runs`."""
        self._runs = read_runs(results)

    @property
    def families(self) -> tuple[str, ...]:
        """Whose networks were played on."""
        return tuple(sorted({family for family, _ in self._runs}))

    def plays(self, family: str) -> tuple[str, ...]:
        """What was played there, learned prices apart."""
        return tuple(play for one, play in self._runs if one == family and play != LEARNED.name)

    def seeds(self, family: str, play: str) -> int:
        """How many networks a play was played on."""
        return len(self._runs.get((family, play), {}))

    def level(self, family: str, play: str, figure: Figure) -> Estimate:
        """A figure's interquartile mean over networks."""
        runs = self._runs[family, play]
        return estimate(interquartile_mean, _column([figure(one) for one in runs.values()]), seed=0)

    def difference(self, family: str, play: str, other: str, figure: Figure) -> Estimate | None:
        """By how much a figure is higher in `play` than in `other`; None: nothing to compare."""
        one, two = self._runs.get((family, play), {}), self._runs.get((family, other), {})
        both = sorted(one.keys() & two.keys())
        if len(both) < 2:
            return None
        scores = (_column([figure(runs[index]) for index in both]) for runs in (one, two))
        return paired_difference(interquartile_mean, *scores, seed=0)

    def value(self, family: str) -> dict[str, dict[str, Any]]:
        """The value-of-information table: by play, each figure and its change by the market."""
        table: dict[str, dict[str, Any]] = {}
        for play in self.plays(family):
            row: dict[str, Any] = {"seeds": self.seeds(family, play)}
            for name, figure in FIGURES.items():
                row[name] = self.level(family, play, figure)._asdict()
                change = self.difference(family, play, NO_MARKET.name, figure)
                row[f"{name}_change"] = None if change is None else change._asdict()
            table[play] = row
        return table

    def liars(self, family: str) -> dict[str, dict[str, Any]]:
        """What each kind of first seller earns against an honest one, and how it is dropped."""
        table = {}
        for play in (MARKET, *LIARS, *BELIEVED, ABSTAINS):
            runs = self._runs.get((family, play.name))
            if runs is None:
                continue
            dealings = [one for run in runs.values() for one in run.dealings]
            dropped = [one["until_dropped"] for one in dealings if one["until_dropped"] != NEVER]
            sold = _column([run.sum("hints_sold", FIRST_SELLER) for run in runs.values()])
            table[play.name] = {
                "gain_sat": _json(
                    self.difference(family, play.name, MARKET.name, _profit(FIRST_SELLER))
                ),
                "routing_gain_sat": _json(
                    self.difference(family, play.name, MARKET.name, _routing)
                ),
                "buyers_loss_sat": _json(
                    self.difference(family, play.name, MARKET.name, FIGURES["cost_sat"])
                ),
                "hints_sold": estimate(mean, sold, seed=0)._asdict(),
                "buyers": len(dealings),
                "dropped": len(dropped),
                "hints_until_dropped": _median(dropped),
                "hints_if_not_dropped": _median(
                    [one["bought"] for one in dealings if one["until_dropped"] == NEVER]
                ),
            }
        return table

    def others(self, family: str) -> dict[str, Any]:
        """A reseller, a free rider, and what a seller loses to a rival that buys from it."""
        cost = FIGURES["cost_sat"]
        pairs: dict[str, tuple[str, str, Figure]] = {
            "reseller_cost": (RESALE.name, MARKET.name, _first_buyer_cost),
            "resale_sellers_profit": (
                RESALE.name,
                MARKET.name,
                _profit(FIRST_SELLER, SELLERS),
            ),
            "resale_buyers_cost": (RESALE.name, MARKET.name, cost),
            "rider_cost_to_buying": (FREE_RIDE.name, MARKET.name, _first_buyer_cost),
            "rider_cost_to_no_market": (FREE_RIDE.name, NO_MARKET.name, _first_buyer_cost),
            "buying_cost_to_no_market": (MARKET.name, NO_MARKET.name, _first_buyer_cost),
            "selling_first_seller_routing": (MARKET.name, ABSTAINS.name, _routing),
            "selling_first_seller_profit": (
                MARKET.name,
                ABSTAINS.name,
                _profit(FIRST_SELLER),
            ),
            "informed_rival_first_seller_routing": (INFORMED.name, BLIND.name, _routing),
            "informed_rival_first_seller_profit": (
                INFORMED.name,
                BLIND.name,
                _profit(FIRST_SELLER),
            ),
            "informed_rival_other_sellers_profit": (INFORMED.name, BLIND.name, _profit(SELLERS)),
            "blind_rival_first_seller_routing": (BLIND.name, MARKET.name, _routing),
        }
        found: dict[str, Any] = {
            name: _json(self.difference(family, *pair)) for name, pair in pairs.items()
        }
        runs = self._runs.get((family, RESALE.name), {})
        if runs:
            resold = _column([run.sum("resold", FIRST_BUYER) for run in runs.values()])
            found["resold"] = estimate(mean, resold, seed=0)._asdict()
        return found

    def learned(self, family: str) -> dict[str, Any] | None:
        """Where learned prices end, and what they bring; None: none were learned."""
        runs = self._runs.get((family, LEARNED.name))
        if not runs:
            return None

        def part(values: Sequence[float], low: float, high: float) -> float:
            count = len(values)
            return float(np.mean(values[int(low * count) : int(high * count)]))

        thirds = [(0.0, 1 / 3), (1 / 3, LATE), (LATE, 1.0)]
        return {
            "seeds": len(runs),
            "periods": max(len(run.price_sat) for run in runs.values()),
            "price_sat": [
                estimate(
                    interquartile_mean,
                    _column([part(run.price_sat, *third) for run in runs.values()]),
                    seed=0,
                )._asdict()
                for third in thirds
            ],
            "revenue_sat_per_period": [
                estimate(
                    interquartile_mean,
                    _column(
                        [part(run.revenue_msat, *third) / MSAT_PER_SAT for run in runs.values()]
                    ),
                    seed=0,
                )._asdict()
                for third in thirds
            ],
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, by family."""
        return {
            family: {
                "value": self.value(family),
                "liars": self.liars(family),
                "others": self.others(family),
                "learned": self.learned(family),
            }
            for family in self.families
        }


def _json(found: Estimate | None) -> dict[str, float] | None:
    return None if found is None else found._asdict()


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _column(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)[:, None]
