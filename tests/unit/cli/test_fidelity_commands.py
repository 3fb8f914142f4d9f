"""The commands around recordings; live networks are left to the integration tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnagents.cli import bench, twin
from lnagents.evaluate.fidelity import write_recording
from lnagents.model.errors import InputError, RecordingError
from tests.unit.evaluate.recordings import REFUSED, SETTLED, make_recording


@pytest.fixture
def folder(tmp_path: Path) -> str:
    write_recording(make_recording(), tmp_path / "one.json")
    return str(tmp_path)


def test_replay_as_json(folder: str) -> None:
    result = CliRunner().invoke(twin.app, ["replay", folder, "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["payments"] == len((SETTLED, REFUSED))
    assert set(document) >= {
        "outcome_agreement",
        "outcome_interval",
        "first_route_agreement",
        "sequence_agreement",
        "balance_mismatches",
        "ties",
        "sets",
        "divergences",
    }
    low, high = document["outcome_interval"]
    assert low <= document["outcome_agreement"] <= high


def test_replay_for_people(folder: str) -> None:
    result = CliRunner().invoke(twin.app, ["replay", folder, "--explain"])
    assert result.exit_code == 0
    assert "line: 3 nodes, 2 channels, 2 payments" in result.stdout
    assert "#1 a→c 400,000 sat" in result.stdout
    assert "first route" in result.stdout
    assert "single" in result.stdout


def test_a_wrong_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("{}")
    result = CliRunner().invoke(twin.app, ["replay", str(path)])
    assert isinstance(result.exception, RecordingError)
    assert str(path) in str(result.exception)


def test_unknown_sets_are_refused() -> None:
    result = CliRunner().invoke(bench.app, ["fidelity", "--set", "easy"])
    assert isinstance(result.exception, InputError)
    assert "no set 'easy' (single, bimodal," in str(result.exception)
