"""The search for settings: recorded, resumable, and on training networks only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lnagents.evaluate.executors import Here, Job, Result
from lnagents.evaluate.experiment import tuning
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.experiment.families import Split
from lnagents.evaluate.experiment.tuning import STUDY, tune
from lnagents.evaluate.results import RunResult
from lnagents.model.errors import ExperimentError
from lnagents.model.files import parse_yaml

TEXT = """
name: small
baseline: as-found
contestants: [as-found]
learners:
  algorithms: [ippo]
  rewards: {competitive: {}, cooperative: {mode: cooperative}}
  lessons: {environments: 1, networks: 2, rounds: 2, train: {hidden: 8}}
tuning:
  space: {learning_rate: {low: 0.001, high: 0.01, log: true}, discount: {low: 0.2, high: 0.9}}
  success_worth: {competitive: 0.4, cooperative: 2}
  trials: 3
  iterations: 1
  seeds: 2
  networks: 1
  rounds: 2
fields: [as-found]
seeds: 2
rounds: 3
families:
  - {name: paths, kind: competing-paths, routers: 3, ends: 2}
"""


def definition(text: str = TEXT) -> Definition:
    return parse_yaml(text, "small.yaml", Definition, ExperimentError)


def search(folder: Path, chosen: Definition | None = None, stop: int = 99) -> dict[str, object]:
    """Make the trials, until so many are done."""

    def progress(done: int, count: int) -> None:
        assert count == 2 * 3
        if done == stop:
            raise KeyboardInterrupt

    one = chosen or definition()
    assert one.tuning is not None
    return tune(one, one.tuning, folder, Here(), progress=progress)


def test_a_search_is_recorded_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[RunSpec] = []

    def noted(spec: RunSpec, team: bytes | None = None) -> RunResult:
        played.append(spec)
        return play(spec, team)

    monkeypatch.setattr(tuning, "play", noted)
    whole = search(tmp_path / "whole")
    assert {spec.split for spec in played} == {Split.TRAINING}
    assert {spec.index for spec in played} == {2}  # 0 and 1 were trained on
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", stop=2)
    made = len(played)
    assert search(tmp_path / "parts") == whole
    assert len(played) - made == 1 + 2 * 2 * 2  # the baseline, two trials of two trainings
    found = json.loads((tmp_path / "whole" / STUDY).read_text())
    assert found == whole
    assert set(found["searches"]) == {"competitive", "cooperative"}
    for reward, worth in (("competitive", 0.4), ("cooperative", 2.0)):
        of_reward = found["searches"][reward]
        assert len(of_reward["trials"]) == 3
        assert of_reward["best"] == max(of_reward["trials"], key=lambda one: one["score"])
        for one in of_reward["trials"]:
            assert 0.001 <= one["values"]["learning_rate"] <= 0.01
            assert 0.2 <= one["values"]["discount"] <= 0.9
            assert one["score"] == one["profit_score"] + worth * one["success_points"]


class LastFirst(Here):
    """As several processes, of which the last to begin is the first to be ready."""

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        return reversed(list(super().run(function, jobs)))


def test_the_order_in_which_trainings_end_does_not_matter(tmp_path: Path) -> None:
    one = definition()
    assert one.tuning is not None
    tuning = one.tuning.model_copy(update={"trials": 1})
    apart = tune(one, tuning, tmp_path / "apart", LastFirst())
    assert apart == tune(one, tuning, tmp_path / "here", Here())


def test_what_was_found_can_be_put_into_the_definition(tmp_path: Path) -> None:
    whole = search(tmp_path)
    text = TEXT.replace(
        "rewards:", "by_reward: {competitive: {learning_rate: 0.002, discount: 0.3}}\n  rewards:"
    ).replace("hidden: 8", "hidden: 8, iterations: 7")
    assert search(tmp_path, definition(text)) == whole  # still the record of this search


def test_another_search_does_not_go_on_with_the_record(tmp_path: Path) -> None:
    (tmp_path / STUDY).write_text(json.dumps({"experiment": "x", "search": 1}))
    with pytest.raises(ExperimentError, match="no record of a search"):
        search(tmp_path)
    record = {"experiment": "x", "search": 1, "trainings": 2, "searches": {}}
    (tmp_path / STUDY).write_text(json.dumps(record))
    with pytest.raises(ExperimentError, match="another search"):
        search(tmp_path)


def test_tuning_changes_no_run() -> None:
    without = TEXT[: TEXT.index("tuning:")] + TEXT[TEXT.index("fields:") :]
    assert [one.id for one in definition().runs()] == [one.id for one in definition(without).runs()]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("low: 0.2", "low: 0.9", "0.9 to 0.9 is not a range"),
        ("low: 0.001", "low: 0", "0 to 0.01 is not a range"),
        ("trials: 3", "trials: 0", "tuning.trials"),
        ("competitive: 0.4", "mixed: 0.4", "tuning.success_worth: 'mixed' is none of them"),
    ],
)
def test_wrong_searches_are_refused(before: str, after: str, problem: str) -> None:
    with pytest.raises(ExperimentError, match=problem):
        definition(TEXT.replace(before, after))


def test_there_must_be_learners() -> None:
    without = TEXT[: TEXT.index("learners:")] + TEXT[TEXT.index("tuning:") :]
    with pytest.raises(ExperimentError, match=r"tuning\.success_worth: 'competitive' is none"):
        definition(without)
