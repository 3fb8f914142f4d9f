"""The bench of models of other agents: what it compares, and with whom."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.evaluate.bench_opponent import bench_opponent, compare, read_checkpoint
from lnagents.evaluate.experiment.families import ScaleFree
from lnagents.evaluate.train_run import parse_config
from lnagents.learn.opponent_scores import LIQUIDITY, Cases
from lnagents.learn.trainer import Trainer
from lnagents.model.errors import CheckpointError, InputError

FAMILY = ScaleFree(kind="scale-free", name="small", nodes=6, degree=2, agents=4)
CONFIG = """
task: {networks: [default], environments: 2, rounds: 4, payments_per_round: 10}
train: {iterations: 1, hidden: 8, opponent_model: MODE}
"""


def checkpoint(mode: str) -> bytes:
    torch.set_num_threads(1)
    config = parse_config(CONFIG.replace("MODE", mode), "some.yaml")
    trainer = Trainer(config.make_task(), config.train, 1)
    trainer.iterate()
    return trainer.save()


def test_a_model_is_compared_with_naive_forecasts_on_networks_that_it_never_saw() -> None:
    data = checkpoint("features")
    found = bench_opponent(data, FAMILY, rules=("clboss", "same"), networks=2, rounds=5)
    assert {one.rule for one in found} == {"clboss", "same"}
    predictions = {"peer_fee_rate", "competing_fee_rate", "onward_fee_rate", "liquidity", "passing"}
    assert {one.prediction for one in found} == predictions
    for one in found:
        sign = 1.0 if one.measure == "log_likelihood" else -1.0
        for name, naive in one.naive.items():
            gain = one.gain[name]
            assert gain.value == pytest.approx(sign * (one.model.value - naive.value), abs=1e-6)
            assert gain.low <= gain.value <= gain.high
        assert one.gain[one.best_naive].value == min(gain.value for gain in one.gain.values())
    again = bench_opponent(data, FAMILY, rules=("clboss",), networks=2, rounds=5)
    assert again == [one for one in found if one.rule == "clboss"]


def test_naive_forecasts_are_fitted_to_all_runs_and_the_model_is_scored_run_by_run() -> None:
    sure = torch.tensor([[0.98, 0.01, 0.01]]).log()
    one, other = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    runs = [{LIQUIDITY: Cases(sure, one)}, {LIQUIDITY: Cases(sure, other)}]
    found = {(c.prediction, c.measure): c for c in compare("some", runs, (0.1,))}
    likely = found[LIQUIDITY, "log_likelihood"]
    assert likely.model.value == pytest.approx((math.log(0.98) + math.log(0.01)) / 2, rel=1e-4)
    assert likely.model.low == pytest.approx(math.log(0.01), rel=1e-4)
    assert likely.model.high == pytest.approx(math.log(0.98), rel=1e-4)
    assert likely.naive["frequency"].value == pytest.approx(math.log(0.5))
    assert likely.best_naive == "frequency"


def test_a_team_without_a_model_cannot_be_scored() -> None:
    with pytest.raises(InputError, match=r"without a model of other agents \(train.opponent_mod"):
        bench_opponent(checkpoint("none"), FAMILY, rules=("same",), networks=2, rounds=2)


def test_the_command_tells_scripts_and_people(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(checkpoint("gradient"))
    given = ["bench", "opponent", str(tmp_path), "--rule", "aimd", "--nodes", "6", "--agents", "4"]
    given += ["--networks", "2", "--rounds", "4"]
    runner = CliRunner()
    told = runner.invoke(app, [*given, "--json"])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)
    assert {row["rule"] for row in rows} == {"aimd"}
    assert set(rows[0]["model"]) == {"value", "low", "high"}
    shown = runner.invoke(app, given)
    assert shown.exit_code == 0
    assert "competing_fee_rate" in shown.stdout


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read: No such file"):
        read_checkpoint(tmp_path)
    file = tmp_path / "some.pt"
    file.write_bytes(b"nonsense")
    for given, problem in (
        (["--rule", "luck"], "--rule: 'luck' is none of"),
        (["--agents", "9", "--nodes", "8"], "--agents: 9 is more than the networks' 8 nodes"),
    ):
        with pytest.raises(InputError) as caught:
            CliRunner().invoke(
                app, ["bench", "opponent", str(file), *given], catch_exceptions=False
            )
        assert problem in str(caught.value)
