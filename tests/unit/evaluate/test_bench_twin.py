from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnagents.cli import bench
from lnagents.evaluate.bench_twin import TwinBench, TwinBenchRow, bench_twin, measure_graph
from lnagents.model.errors import TopologyError


def row(nodes: int, payments_per_cpu_second: float) -> TwinBenchRow:
    return TwinBenchRow(nodes, 5 * nodes, 100, payments_per_cpu_second, 1.0, 1.0, 200.0, 900.0)


def test_growth_is_a_power_of_the_size() -> None:
    bench = TwinBench((row(100, 8_000.0), row(1_000, 800.0), row(10_000, 80.0)))
    assert bench.growth == pytest.approx({"nodes": 1.0, "channels": 1.0})
    assert TwinBench((row(100, 8_000.0), row(400, 4_000.0))).growth["nodes"] == pytest.approx(0.5)


def test_json_of_one_network_and_of_several() -> None:
    one, two = row(100, 8_000.0), row(200, 5_000.0)
    assert TwinBench((one,)).to_json() == asdict(one)
    assert TwinBench((one,)).growth == {}
    several = TwinBench((one, two)).to_json()
    assert several["networks"] == [asdict(one), asdict(two)]
    assert set(several["growth"]) == {"nodes", "channels"}


def test_a_network_is_measured() -> None:
    measured = measure_graph(12, 40)
    assert (measured.nodes, measured.channels, measured.payments) == (12, 35, 40)
    assert measured.payments_per_cpu_second > 0
    assert measured.success > 0.5
    assert measured.attempts >= measured.success
    assert measured.peak_rss_mb > 20
    assert measured.bytes_per_channel >= 0


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="payments: 0"):
        bench_twin((20,), payments=0, progress=lambda _: None)
    missing = tmp_path / "none.csv"
    with pytest.raises(TopologyError, match=r"none\.csv"):
        bench_twin((missing,), progress=lambda _: None)
    result = CliRunner().invoke(bench.app, ["twin", "--graph", str(missing)])
    assert isinstance(result.exception, TopologyError)
