from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.evaluate.train_run import read_config, read_log
from lnagents.model.errors import ConfigError

CONFIG = """
task: {networks: [default], environments: 1, rounds: 3, payments_per_round: 5}
train: {algorithm: mappo, iterations: 3, hidden: 4, epochs: 1}
"""


def test_a_run_is_trained_once_and_can_be_resumed_at_any_time(tmp_path: Path) -> None:
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    options = ["--run", str(run), "--seed", "7", "--iterations", "2"]
    trained = CliRunner().invoke(app, ["train", str(config), *options])
    assert trained.exit_code == 0, trained.output
    assert "Finished: 2 iterations." in trained.output
    assert read_config(run / "config.yaml").seed == 7
    assert len(read_log(run)) == 2
    assert list(run.glob("events.out.tfevents.*"))

    resumed = CliRunner().invoke(app, ["resume", str(run)])
    assert resumed.exit_code == 0, resumed.output
    assert len(read_log(run)) == 2


def test_what_is_no_run_is_not_resumed(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["resume", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "is no training run" in str(result.exception)


def test_a_configuration_that_is_wrong_leaves_no_folder(tmp_path: Path) -> None:
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(CONFIG + "seeds: 1\n")
    result = CliRunner().invoke(app, ["train", str(config), "--run", str(run)])
    assert isinstance(result.exception, ConfigError)
    with pytest.raises(ConfigError, match="seeds: unknown key"):
        raise result.exception
    assert not run.exists()
