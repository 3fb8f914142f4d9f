from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnagents.cli import topology, twin
from lnagents.model.errors import TopologyError, WorkloadError
from lnagents.model.topology import parse_topology

SNAPSHOT = """\
chan,node1,node2,capacity_sat,dir,disabled,htlc_min_msat,htlc_max_msat,base_msat,ppm,cltv
1,0,1,500000,0,0,1,495000000,0,10,34
1,0,1,500000,1,0,1000,495000000,1000,1,80
2,1,2,2000000,1,0,1,1980000000,5,20,40
2,1,2,2000000,0,0,1,1980000000,6,30,40
3,0,2,90000,0,1,1,89000000,0,0,144
3,0,2,90000,1,0,1,89000000,0,1,144
"""


@pytest.fixture
def snapshot(tmp_path: Path) -> str:
    path = tmp_path / "snapshot.csv.gz"
    path.write_bytes(gzip.compress(SNAPSHOT.encode()))
    return str(path)


def test_describe_a_snapshot(snapshot: str) -> None:
    result = CliRunner().invoke(twin.app, ["describe", snapshot, "--json"])
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert (figures["nodes"], figures["channels"], figures["pairs"]) == (3, 2, 2)
    assert figures["capacity_sat"] == 2_500_000
    assert figures["disabled_share"] == 0
    assert figures["fee_rate_ppm_quantiles"][2] == 15
    every = CliRunner().invoke(twin.app, ["describe", snapshot, "--all", "--json"])
    figures = json.loads(every.stdout)
    assert figures["channels"] == 3
    assert figures["disabled_share"] == pytest.approx(1 / 6)


def test_describe_for_people() -> None:
    result = CliRunner().invoke(twin.app, ["describe", "default"])
    assert result.exit_code == 0
    assert "7 nodes, 12 channels" in result.stdout
    assert "fee rate, ppm" in result.stdout


def test_sample(snapshot: str) -> None:
    result = CliRunner().invoke(
        topology.app, ["sample", snapshot, "--nodes", "3", "--name", "mine"]
    )
    assert result.exit_code == 0
    drawn = parse_topology(result.stdout, "out")
    assert drawn.name == "mine"
    assert sorted(channel.capacity_sat for channel in drawn.channels) == [500_000, 2_000_000]


@pytest.mark.parametrize("command", [["describe"], ["sample"]])
def test_bad_files_are_input_errors(tmp_path: Path, command: list[str]) -> None:
    app = twin.app if command == ["describe"] else topology.app
    for name in ("nothing", str(tmp_path / "missing.csv")):
        result = CliRunner().invoke(app, [*command, name])
        assert isinstance(result.exception, TopologyError)


def test_run_a_workload() -> None:
    arguments = ["run", "default", "--workload", "busy", "--payments", "200", "--json"]
    result = CliRunner().invoke(twin.app, arguments)
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert figures["payments"] == 200
    assert 100 < figures["settled"] <= 200
    assert 0 < figures["settled_msat"] <= figures["bound_msat"] <= figures["offered_msat"]
    assert 0 < figures["share_of_bound"] <= 1
    assert figures["attempts"] - figures["failed_attempts"] == figures["settled"]
    assert json.loads(CliRunner().invoke(twin.app, arguments).stdout) == figures


def test_run_random_payments(snapshot: str) -> None:
    result = CliRunner().invoke(twin.app, ["run", snapshot, "--payments", "50", "--no-bound"])
    assert result.exit_code == 0
    assert "of 50 payments settled" in result.stdout
    assert "Perfect knowledge" not in result.stdout


def test_a_workload_for_another_network_is_an_input_error(snapshot: str) -> None:
    result = CliRunner().invoke(twin.app, ["run", snapshot, "--workload", "busy"])
    assert isinstance(result.exception, WorkloadError)
    assert "demands[0].sources: unknown node 'alice' in the network" in str(result.exception)
