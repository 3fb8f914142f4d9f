"""What newcomers gain against an experiment's teams, and how these do among strangers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.evaluate.experiment.arena_task import ArenaTask, Table
from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.diagnosis import (
    FOLDER,
    MONEY,
    OneSeat,
    SeatingResult,
    diagnose,
    plan,
    teams_of,
)
from lnagents.evaluate.experiment.diagnosis_section import diagnosis_section, to_json
from lnagents.evaluate.experiment.families import Split
from lnagents.evaluate.experiment.lessons import Diagnosis
from lnagents.evaluate.results import Results
from lnagents.learn.policy import Policy
from lnagents.learn.rollout import episode_seeds, live
from lnagents.learn.settings import TrainSettings
from lnagents.learn.trainer import Trainer
from lnagents.model.errors import ExperimentError
from lnagents.model.files import parse_yaml

TEXT = """
name: small
baseline: as-found
contestants: [as-found]
learners:
  algorithms: [ippo, mappo]
  rewards: {money: {}, together: {mode: cooperative, fees_earned: 0}}
  opponent_models: [none, features]
  lessons:
    environments: 1
    networks: 2
    rounds: 3
    train: {iterations: 1, hidden: 8}
diagnosis:
  learners: [ippo-money, mappo-money-features, ippo-together]
  newcomers: [mappo-money-features]
  iterations: 2
  environments: 1
  networks: 2
  episodes: 1
families:
  - {name: paths, kind: competing-paths, routers: 3, ends: 2}
  - {name: hubs, kind: hub-and-spoke, hubs: 4, spokes: 5}
"""


def definition(text: str = TEXT) -> Definition:
    return parse_yaml(text, "small.yaml", Definition, ExperimentError)


def look(folder: Path, text: str = TEXT) -> int:
    chosen = definition(text)
    assert chosen.diagnosis is not None
    return diagnose(chosen, chosen.diagnosis, folder, progress=lambda done, count: None)


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the diagnosis of three teams."""
    folder = tmp_path_factory.mktemp("diagnosis")
    # Teams that are not there are trained. Then own agents for money, a newcomer, two teams among
    # each other, and one alone with its reward.
    assert look(folder) == 3 + 1 + 4 + 1
    return folder


def test_what_is_there_is_not_made_again(folder: Path) -> None:
    results = Results(folder / FOLDER, SeatingResult)
    sql = "SELECT * FROM runs ORDER BY run"
    before = results.query(sql)
    assert look(folder) == 0
    # With another effort all is made again, and takes the place of what was there.
    assert look(folder, TEXT.replace("episodes: 1", "episodes: 2")) == 9
    assert look(folder) == 9
    assert results.query(sql) == before
    assert {len(one) for one in before["returns"]} == {4}
    assert before["family"][0] == ["paths", "paths", "hubs", "hubs"]


def test_the_diagnosis_says_who_gains_and_who_is_among_strangers(folder: Path) -> None:
    found = to_json(folder)
    (newcomer,) = found["best_response"]
    assert newcomer["learner"] == "mappo-money-features"
    gain = newcomer["newcomer"][0] - newcomer["team"][0]
    assert newcomer["gain"][0] == pytest.approx(gain)
    strangers = {one["learner"]: one for one in found["strangers"]}
    assert set(strangers) == {"ippo-money", "mappo-money-features", "ippo-together"}
    assert strangers["ippo-money"]["trainings"] == [None, None, None]
    assert strangers["ippo-money"]["algorithms"][0] != 0.0
    assert strangers["ippo-together"]["algorithms"] == [None, None, None]
    page = "".join(diagnosis_section(folder))
    assert "Could anyone gain by learning against them?" in page
    assert 'id="cross-play-money"' in page
    assert "nan" not in page.lower().replace("nance", "")


def test_without_a_diagnosis_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert diagnosis_section(tmp_path) == []
    alone = definition(TEXT[: TEXT.index("learners:")] + TEXT[TEXT.index("families:") :])
    with pytest.raises(ExperimentError, match="learners: there are none to look into"):
        diagnose(alone, Diagnosis(), tmp_path, progress=lambda done, count: None)
    with pytest.raises(ExperimentError, match=r"diagnosis\.newcomers: 'ippo' is none of them"):
        definition(TEXT.replace("newcomers: [mappo-money-features]", "newcomers: [ippo]"))


def test_newcomers_learn_for_money_whatever_the_team_is_for(folder: Path) -> None:
    chosen = definition()
    assert chosen.diagnosis is not None
    everyone = chosen.diagnosis.model_copy(update={"newcomers": ()})
    planned = plan(teams_of(chosen, everyone, folder), everyone)
    newcomers = [one for one in planned if one.agent is None]
    assert {one.among.cell.name for one in newcomers} == set(everyone.learners)
    assert len(newcomers) == 3
    assert {one.seating.reward for one in newcomers} == {MONEY}
    assert len({one.name for one in planned}) == len({one.seating.id for one in planned})


TABLES = [Table(one, True, 2) for one in definition().families]


def test_networks_in_turn_are_the_same_in_every_episode() -> None:
    task = ArenaTask(
        TABLES,
        MONEY.settings(3),
        networks=2,
        joint_state=False,
        split=Split.HELD_OUT,
        in_turn=True,
    )
    one, other = task.reset([1, 2, 3, 4]), task.reset([5, 6, 7, 8])
    assert np.array_equal(one.mask, other.mask)
    capacity = one.rows[..., 0].sum((1, 2))
    assert np.array_equal(capacity, other.rows[..., 0].sum((1, 2)))
    assert len(set(capacity.tolist())) == 4


def test_seats_go_round_or_are_drawn() -> None:
    task = ArenaTask(TABLES, MONEY.settings(3), networks=2, joint_state=False)
    policy: Policy = Trainer(task, TrainSettings(iterations=1, hidden=8), 1).policy
    (seeds,) = episode_seeds(1, 1, range(4))

    def own(turn: int | None) -> list[list[int]]:
        learns = live(task, policy, seeds, OneSeat(policy, turn)).learns
        assert learns is not None
        return [np.flatnonzero(row).tolist() for row in learns.numpy()]

    # Three routers, four hubs; the fourth seat of the routers' networks is padding.
    assert own(0) == [[0], [1], [2], [3]]
    assert own(1) == [[1], [2], [3], [0]]
    assert [len(one) for one in own(None)] == [1, 1, 1, 1]
    assert own(None) == own(None)


def test_the_command_says_all_of_it(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    done = CliRunner().invoke(app, ["experiment", "diagnose", str(path), "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert "0 seatings made" in done.output
    options = ["--out", str(folder), "--json"]
    told = CliRunner().invoke(app, ["experiment", "diagnose", str(path), *options])
    assert json.loads(told.stdout) == {"made": 0, **to_json(folder)}
    path.write_text(TEXT[: TEXT.index("diagnosis:")] + TEXT[TEXT.index("families:") :])
    silent = CliRunner().invoke(app, ["experiment", "diagnose", str(path), *options])
    assert isinstance(silent.exception, ExperimentError)
