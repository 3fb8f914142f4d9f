from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from lnagents.cli import bench
from lnagents.evaluate import bench_batch as module
from lnagents.evaluate import bench_twin as twin_module
from lnagents.evaluate.bench_batch import BatchBench, bench_batch
from lnagents.evaluate.bench_twin import TwinBench, TwinBenchRow
from lnagents.twin.generate import barabasi_albert
from lnagents.twin.network import Network

NETWORKS = [barabasi_albert(8, seed, degree=2) for seed in (1, 2, 3)]


def silent(text: str) -> None:
    """Nobody looks."""


def test_threads_take_turns_on_the_same_payments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURNS", 1)
    told: list[str] = []
    result = bench_batch(NETWORKS, payments=20, threads=(1, 2), progress=told.append)
    channels = sum(network.channels for network in NETWORKS)
    assert (result.networks, result.nodes, result.channels) == (3, 24, channels)
    assert result.payments == 60
    assert set(result.payments_per_second) == {1, 2}
    assert min(result.payments_per_second.values()) > 0
    assert [text[:23] for text in told] == 2 * [f"batch of 3, threads: {n}," for n in (1, 2)]


def test_scaling_compares_all_threads_with_one() -> None:
    result = BatchBench(64, 6_400, 30_400, 32_000, {1: 100.0, 4: 350.0})
    assert result.scaling == 3.5
    assert result.to_json()["payments_per_second"] == {"1": 100.0, "4": 350.0}
    assert BatchBench(1, 8, 12, 20, {1: 100.0}).scaling == 1.0


def test_the_command_measures_a_batch_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measured(networks: Sequence[Network], **arguments: Any) -> BatchBench:
        asked.append(len(networks))
        return BatchBench(len(networks), 1, 1, 1, {1: 100.0, 2: 190.0})

    row = TwinBenchRow(100, 475, 10, 1_000.0, 1.0, 1.0, 200.0, 900.0)
    monkeypatch.setattr(module, "bench_batch", measured)
    monkeypatch.setattr(twin_module, "bench_twin", lambda *_, **__: TwinBench((row,)))
    for arguments in ([], ["--batch", "3"], ["--batch", "0"]):
        done = CliRunner().invoke(bench.app, ["twin", "--json", *arguments])
        assert done.exit_code == 0
        assert ("batch" in json.loads(done.stdout)) == (arguments != ["--batch", "0"])
    assert asked == [64, 3]
    assert "(1.90" in CliRunner().invoke(bench.app, ["twin", "--batch", "2"]).stdout
