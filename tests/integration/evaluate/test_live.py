"""A live comparison, small: daemons beside real nodes, their twin, and nothing left behind."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.integration.shell import Shell

pytest.importorskip("torch")

from tests.unit.evaluate.live.teams import write_team


def test_real_nodes_and_their_twin_agree(shell: Shell, tmp_path: Path) -> None:
    team = write_team(tmp_path / "team.pt")
    out = tmp_path / "out"
    arguments = ["experiment", "live", "smoke", "--team", str(team), "--out", str(out), "--json"]
    code, printed, complaint = shell.run(*arguments, timeout=600)
    assert code == 0, complaint
    shell.assert_nothing_left()
    report = json.loads(printed)
    assert report["made"] == 3
    assert (out / "live.html").stat().st_size > 1_000_000  # plotly is inside
    for name in ("proportional", "frozen", "online"):
        measures = report["conditions"][name]
        # Routing earns; what announcing costs may be more, as the team is not trained.
        assert measures["profit"][0] <= measures["income"][0]
        assert measures["income"][0] > 0.0
        assert 50.0 < measures["success"][0] <= 100.0
        assert measures["latency"][0] > 0.0
    assert report["conditions"]["online"]["updates"][0] > 0.0
    # Nothing explores here; only a busy machine that reorders payments makes a difference.
    for name in ("proportional", "frozen"):
        assert report["gap"][name]["fees_percent"][0] <= 5.0
        assert report["gap"][name]["success_points"][0] <= 5.0

    # What has a result is not run again.
    code, printed, complaint = shell.run(*arguments, timeout=120)
    assert code == 0, complaint
    assert json.loads(printed)["made"] == 0


def test_control_c_stops_nodes_and_daemons(shell: Shell, tmp_path: Path) -> None:
    team = write_team(tmp_path / "team.pt")
    out = str(tmp_path / "out")
    with shell.start("experiment", "live", "smoke", "--team", str(team), "--out", out) as process:
        while process.poll() is None and not any("agent run" in line for line in shell.processes()):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130, complaint
    shell.assert_nothing_left()
