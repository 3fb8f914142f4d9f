"""The demo, small: every step of it is real, and nothing of it stays behind."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path

from tests.integration.shell import TINY, Shell

PAYMENTS = 12

WORKLOAD = """
name: tiny
payments_per_second: 5
demands:
  - {name: there, sources: [alice], sinks: [carol], amount: {kind: fixed, median_sat: 20000}}
  - {name: back, sources: [carol], sinks: [alice], amount: {kind: fixed, median_sat: 10000}}
"""


def demo_arguments(shell: Shell, out: Path) -> list[str]:
    workload = shell.folder / "workload.yaml"
    workload.write_text(WORKLOAD)
    options = ["--payments", str(PAYMENTS), "--out", str(out), "--workload", str(workload)]
    return ["demo", "--topology", shell.topology(TINY), *options]


def test_the_demo_reports_both_runs_and_leaves_nothing(shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, complaint = shell.run(*demo_arguments(shell, out), "--json", timeout=300)
    assert code == 0, complaint
    assert Path(json.loads(printed)["page"]).stat().st_size > 1_000_000  # plotly is inside

    report = json.loads((out / "report.json").read_text())
    for run in report["runs"].values():
        assert sorted(outcome["index"] for outcome in run["outcomes"]) == list(range(PAYMENTS))
        assert run["audit"]["difference_sat"] == 0
        paid = sum(outcome["fee_msat"] for outcome in run["outcomes"] if outcome["settled"])
        # What senders paid is what forwarders earned; on a line nobody has a use for hints.
        assert paid == sum(forward["fee_msat"] for forward in run["forwards"])
    agents = {agent["name"]: agent for agent in report["runs"]["agents"]["agents"]}
    assert set(agents) == {"alice", "bob", "carol"}
    assert all(agent["rounds"] > 0 for agent in agents.values())
    assert agents["bob"]["fees_earned_msat"] > 0

    with sqlite3.connect(out / "agents" / "alice" / "agent.sqlite") as store:
        (count,) = store.execute(
            "SELECT count(*) FROM payments WHERE purpose = 'payment'"
        ).fetchone()
    store.close()
    assert count == sum(o["source"] == "alice" for o in report["runs"]["agents"]["outcomes"])
    shell.assert_nothing_left()


def test_control_c_during_the_agents_run_stops_everything(shell: Shell, tmp_path: Path) -> None:
    with shell.start(*demo_arguments(shell, tmp_path / "out")) as process:
        while process.poll() is None and not any("agent run" in line for line in shell.processes()):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130, complaint
    shell.assert_nothing_left()


def test_a_workload_that_does_not_fit_starts_nothing(shell: Shell, tmp_path: Path) -> None:
    code, _, complaint = shell.run(
        "demo", "--topology", shell.topology(TINY), "--workload", "default"
    )
    assert code == 2
    assert "demands[0].sinks: unknown node 'frank' in topology 'tiny'" in complaint
    assert complaint.count("\n") == 1
    shell.assert_nothing_left()
