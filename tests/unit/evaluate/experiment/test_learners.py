"""Learners of an experiment: trained on training networks, then contestants like any other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnagents.env.heuristics import HEURISTICS
from lnagents.env.settings import EnvSettings
from lnagents.evaluate import train_run
from lnagents.evaluate.executors import Here
from lnagents.evaluate.experiment import arena_task, school
from lnagents.evaluate.experiment.arena_task import ArenaTask, Table
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.definition import Definition, load_definition
from lnagents.evaluate.experiment.families import (
    CompetingPaths,
    HubAndSpoke,
    Split,
    draw_arena,
    seed_of,
)
from lnagents.evaluate.experiment.lessons import Training
from lnagents.evaluate.experiment.runner import run_experiment
from lnagents.evaluate.experiment.scores import read_scores
from lnagents.evaluate.results import Results
from lnagents.learn.settings import OpponentMode, TrainSettings
from lnagents.learn.task import Actions
from lnagents.learn.trainer import Trainer
from lnagents.model.errors import CheckpointError, ExperimentError
from lnagents.model.files import parse_yaml

TEXT = """
name: small
baseline: as-found
contestants: [as-found]
learners:
  algorithms: [ippo, mean-field]
  rewards: {competitive: {}, cooperative: {mode: cooperative, fees_earned: 0}}
  seeds: 2
  lessons:
    environments: 1
    networks: 2
    rounds: 3
    train: {iterations: 2, hidden: 8, row_credit: 0.5}
fields: [same, as-found]
seeds: 2
rounds: 3
families:
  - {name: paths, kind: competing-paths, routers: 3, ends: 2}
  - {name: hubs, kind: hub-and-spoke, hubs: 4, spokes: 5}
"""

PATHS = CompetingPaths(kind="competing-paths", name="paths", routers=3, ends=2)
HUBS = HubAndSpoke(kind="hub-and-spoke", name="hubs", hubs=4, spokes=5)
TABLES = [Table(PATHS, True, 1), Table(PATHS, False, 2), Table(HUBS, True, 1)]


def definition(text: str = TEXT) -> Definition:
    return parse_yaml(text, "small.yaml", Definition, ExperimentError)


def some_training(**changes: object) -> Training:
    return definition().trainings()[0].model_copy(update=changes)


def make_task(rounds: int = 3, *, joint_state: bool = False) -> ArenaTask:
    return ArenaTask(TABLES, EnvSettings(rounds=rounds), networks=3, joint_state=joint_state)


def test_a_task_of_several_families_tells_about_others() -> None:
    task = ArenaTask(TABLES, EnvSettings(rounds=3), networks=3, joint_state=False, foresight=True)
    settings = TrainSettings(iterations=2, hidden=8, opponent_model=OpponentMode.GRADIENT)
    reports = [Trainer(task, settings, 1).iterate() for _ in range(2)]
    assert reports[0].opponents == reports[1].opponents
    assert set(task.shape.moves) <= {name.split("/")[0] for name in reports[0].opponents}
    seen = task.reset(list(range(task.shape.batch)))
    assert seen.foresight is not None
    assert seen.liquidity is not None
    there = seen.liquidity[seen.mask > 0.0].sum(-1)
    assert np.isclose(there, 1.0).any()
    assert (np.isclose(there, 1.0) | (there == 0.0)).all()


def idle(task: ArenaTask) -> Actions:
    shape = task.shape
    rows = np.zeros((shape.batch, shape.agents, shape.rows, len(shape.actions)), np.float32)
    return Actions(rows, np.zeros((shape.batch, shape.agents), np.int64))


def test_a_task_of_several_families() -> None:
    task = make_task(joint_state=True)
    shape = task.shape
    assert (shape.batch, shape.agents) == (4, 4)
    seen = task.reset([1, 2, 3, 4])
    assert seen.learns is not None
    assert seen.learns.sum(1).tolist() == [3, 2, 2, 4]
    assert not seen.mask[~seen.learns].any()
    assert seen.mask[seen.learns].any(-1).all()
    assert seen.state_mask.sum(1)[3] == 4 * 3 / 2 + 5 * 2
    for number in range(3):
        result = task.step(idle(task))
        assert result.rewards.shape == (4, 4)
        assert not result.rewards[~seen.learns].any()
        assert result.row_rewards is not None
        assert not result.row_rewards[result.seen.mask == 0.0].any()
        assert result.over == (number == 2)
    with pytest.raises(RuntimeError, match="reset"):
        task.step(idle(task))


def test_an_environment_depends_on_its_own_seed_alone() -> None:
    def lived(seeds: list[int]) -> list[bytes]:
        task = make_task()
        task.reset(seeds)
        result = task.step(idle(task))
        return [part.tobytes() for part in (*result.rewards, *result.seen.rows)]

    one, same, other = lived([1, 2, 3, 4]), lived([1, 2, 3, 4]), lived([1, 9, 3, 4])
    assert one == same
    differ = [left != right for left, right in zip(one, other, strict=True)]
    assert differ == [False, True, False, False] * 2


def test_learners_can_be_kept_from_some_families() -> None:
    narrow = definition(TEXT.replace("networks: 2", "networks: 2\n    families: [hubs]"))
    assert {one.families for one in narrow.trainings()} == {(HUBS,)}
    assert {one.family.name for one in narrow.runs()} == {"paths", "hubs"}
    assert {one.families for one in definition().trainings()} == {(PATHS, HUBS)}
    with pytest.raises(ExperimentError, match=r"learners\.lessons\.families: 'hub' is none of"):
        definition(TEXT.replace("networks: 2", "networks: 2\n    families: [hub]"))


def test_a_model_of_others_can_be_tried_with_some_rewards_only() -> None:
    models = "opponent_models: [none, gradient]\n  only_with: {gradient: [cooperative]}"
    grid = definition(TEXT.replace("seeds: 2\n  lessons", f"{models}\n  seeds: 2\n  lessons"))
    names = [cell.name for cell, _ in grid.learned()]
    assert set(names) - set(definition().trainings_of()) == {
        "ippo-cooperative-gradient",
        "mean-field-cooperative-gradient",
    }
    assert len(names) == 6


def test_learners_can_have_settings_of_their_reward() -> None:
    own = definition(
        TEXT.replace("rewards:", "by_reward: {cooperative: {discount: 0.3}}\n  rewards:")
    )
    discounts = {cell.name: each[0].settings().discount for cell, each in own.learned()}
    assert discounts["ippo-cooperative"] == discounts["mean-field-cooperative"] == 0.3
    assert discounts["ippo-competitive"] == TrainSettings().discount
    ids = [{one.id for one in each.trainings()} for each in (own, definition())]
    assert len(ids[0] & ids[1]) == 4  # those for money are the same trainings


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("only_with: {gradient: [cooperative]}", "only_with: 'gradient' is none of them"),
        ("only_with: {none: [charitable]}", "only_with: 'charitable' is none of them"),
        ("by_reward: {charitable: {}}", "by_reward: 'charitable' is none of them"),
    ],
)
def test_what_the_grid_does_not_have_is_refused(key: str, problem: str) -> None:
    with pytest.raises(ExperimentError, match=problem):
        definition(TEXT.replace("rewards:", f"{key}\n  rewards:"))


def test_learners_train_on_training_networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []

    def noted(family: HubAndSpoke, split: Split, index: int) -> object:
        splits.append(split)
        return draw_arena(family, split, index)

    monkeypatch.setattr(arena_task, "draw_arena", noted)
    fresh = HUBS.model_copy(update={"name": "never-drawn-before"})
    ArenaTask([Table(fresh, True, 1)], EnvSettings(rounds=2), networks=2, joint_state=False)
    assert set(splits) == {Split.TRAINING}


def test_rewards_count_alike_on_networks_of_all_prices() -> None:
    scales = []
    for ppm in (500, 1_000):
        limit = PATHS.fee_limit.model_copy(update={"median_ppm": ppm})
        family = PATHS.model_copy(update={"fee_limit": limit, "name": "paths"})
        ground = arena_task._Ground.of(Table(family, True, 1), Split.TRAINING, 0)
        scales.append(arena_task.reward_scale(ground, 1_000))
    assert scales[0] == pytest.approx(2 * scales[1], rel=0.01)


def test_a_training_is_the_same_each_time_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = some_training()
    school.train(training, tmp_path / "whole")
    assert school.is_finished(tmp_path / "whole")

    def interrupted(iteration: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_run, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        school.train(training, tmp_path / "parts", progress=interrupted)
    assert not school.is_finished(tmp_path / "parts")
    iterations: list[int] = []
    school.train(training, tmp_path / "parts", progress=iterations.append)
    assert iterations[-1] == 2
    whole, parts = (tmp_path / name / train_run.CHECKPOINT for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    school.train(training, tmp_path / "whole", progress=interrupted)  # there is nothing to do


def test_each_training_has_an_id_of_its_own() -> None:
    trainings = definition().trainings()
    assert len({one.id for one in trainings}) == len(trainings) == 2 * 2 * 2
    assert [one.id for one in trainings] == [one.id for one in definition().trainings()]


def test_learners_compete_with_the_others(tmp_path: Path) -> None:
    results = Results(tmp_path)
    told: list[tuple[int, int]] = []
    made = run_experiment(
        definition(),
        results,
        Here(),
        progress=lambda done, count: None,
        training=lambda done, count: told.append((done, count)),
    )
    # Two networks of two families against two fields, for one rule and two trainings of 4 learners.
    assert made == len(definition().runs()) == 2 * 2 * 2 * (1 + 2 * 4)
    assert told[-1] == (8 * 2, 8 * 2)
    found = results.query("SELECT DISTINCT contestant FROM runs")["contestant"]
    assert set(found) == {
        "as-found",
        "ippo-competitive",
        "ippo-cooperative",
        "mean-field-competitive",
        "mean-field-cooperative",
    }
    assert run_experiment(definition(), results, Here(), progress=lambda *_: None) == 0
    spec = next(one for one in definition().runs() if one.contestant.name == "ippo-competitive")
    training = spec.contestant.training  # type: ignore[union-attr]
    team = school.read_team(tmp_path, training)
    assert replace(play(spec, team), seconds=0.0) == replace(play(spec, team), seconds=0.0)


def test_every_training_plays_every_network() -> None:
    played = [
        (one.contestant.name, one.training, one.index, one.family.name, one.field.name)
        for one in definition().runs()
        if one.contestant.kind == "learned"
    ]
    assert len(set(played)) == len(played) == 4 * 2 * 2 * 2 * 2
    assert {one.training for one in definition().runs() if one.contestant.kind != "learned"} == {0}
    assert definition().trainings_of()["ippo-competitive"] == (0, 1)
    assert definition().trainings_of()["as-found"] == (0,)


SMALL = definition(
    TEXT.replace("[ippo, mean-field]", "[ippo]")
    .replace("rewards: {competitive: {}, ", "rewards: {")
    .replace("fields: [same, as-found]", "fields: [as-found]")
)
"""One learner, two trainings, four runs of each."""


def run_small(results: Results, chosen: Definition = SMALL) -> int:
    return run_experiment(chosen, results, Here(), progress=lambda *_: None)


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    assert run_small(Results(folder)) == 12
    return folder


@pytest.fixture(name="results")
def _results(made: Path, tmp_path: Path) -> Results:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Results(tmp_path)


def test_what_is_finished_needs_no_training(results: Results, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / school.FOLDER)
    assert run_small(results) == 0
    assert not (tmp_path / school.FOLDER).exists()
    # A further network: then the teams are needed again, and are what they were.
    more = SMALL.model_copy(update={"seeds": 3})
    assert run_small(results, more) == 2 * 3
    assert read_scores(more, results).complete


def test_results_of_another_team_are_made_again(results: Results, tmp_path: Path) -> None:
    first, second = SMALL.trainings()
    checkpoint = school.folder_of(tmp_path, first) / train_run.CHECKPOINT
    other = school.folder_of(tmp_path, second) / train_run.CHECKPOINT
    team = checkpoint.read_bytes()
    sql = "SELECT run, team, fees_msat FROM runs ORDER BY run"
    before = results.query(sql)
    assert set(before["team"]) == {"", school.digest(team), school.digest(other.read_bytes())}
    checkpoint.write_bytes(other.read_bytes())
    assert run_small(results) == 4
    assert set(results.query(sql)["team"]) == {"", school.digest(other.read_bytes())}
    assert results.query(sql)["run"] == before["run"]
    checkpoint.write_bytes(team)
    assert run_small(results) == 4
    assert results.query(sql) == before


def test_a_mixture_of_teams_has_no_scores(results: Results, tmp_path: Path) -> None:
    assert read_scores(SMALL, results).complete
    one = next(spec for spec in SMALL.runs() if spec.training == 1)
    stranger = school.read_team(tmp_path, SMALL.trainings()[0])
    results.append(play(one, stranger))
    with pytest.raises(ExperimentError, match="ippo-cooperative, training 1, were made by diff"):
        read_scores(SMALL, results)
    assert run_small(results) == 1
    assert read_scores(SMALL, results).complete


def test_what_cannot_be_learned_is_refused_by_name(tmp_path: Path) -> None:
    wrong = definition(TEXT.replace("hidden: 8", "hiden: 8")).trainings()[0]
    with pytest.raises(ExperimentError, match="hiden: unknown key"):
        school.train(wrong, tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        school.read_team(tmp_path, some_training(seed=7))
    with pytest.raises(ValueError, match="checkpoint"):
        play(next(one for one in definition().runs() if one.contestant.kind == "learned"))


def test_seats_in_training_are_those_of_a_contestant() -> None:
    ground = arena_task._Ground.of(Table(HUBS, False, 1), Split.TRAINING, 1)
    places = [ground.arena.agents.index(name) for name in ground.agents]
    first = seed_of("seats", "hubs", 1) % 2
    assert places == [first, first + 2]


def test_what_was_trained_elsewhere_is_taken_over(tmp_path: Path) -> None:
    training = some_training()
    checkpoint = school.trained((training, tmp_path / "there"))
    school.keep(training, tmp_path / "here", checkpoint)
    assert school.is_finished(tmp_path / "here")
    there, here = (tmp_path / name / train_run.CHECKPOINT for name in ("there", "here"))
    assert there.read_bytes() == here.read_bytes() == checkpoint
    school.keep(training, tmp_path / "here", b"another")
    assert here.read_bytes() == checkpoint


def test_the_definition_that_comes_along_is_whole() -> None:
    chosen = load_definition("learning")
    nine = {
        f"{algorithm}-{reward}"
        for algorithm in ("ippo", "mappo", "mean-field")
        for reward in ("competitive", "mixed", "cooperative")
    }
    assert nine <= set(chosen.names())
    assert {f"{one}-features" for one in nine} <= set(chosen.names())
    assert {one.name for one in chosen.contestants} == {"as-found", *HEURISTICS}
    assert chosen.stress is not None
    assert nine <= set(chosen.stress.contestants)
    assert min(len(each) for _, each in chosen.learned()) >= 3
    for training in chosen.trainings():
        training.settings()
