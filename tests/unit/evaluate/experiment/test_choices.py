"""What one choice of a learner's makes of it, and what luck in training does."""

from __future__ import annotations

import numpy as np
import pytest

from lnagents.evaluate.experiment.choices import choices, choices_section
from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.scores import PROFIT_SCORE, FieldScores
from lnagents.evaluate.experiment.trainings import trainings, trainings_section
from lnagents.model.errors import ExperimentError
from lnagents.model.files import parse_yaml

TEXT = """
name: small
baseline: as-found
contestants: [as-found]
learners:
  algorithms: [ippo, mappo]
  rewards: {money: {}}
  opponent_models: [none, features]
  seeds: 3
families:
  - {name: paths, kind: competing-paths}
  - {name: hubs, kind: hub-and-spoke}
"""

GAIN = {"ippo-money": 0.0, "ippo-money-features": 0.5, "mappo-money": 1.0}


def definition(text: str = TEXT) -> Definition:
    return parse_yaml(text, "small.yaml", Definition, ExperimentError)


@pytest.fixture(name="field")
def _field() -> FieldScores:
    """Networks differ much, trainings of one learner by 0.2 at most."""
    networks = np.random.default_rng(1).uniform(1.0, 9.0, (1, 8, 2))
    luck = np.array([-0.1, 0.0, 0.1])[:, None, None]
    values = {}
    for name, seeds in definition().trainings_of().items():
        score = networks + (0.0 if len(seeds) == 1 else luck) + GAIN.get(name, 0.0)
        values[name] = {
            PROFIT_SCORE: score,
            "success_rate": np.full_like(score, 80.0),
            "fraction_of_bound": 90.0 - score,
        }
    return FieldScores("as-found", values)


def test_learners_are_compared_with_those_that_differ_in_one_choice(field: FieldScores) -> None:
    found = {(one.learner, one.other): one for one in choices(definition(), field)}
    assert set(found) == {
        ("ippo-money-features", "ippo-money"),
        ("mappo-money", "ippo-money"),
        ("mappo-money-features", "ippo-money-features"),
        ("mappo-money-features", "mappo-money"),
    }
    better = found["mappo-money", "ippo-money"]
    # Networks cancel out, and luck in training is in the interval.
    assert better.score.value == pytest.approx(1.0)
    assert 0.75 < better.score.low < 0.95 < 1.05 < better.score.high < 1.25
    assert better.success == (0.0, 0.0, 0.0)
    assert better.volume.value == pytest.approx(-1.0)
    page = "".join(choices_section(list(found.values())))
    assert "more profit, less volume" in page
    assert page.count("<tr>") == 1 + 4
    one_kind = TEXT.replace("[ippo, mappo]", "[ippo]").replace("[none, features]", "[none]")
    plain = definition(one_kind)
    assert choices_section(choices(plain, field)) == []


def test_each_training_has_a_line(field: FieldScores) -> None:
    rows = trainings(definition(), field)
    assert [(one.learner, one.training) for one in rows][:4] == [
        ("ippo-money", 0),
        ("ippo-money", 1),
        ("ippo-money", 2),
        ("ippo-money-features", 0),
    ]
    assert rows[2].score.value - rows[0].score.value == pytest.approx(0.2)
    assert rows[0].success == (0.0, 0.0, 0.0)
    page = "".join(trainings_section(rows))
    assert "ippo-money 2" in page
    scores = " · ".join(f"{one.score.value:.2f}" for one in rows[:3])
    assert f"<td>ippo-money</td><td>{scores}</td>" in page
    assert trainings(definition(TEXT.replace("seeds: 3", "seeds: 1")), field) == []
    assert trainings_section([]) == []
