from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
filterwarnings = error
lnagents_topology = line5
"""
TESTS = """
async def test_a_payment_arrives(testbed):
    assert testbed.topology.name == "line5"
    assert (await testbed.pay("alice", "erin", 1_000_000)).settled


async def test_it_is_the_same_network(testbed, testbed_factory):
    assert len(await testbed.client("alice").list_payments()) == 1
"""


def test_other_projects_get_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "test_theirs.py").write_text(TESTS)
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stdout
    assert "2 passed" in answer.stdout
