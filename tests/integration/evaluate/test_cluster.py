"""Experiments and training on a local Ray: the same results as in one process, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lnagents.evaluate.executors import Here
from lnagents.evaluate.experiment.definition import load_definition
from lnagents.evaluate.experiment.runner import run_experiment
from lnagents.evaluate.results import JOURNAL, Results
from lnagents.evaluate.train_run import CHECKPOINT

pytest.importorskip("ray")

EXPERIMENT = """
name: small
baseline: as-found
contestants: [as-found, thompson, wall]
fields: [as-found]
seeds: 4
rounds: 30
families:
  - {name: paths, kind: competing-paths, routers: 3, ends: 2}
"""

TRAINING = """
task: {networks: [default], environments: 4, rounds: 6, payments_per_round: 20}
train: {algorithm: mappo, iterations: 3, hidden: 8, together: 2, episodes: 2}
"""

SECONDS = 500.0
"""A busy machine needs a minute to begin Ray, and sometimes a second try."""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lnagents", *arguments]


def descendants(ancestor: int) -> dict[int, str]:
    """Command lines of all processes below one, by id."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The name of a program may have spaces and parentheses in it.
                parents[int(folder.name)] = int(
                    (folder / "stat").read_text().rpartition(")")[2].split()[1]
                )
                lines[int(folder.name)] = (folder / "cmdline").read_text()
            except (OSError, IndexError):
                continue  # it has ended meanwhile

    def below(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == ancestor:
                return True
        return False

    return {pid: lines[pid] for pid in parents if pid in lines and below(pid)}


def kill_a_busy_worker(ancestor: int, since: float) -> int:
    """The first worker that is seen at work."""
    while time.monotonic() < since + SECONDS:
        for pid, line in descendants(ancestor).items():
            if line.startswith("ray::perform"):
                os.kill(pid, signal.SIGKILL)
                return pid
        time.sleep(0.005)
    raise TimeoutError("no worker was seen at work")


def test_an_experiment_survives_a_killed_worker(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    arguments = ["--cluster", "local", "--processes", "2", "--out", str(tmp_path / "there")]
    began = time.monotonic()
    with subprocess.Popen(command("experiment", "run", str(path), *arguments)) as process:
        try:
            while not (tmp_path / "there" / JOURNAL).exists():
                assert process.poll() is None
                assert time.monotonic() < began + SECONDS
                time.sleep(0.005)
            started = descendants(process.pid)
            killed = kill_a_busy_worker(process.pid, began)
            assert process.wait(SECONDS) == 0
        finally:
            process.terminate()
    assert killed
    # Nothing stays behind.
    assert not [pid for pid in started if "ray" in _line_of(pid)]
    here = Results(tmp_path / "here")
    run_experiment(load_definition(str(path)), here, Here(), progress=lambda done, count: None)
    sql = "SELECT * EXCLUDE (seconds) FROM runs ORDER BY run"
    there = Results(tmp_path / "there").query(sql)
    assert len(there["run"]) == 12
    assert there == here.query(sql)


def _line_of(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text()
    except OSError:
        return ""


def test_training_on_two_workers_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(TRAINING)
    for name, arguments in {"here": [], "there": ["--cluster", "local", "--workers", "2"]}.items():
        run = ["--run", str(tmp_path / name)]
        subprocess.run(command("train", str(path), *run, *arguments), check=True, timeout=SECONDS)
    saved = [(tmp_path / name / CHECKPOINT).read_bytes() for name in ("here", "there")]
    assert saved[0] == saved[1]
