"""Studies of learners: they improve, go on after an interruption, and end when it is enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.evaluate.reference import learn_runs, mpe
from lnagents.evaluate.reference.learn_runs import keep_rules, settings_of, train
from lnagents.evaluate.reference.study import (
    DEFINITION,
    LearnerSpec,
    LearnRun,
    TaskName,
    load_study,
    read_result,
    read_rules,
    write_json,
)
from lnagents.model.errors import ConfigError, InputError

ROOT = Path(__file__).parents[4]
TINY = {"hidden": 8, "epochs": 4, "learning_rate": 5e-3, "discount": 0.9}


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn_runs, "LOOK_EPISODES", 20)
    monkeypatch.setattr(learn_runs, "FINAL_EPISODES", 10)


def run_of(task: TaskName = TaskName.CROWD, algorithm: str = "ippo", **changes: Any) -> LearnRun:
    spec = {"train": TINY, "environments": 4, "steps": 800, "check": 160, **changes}
    return LearnRun(task, algorithm, 3, LearnerSpec.model_validate(spec))


def times_apart(points: Any) -> list[dict[str, Any]]:
    return [point.model_dump(exclude={"cpu_seconds"}) for point in points]


def test_a_run_that_was_interrupted_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run = run_of()
    whole = train(run, tmp_path / "whole")
    assert whole is not None
    assert [point.steps for point in whole.curve] == [160, 320, 480, 640, 800]
    assert whole.stopped == "steps"

    told: list[int] = []
    parted = tmp_path / "parted"
    stops = iter([False, False, True])
    assert train(run, parted, stopped=lambda: next(stops)) is None
    lines = (parted / learn_runs.LOOKS).read_text()
    # As if it had been killed later, after a look and before the checkpoint.
    later = whole.curve[1].model_copy(update={"score": 1.0})
    (parted / learn_runs.LOOKS).write_text(f"{lines}{later.model_dump_json()}\n")
    resumed = train(run, parted, progress=lambda now: told.append(now.steps))
    assert resumed is not None
    assert told[0] == 320  # three iterations of 80 steps were kept
    assert times_apart(resumed.curve) == times_apart(whole.curve)
    assert resumed.final == whole.final
    again = train(run, parted)  # nothing is left to do but to look
    assert again == resumed


def test_a_run_ends_when_it_is_good_enough(tmp_path: Path) -> None:
    first = train(run_of(enough=-100.0), tmp_path)
    assert first is not None
    assert (first.steps, first.stopped) == (160, "enough")
    assert train(run_of(enough=-100.0), tmp_path) == first
    # With a higher aim the same run goes on.
    further = train(run_of(enough=0.0), tmp_path)
    assert further is not None
    assert (further.steps, further.stopped) == (800, "steps")
    assert further.curve[0] == first.curve[0]


def test_learners_of_spread_are_judged_by_mpe2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[tuple[int, int]] = []
    play = mpe.play

    def noted(actor: mpe.Actor, episodes: int, seed: int) -> Any:
        played.append((episodes, seed))
        return play(actor, episodes, seed)

    monkeypatch.setattr(mpe, "play", noted)
    result = train(run_of(TaskName.SPREAD, "mappo", steps=200, check=200), tmp_path)
    assert played == [(10, learn_runs.FINAL_SEED)]
    assert result is not None
    assert result.final.low < result.final.mean < result.final.high < -20.0
    assert result.curve[-1].explored < -20.0
    assert result.episodes == 10


def test_a_few_iterations_make_spread_better(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"steps": 40_000, "check": 4_000, "environments": 32}
    result = train(run_of(TaskName.SPREAD, **spec), tmp_path)
    assert result is not None
    assert result.curve[-1].explored > result.curve[0].explored + 5.0
    assert 0.0 < result.curve[0].cpu_seconds < result.cpu_seconds


def test_settings_are_checked_with_their_place() -> None:
    assert settings_of(run_of(steps=1_000)).iterations == 12
    for train_settings, problem in (
        ({"hidden": 0}, "tasks.crowd.ippo: train: hidden"),
        ({"wideness": 8}, "wideness: unknown key"),
        ({"iterations": 8}, "iterations: unknown key"),
    ):
        with pytest.raises(ConfigError, match=problem):
            settings_of(run_of(train=train_settings))
    with pytest.raises(ConfigError, match="none of ippo, mappo, mean-field"):
        settings_of(run_of(algorithm="dqn"))


def test_results_are_of_the_study_they_lie_in(tmp_path: Path) -> None:
    run = run_of(steps=160)
    assert read_result(tmp_path, run) is None
    result = train(run, tmp_path / "work")
    assert result is not None
    path = tmp_path / "crowd-ippo-3.json"
    write_json(path, result.to_json())
    assert read_result(tmp_path, run) == result
    with pytest.raises(ConfigError, match=r"other settings than runs\.yaml says"):
        read_result(tmp_path, run_of(steps=320))
    path.write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        read_result(tmp_path, run)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="task: missing"):
        read_result(tmp_path, run)


def test_the_rules_of_a_crowd_stand_in_the_right_order(tmp_path: Path) -> None:
    keep_rules(tmp_path, TaskName.CROWD)
    scores = [score.mean for score in read_rules(tmp_path)[TaskName.CROWD].values()]
    assert scores == sorted(scores)
    assert len(scores) == 4


def test_the_committed_study_and_its_results_belong_together() -> None:
    study = load_study(ROOT / "bench" / "learn")
    runs = study.runs()
    for run in runs:
        settings_of(run)
        result = read_result(study.folder, run)
        assert result is None or (result.algorithm, result.seed) == (run.algorithm, run.seed)
    assert {run.seed for run in runs} == set(study.file.seeds)
    chosen = study.runs(tasks=["spread"], algorithms=["mappo"], seeds=[7], steps=10)
    assert [(run.name, run.spec.steps) for run in chosen] == [("spread-mappo-7", 10)]


def test_the_command_trains_what_is_missing_and_shows_all(tmp_path: Path) -> None:
    study, work = tmp_path / "study", tmp_path / "work"
    study.mkdir()
    spec = {"train": TINY, "environments": 4, "steps": 160, "check": 80}
    tasks = {"crowd": {"ippo": spec, "mean-field": spec}}
    (study / DEFINITION).write_text(yaml.safe_dump({"seeds": [1], "tasks": tasks}))
    command = ["bench", "learn", str(study), "--work", str(work)]

    done = CliRunner().invoke(app, [*command, "--algorithm", "ippo"])
    assert done.exit_code == 0, done.output
    before = (study / "crowd-ippo-1.json").read_bytes()
    shown = CliRunner().invoke(app, [*command, "--show", "--json"])
    assert json.loads(shown.stdout)["missing"] == 1
    done = CliRunner().invoke(app, [*command, "--json"])
    printed = json.loads(done.stdout)
    assert [one["algorithm"] for one in printed["runs"]] == ["ippo", "mean-field"]
    assert printed["missing"] == 0
    assert "optimum" in printed["rules"]["crowd"]
    assert (study / "crowd-ippo-1.json").read_bytes() == before
    assert (study / "curves.png").read_bytes().startswith(b"\x89PNG")
    for option in ("--task", "--algorithm"):
        refused = CliRunner().invoke(app, [*command, option, "chess"])
        assert isinstance(refused.exception, InputError)
        assert f"{option}: no 'chess' in the study" in str(refused.exception)
