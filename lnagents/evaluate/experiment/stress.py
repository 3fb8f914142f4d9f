"""What the further runs of an experiment say: what disturbances leave, whether prices collude."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.measures import kept, price_over_best_response, recovery_rounds
from lnagents.evaluate.results import Results
from lnagents.evaluate.statistics import Estimate, Floats, percentile_interval, resample

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
    left: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for spec in runs:
        disturbance = spec.disturbance
        if disturbance is None or spec.id not in rows or _key(spec) not in calm:
            continue
        (income, volume), (usual_income, usual_volume) = rows[spec.id], calm[_key(spec)]
        begin = disturbance.begin
        left[spec.contestant.name, spec.field.name, disturbance.kind].append(
            (
                float(kept(income, usual_income, begin)),
                float(kept(volume, usual_volume, begin)),
                float(recovery_rounds(volume, usual_volume, begin)),
            )
        )
    return [
        Resilience(
            contestant=contestant,
            field=field,
            disturbance=kind,
            income=_mean(np.array([one for one, _, _ in parts])),
            volume=_mean(np.array([one for _, one, _ in parts])),
            rounds=_mean(np.array([one for _, _, one in parts])),
            networks=len(parts),
        )
        for (contestant, field, kind), parts in left.items()
    ]


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
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for group in groups.values():
        nodes = {seat[spec.id] for spec in group if spec.id in seat}
        if len(group) < 2 or len(nodes) != 1:
            continue
        (node,) = nodes
        incomes = [income.get((spec.id, node), math.nan) for spec in group]
        if not any(map(math.isnan, incomes)):
            factors = [spec.deviation for spec in group]
            ratio = float(price_over_best_response(incomes, factors))
            ratios[group[0].contestant.name, group[0].field.name].append(math.log(ratio))
    return [
        Collusion(*key, Estimate(*(math.exp(one) for one in _mean(np.array(logs)))), len(logs))
        for key, logs in ratios.items()
    ]


def _key(spec: RunSpec) -> tuple[Any, ...]:
    """What runs have in common that differ in what goes wrong only."""
    return spec.contestant.name, spec.field.name, spec.family.name, spec.index


def _mean(values: Floats) -> Estimate:
    """The mean of what is known, and its bootstrap interval."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Estimate(math.nan, math.nan, math.nan)
    low, high = percentile_interval(known[resample(len(known), SEED)].mean(axis=1))
    return Estimate(float(known.mean()), float(low), float(high))
