"""Jobs are done wherever, once more if their process died, and errors come back as they were."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.evaluate.cluster import make_executor
from lnagents.evaluate.executors import Call, Executor, Here, Processes, on_this_machine
from lnagents.model.errors import ExperimentError, LnagentsError
from tests.unit.evaluate import jobs


@pytest.mark.parametrize("executor", [Here(), Processes(2)])
def test_all_jobs_are_done(executor: Executor) -> None:
    done = dict(executor.run(jobs.doubled, range(5)))
    assert done == {place: 2 * place for place in range(5)}
    assert dict(executor.run(jobs.doubled, [])) == {}
    with pytest.raises(ExperimentError, match=r"^some.yaml: job \d is wrong$") as caught:
        list(executor.run(jobs.refuses, range(3)))
    assert caught.value.source == "some.yaml"


def test_processes_share_the_jobs() -> None:
    import os

    pids = {pid for _, pid in Processes(2).run(jobs.process_of, range(8))}
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_what_a_killed_process_did_is_done_again(tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    done = list(Processes(2).run(jobs.dies_once, [(str(mark), number) for number in range(6)]))
    assert mark.exists()
    assert sorted(done) == [(number, number) for number in range(6)]


def test_who_always_dies_is_not_tried_for_ever() -> None:
    with pytest.raises(LnagentsError, match="died 3 times"):
        list(Processes(2).run(jobs.dies, [1]))


def test_the_machine_is_used_as_far_as_one_is_asked() -> None:
    assert isinstance(on_this_machine(1), Here)
    assert isinstance(on_this_machine(2), Processes)


def test_a_worker_of_another_version_refuses() -> None:
    with pytest.raises(LnagentsError, match=r"but 0\.0\.1 is needed"):
        Call(jobs.doubled, version="0.0.1")(1)


def test_without_ray_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LnagentsError, match=r"pip install 'lnagents\[ray\]'"):
        make_executor("10.0.0.1:6379", None, ())
    result = CliRunner().invoke(app, ["experiment", "run", "heuristics", "--cluster", "local"])
    assert "Ray, which is not installed" in str(result.exception)
