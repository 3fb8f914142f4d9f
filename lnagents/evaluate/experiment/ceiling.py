"""How much there is to win: the best fees by balance that somebody could set who knew the network.

A grid of rules with two numbers (`balance_rule`) is played on training networks, with the seats and
neighbours of an experiment against fees as found. Then one rule is chosen for all networks, one for
each family, and one for each network, each time for profit plus a weight on success. A rule that
was chosen for its luck with the payments would look too good, so what was chosen is played on other
payments of the same networks, and that is what counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.linear import LinearLevels, balance_rule
from lnagents.evaluate.experiment.trial import Outcome, try_out
from lnagents.evaluate.statistics import (
    Estimate,
    Floats,
    estimate,
    interquartile_mean,
    mean,
    paired_difference,
)

if TYPE_CHECKING:
    from lnagents.evaluate.experiment.definition import Definition

MIDDLES = (60, 100, 150, 200, 300, 450, 700, 1_000)
"""Rates of an even channel, ppm."""
SPANS = (1, 3, 10, 30, 100, 300)
"""How many times as much an empty channel costs as a full one."""
REFERENCE = (200, 100)
"""The rule *steep-balance*."""
SUCCESS_WEIGHTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""What a point of success counts, as a profit score."""
MIN_CHANGE = 0.15
SEED = 1

Rule: TypeAlias = tuple[int, int]
"""Middle and span."""
_Place: TypeAlias = tuple[int, int]
"""A network's index, and the place of its family."""
_RULES: tuple[Rule, ...] = tuple(itertools.product(MIDDLES, SPANS))


@dataclass(frozen=True, slots=True)
class Choice:
    """Rules that were chosen with one weight, and how they do on payments they were not chosen for.

    Estimates are with 95 % intervals over networks.
    """

    of: str
    """`all`, `family` or `network`: for what one rule each was chosen; `reference`: not chosen."""
    success_weight: float
    score: Estimate
    """Interquartile mean of the profit scores."""
    profit: Estimate
    """Mean of the profit scores."""
    success: Estimate
    """Points more than with fees as found."""
    more_score: Estimate
    """By how much the score is higher than with `REFERENCE` everywhere, network by network."""
    more_profit: Estimate
    """The same of the mean."""
    more_success: Estimate
    """The same of success, points."""
    rules: Mapping[str, Sequence[Rule]]
    """By family, the rule of each network."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def find_ceiling(
    definition: Definition,
    networks: int,
    *,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> list[Choice]:
    """Play the grid on so many training networks of each family.

    Args:
        definition: of the families, rounds, and what updates cost.
        networks: of each family.
        progress: told how many networks are done.

    Raises:
        TopologyError: the file that a family is taken from cannot be read.
    """
    table = _Table(definition, networks)
    places = [
        (index, column) for column in range(len(definition.families)) for index in range(networks)
    ]
    known = {}
    for number, place in enumerate(places):
        known[place] = {rule: table.at(place, rule, 0) for rule in _RULES}
        progress(number + 1, len(places))
    choices = [table.choice("reference", 0.0, dict.fromkeys(places, REFERENCE))]
    groups: Mapping[str, Callable[[_Place], int]] = {
        "all": lambda place: 0,
        "family": lambda place: place[1],
        "network": places.index,
    }
    for name, group_of in groups.items():
        for weight in SUCCESS_WEIGHTS:
            rules: dict[_Place, Rule] = {}
            for _, group in itertools.groupby(places, group_of):
                same = list(group)
                best = max(_RULES, key=partial(_worth, known, same, weight))
                rules |= dict.fromkeys(same, best)
            choices.append(table.choice(name, weight, rules))
    return choices


def _worth(
    known: Mapping[_Place, Mapping[Rule, tuple[float, float]]],
    places: Sequence[_Place],
    weight: float,
    rule: Rule,
) -> float:
    """Of a rule on these networks, as a profit score."""
    return sum(known[place][rule][0] + weight * known[place][rule][1] for place in places)


class _Table:
    """What each rule brings on each network; played when it is first asked for."""

    def __init__(self, definition: Definition, networks: int) -> None:
        self._definition = definition
        self._networks = networks
        self._played: dict[tuple[_Place, Rule | None, int], Outcome] = {}

    def choice(self, of: str, weight: float, rules: Mapping[_Place, Rule]) -> Choice:
        """How these rules do on payments that they were not chosen for."""
        families = self._definition.families
        score, success = self._brought(rules)
        known, known_success = self._brought(dict.fromkeys(rules, REFERENCE))
        return Choice(
            of=of,
            success_weight=weight,
            score=estimate(interquartile_mean, score, seed=SEED),
            profit=estimate(mean, score, seed=SEED),
            success=estimate(mean, success, seed=SEED),
            more_score=paired_difference(interquartile_mean, score, known, seed=SEED),
            more_profit=paired_difference(mean, score, known, seed=SEED),
            more_success=paired_difference(mean, success, known_success, seed=SEED),
            rules={
                family.name: [rules[index, column] for index in range(self._networks)]
                for column, family in enumerate(families)
            },
        )

    def _brought(self, rules: Mapping[_Place, Rule]) -> tuple[Floats, Floats]:
        """[networks, families] each, scores and success of these rules on the other payments."""
        shape = (self._networks, len(self._definition.families))
        score: Floats = np.zeros(shape)
        success: Floats = np.zeros(shape)
        for place, rule in rules.items():
            score[place], success[place] = self.at(place, rule, 1)
        return score, success

    def at(self, place: _Place, rule: Rule, draw: int) -> tuple[float, float]:
        """Profit score, and points of success more than with fees as found."""
        found = self._outcome(place, None, draw)
        outcome = self._outcome(place, rule, draw)
        incomes = [
            self._outcome((index, place[1]), None, draw).income_msat
            for index in range(self._networks)
        ]
        unit = max(1.0, float(np.mean(incomes)))
        profit = outcome.profit_msat(self._definition.update_cost_msat)
        return profit / unit, outcome.success - found.success

    def _outcome(self, place: _Place, rule: Rule | None, draw: int) -> Outcome:
        key = (place, rule, draw)
        if key not in self._played:
            index, column = place
            self._played[key] = try_out(
                self._definition.families[column],
                index,
                self._definition.rounds,
                None if rule is None else LinearLevels.of(balance_rule(*rule)),
                FeeBounds(min_change=MIN_CHANGE),
                draw,
            )
        return self._played[key]
