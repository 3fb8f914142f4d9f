"""What further runs say of resilience and of collusion."""

from __future__ import annotations

import math

import pytest

from lnagents.evaluate.executors import Here
from lnagents.evaluate.experiment import stress
from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.runner import run_experiment
from lnagents.evaluate.experiment.scores import read_scores
from lnagents.evaluate.experiment.stress import collusion, resilience
from lnagents.evaluate.results import Results
from lnagents.model.errors import ExperimentError
from lnagents.model.files import parse_yaml

TEXT = """
name: small
baseline: as-found
contestants: [as-found, low-fee, wall]
fields: [as-found]
seeds: 2
rounds: 6
stress:
  disturbances: [{kind: jamming, begin: 2, rounds: 3, share: 1.0}]
  deviations: [0.5, 2.0]
  contestants: [low-fee, wall]
families:
  - {name: paths, kind: competing-paths, routers: 4, ends: 2, payments_per_second: 10}
"""


@pytest.fixture(scope="module", name="results")
def _results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    results = Results(tmp_path_factory.mktemp("stress"))
    made = run_experiment(definition(), results, Here(), progress=lambda done, count: None)
    assert made == 2 * (3 + 2 * 3)
    return results


def definition() -> Definition:
    return parse_yaml(TEXT, "small.yaml", Definition, ExperimentError)


def test_a_disturbance_leaves_less_income(results: Results) -> None:
    rows = {one.contestant: one for one in resilience(definition(), results)}
    assert set(rows) == {"low-fee", "wall"}
    for row in rows.values():
        assert (row.field, row.disturbance, row.networks) == ("as-found", "jamming", 2)
        # Three of four rounds without income.
        assert 0.0 <= row.income.value < 0.6
        assert row.volume.value <= 1.1
        assert 0.0 <= row.rounds.value <= 4.0
    assert rows["wall"].to_json()["income"] == rows["wall"].income


def test_prices_are_held_against_the_best_multiple(results: Results) -> None:
    found = results.query(
        "SELECT index, deviation, max(seat.fees_earned_msat) AS income FROM"
        " (SELECT index, deviation, contestant, disturbance, unnest(seats) AS seat FROM runs)"
        " WHERE contestant = 'wall' AND disturbance = 'calm' AND seat.node IN"
        " (SELECT DISTINCT node FROM seats WHERE deviates AND plays = 'wall')"
        " AND seat.contests GROUP BY ALL ORDER BY income DESC"
    )
    best: dict[int, float] = {}
    for index, factor in zip(found["index"], found["deviation"], strict=True):
        best.setdefault(index, factor)
    rows = {one.contestant: one for one in collusion(definition(), results)}
    assert rows["wall"].networks == len(best) == 2
    expected = math.prod(1.0 / factor for factor in best.values()) ** 0.5
    assert rows["wall"].ratio.value == pytest.approx(expected)
    assert 0.5 <= rows["low-fee"].ratio.low <= rows["low-fee"].ratio.high <= 2.0


def test_what_luck_in_training_leaves_is_in_the_interval() -> None:
    """Two trainings that keep 20 and 60 % on three networks each; a fourth has but one of them."""
    cells: stress._Cells = {
        (seed, "paths", index): (0.2 + 0.4 * seed,) for seed in (0, 1) for index in range(3)
    }
    cells[0, "paths", 3] = (1.0,)
    values = stress._whole(cells, (0, 1))
    assert values.shape == (2, 3, 1)
    assert stress._mean(values[..., 0]) == pytest.approx((0.4, 0.2, 0.6))


def test_further_runs_are_no_part_of_the_scores(results: Results) -> None:
    scores = read_scores(definition(), results)
    assert scores.complete
    assert scores.runs == 6
    assert not math.isnan(scores.rows(scores.fields[0])[0].score.value)


def test_without_further_runs_there_is_nothing_to_say(results: Results) -> None:
    plain = definition().model_copy(update={"stress": None})
    assert resilience(plain, results) == []
    assert collusion(plain, results) == []
