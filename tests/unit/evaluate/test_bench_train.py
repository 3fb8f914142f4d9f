from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lnagents.cli import bench
from lnagents.evaluate import bench_train as module
from lnagents.evaluate.bench_train import (
    RIVALS,
    TrainBench,
    TrainBenchSpec,
    TrainSide,
    bench_train,
)
from lnagents.evaluate.bench_train_ours import OurSide
from lnagents.model.errors import InputError, LnagentsError

SPEC = TrainBenchSpec(nodes=8, agents=3, payments=4, rounds=3, environments=2, hidden=4, epochs=2)

ANSWERS = """
import json, sys
spec = json.loads(sys.argv[1])
for turn in range(spec["iterations"]):
    sys.stdin.readline()
    where = {"collect": 1e6 / (1 + turn + spec["rival"]["rows"]), "train": 0.0}
    print(json.dumps({"parameters": spec["hidden"], "where": where}), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a text in the place of the program that runs BenchMARL."""

    def replace(text: str) -> None:
        path = tmp_path / "program.py"
        path.write_text(text)
        monkeypatch.setattr(module, "PROGRAM", path)

    return replace


def silent(text: str) -> None:
    """Nobody looks."""


def test_our_side_says_where_its_time_goes() -> None:
    side = OurSide(SPEC).iterate()
    assert set(side.where) == {"twin", "encode", "arrays", "actor", "train"}
    assert min(side.where.values()) > 0.0
    assert side.steps_per_cpu_second == pytest.approx(1e6 / sum(side.where.values()))
    assert side.parameters > 100


def test_all_sides_take_turns_and_the_quickest_counts(program: Callable[[str], None]) -> None:
    program(ANSWERS)
    told: list[str] = []
    result = bench_train(SPEC, interpreter=Path(sys.executable), turns=2, progress=told.append)
    assert told[1:] == [
        f"{turn}: {side}"
        for turn in ("warming up", "turn 1 of 2", "turn 2 of 2")
        for side in ("ours", *RIVALS)
    ]
    assert result.rivals["benchmarl"].parameters == SPEC.hidden
    ours = result.ours.steps_per_cpu_second
    printed = result.to_json()
    for name, rival in RIVALS.items():
        steps = 4.0 if rival.rows else 3.0
        assert printed[name] == pytest.approx(steps)
        assert printed[name.replace("benchmarl", "ratio")] == pytest.approx(ours / steps)
    assert printed["ours"] == ours
    assert printed["spec"]["agents"] == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [("raise SystemExit('no such module')", "no such module"), ("", "in silence")],
)
def test_a_program_that_ends_by_itself_is_quoted(
    program: Callable[[str], None], text: str, words: str
) -> None:
    program(text)
    with pytest.raises(LnagentsError, match=f"BenchMARL ended by itself: {words}"):
        bench_train(SPEC, interpreter=Path(sys.executable), turns=1, progress=silent)


def test_without_benchmarl_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make bench-env"):
        bench_train(SPEC, interpreter=tmp_path / "python", progress=silent)


def test_agents_must_fit_the_network() -> None:
    with pytest.raises(InputError, match="--agents: 9 is not between 1 and the network's 8"):
        TrainBenchSpec(nodes=8, agents=9).network()


def test_the_command_prints_json_or_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def measured(spec: TrainBenchSpec, **arguments: Any) -> TrainBench:
        given.update(arguments, spec=spec)
        ours = TrainSide(10_000, {"collect": 100.0, "train": 300.0})
        rivals = {
            "benchmarl": TrainSide(10_000, {"collect": 4_000.0, "train": 800.0}),
            "benchmarl_mlp": TrainSide(60_000, {"collect": 3_000.0, "train": 200.0}),
        }
        return TrainBench(spec, ours, rivals)

    monkeypatch.setattr(module, "bench_train", measured)
    done = CliRunner().invoke(bench.app, ["train", "--json", "--turns", "3", "--hidden", "16"])
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    assert printed["ours"] == pytest.approx(2_500.0)
    assert printed["benchmarl"] == pytest.approx(1e6 / 4_800.0)
    assert printed["ratio"] == pytest.approx(12.0)
    assert printed["ratio_mlp"] == pytest.approx(8.0)
    assert (given["turns"], given["spec"].hidden, given["spec"].agents) == (3, 16, 10)
    table = CliRunner().invoke(bench.app, ["train"]).stdout
    assert "Times as fast: 12.0 (to benchmarl), 8.0 (to benchmarl_mlp)." in table
