"""What the further runs of an experiment say: what disturbances leave, whether prices collude."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.measures import kept, price_over_best_response, recovery_rounds
from lnagents.evaluate.results import Results
from lnagents.evaluate.statistics import Estimate, Floats, estimate, mean

SEED = 1
"""Of all intervals."""

_SQL = """
SELECT run, income_by_round, volume_by_round FROM runs WHERE list_contains(?, run)
"""

_FIRST_SEAT = """
SELECT run, node FROM seats WHERE deviates AND list_contains(?, run)
"""

_INCOME = """
SELECT run, node, fees_earned_msat::DOUBLE AS income FROM seats WHERE list_contains(?, run)
"""


@dataclass(frozen=True, slots=True)
class Resilience:
    """One contestant in one disturbance, all networks of all families together."""

    contestant: str
    field: str
    disturbance: str
    income: Estimate
    """Of the contestant from its beginning on, as a part of that without it; the mean."""
    volume: Estimate
    """Of the network, likewise."""
    rounds: Estimate
    """Until the volume is what it would be, see `lnagents.evaluate.measures.recovery_rounds`."""
    networks: int

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Collusion:
    """How far one contestant's prices are above a best response, see `price_over_best_response`."""

    contestant: str
    field: str
    ratio: Estimate
    """The geometric mean over networks."""
    networks: int

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def resilience(definition: Definition, results: Results) -> list[Resilience]:
    """What each disturbance left to each contestant, of the networks that have all runs.

    Raises:
        ExperimentError: the results are damaged, or there are none.
    """
    runs = [spec for spec in definition.runs() if spec.deviation == 1.0]
    found = results.query(_SQL, [[spec.id for spec in runs]])
    rows = {
        run: (income, volume)
        for run, income, volume in zip(
            found["run"], found["income_by_round"], found["volume_by_round"], strict=True
        )
    }
    calm = {_key(spec): rows[spec.id] for spec in runs if spec.plain and spec.id in rows}
    left: dict[tuple[str, str, str], _Cells] = defaultdict(dict)
    for spec in runs:
        disturbance = spec.disturbance
        if disturbance is None or spec.id not in rows or _key(spec) not in calm:
            continue
        (income, volume), (usual_income, usual_volume) = rows[spec.id], calm[_key(spec)]
        begin = disturbance.begin
        cells = left[spec.contestant.name, spec.field.name, disturbance.kind]
        cells[_cell(spec)] = (
            float(kept(income, usual_income, begin)),
            float(kept(volume, usual_volume, begin)),
            float(recovery_rounds(volume, usual_volume, begin)),
        )
    trainings = definition.trainings_of()
    found_left = []
    for (contestant, field, kind), cells in left.items():
        values = _whole(cells, trainings[contestant])
        if not values.shape[1]:
            continue
        income_left, volume_left, rounds = (_mean(values[..., part]) for part in range(3))
        found_left.append(
            Resilience(contestant, field, kind, income_left, volume_left, rounds, values.shape[1])
        )
    return found_left


def collusion(definition: Definition, results: Results) -> list[Collusion]:
    """How far prices are above best responses, of the networks that have all runs.

    Raises:
        ExperimentError: the results are damaged, or there are none.
    """
    if definition.stress is None or not definition.stress.deviations:
        return []
    runs = [spec for spec in definition.runs() if spec.disturbance is None]
    wanted = [spec.id for spec in runs]
    who = results.query(_FIRST_SEAT, [wanted])
    seat = dict(zip(who["run"], who["node"], strict=True))
    earned = results.query(_INCOME, [wanted])
    income = {
        (run, node): value
        for run, node, value in zip(earned["run"], earned["node"], earned["income"], strict=True)
    }
    groups: dict[tuple[Any, ...], list[RunSpec]] = defaultdict(list)
    for spec in runs:
        groups[_key(spec)].append(spec)
    ratios: dict[tuple[str, str], _Cells] = defaultdict(dict)
    for group in groups.values():
        nodes = {seat[spec.id] for spec in group if spec.id in seat}
        if len(group) < 2 or len(nodes) != 1:
            continue
        (node,) = nodes
        incomes = [income.get((spec.id, node), math.nan) for spec in group]
        if not any(map(math.isnan, incomes)):
            factors = [spec.deviation for spec in group]
            ratio = float(price_over_best_response(incomes, factors))
            cells = ratios[group[0].contestant.name, group[0].field.name]
            cells[_cell(group[0])] = (math.log(ratio),)
    trainings = definition.trainings_of()
    prices = []
    for (contestant, field), cells in ratios.items():
        logs = _whole(cells, trainings[contestant])[..., 0]
        if logs.shape[1]:
            told = Estimate(*(math.exp(one) for one in _mean(logs)))
            prices.append(Collusion(contestant, field, told, logs.shape[1]))
    return prices


_Cells: TypeAlias = dict[tuple[int, str, int], tuple[float, ...]]
"""What was found in each training on each network: training, family, index."""


def _cell(spec: RunSpec) -> tuple[int, str, int]:
    return spec.training, spec.family.name, spec.index


def _whole(cells: _Cells, trainings: Sequence[int]) -> Floats:
    """[trainings, networks, values], of the networks of which all trainings have something."""
    networks = [
        network
        for network in dict.fromkeys((family, index) for _, family, index in cells)
        if all((training, *network) in cells for training in trainings)
    ]
    found = [[cells[training, *network] for network in networks] for training in trainings]
    width = len(next(iter(cells.values())))
    return np.array(found, np.float64).reshape(len(trainings), len(networks), width)


def _key(spec: RunSpec) -> tuple[Any, ...]:
    """What runs have in common that differ in what goes wrong only."""
    return spec.contestant.name, spec.field.name, *_cell(spec)


def _mean(values: Floats) -> Estimate:
    """The mean of [trainings, networks] and its interval, where something is known of all."""
    known = values[:, ~np.isnan(values).any(axis=0)]
    if not known.size:
        return Estimate(math.nan, math.nan, math.nan)
    return estimate(mean, known[..., None], seed=SEED)
