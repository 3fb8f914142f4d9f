"""The script of the documentation runs, is short, and learns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lnagents.env

SCRIPT = Path(__file__).parents[3] / "docs" / "train_any_learner.py"


def test_the_training_script_learns_on_the_twin(capsys: pytest.CaptureFixture[str]) -> None:
    text = SCRIPT.read_text()
    assert text.count("\n") < 30
    short = text.replace("range(40)", "range(14)")
    assert short != text
    exec(compile(short, str(SCRIPT), "exec"), {"__name__": "__main__"})  # noqa: S102
    found = re.findall(r"\d+: ([\d,]+) sat in fees", capsys.readouterr().out)
    fees = [int(one.replace(",", "")) for one in found]
    assert len(fees) == 14
    # Agents find fees that bring almost nothing.
    assert sum(fees[-3:]) > 4 * sum(fees[:3])


def test_the_script_has_the_line_for_live_nodes() -> None:
    assert '# world = LiveWorld(load_topology("default"))' in SCRIPT.read_text()


def test_the_readme_shows_the_script() -> None:
    assert SCRIPT.read_text() in (SCRIPT.parents[1] / "README.md").read_text()


def test_all_that_is_promised_is_there() -> None:
    for name in lnagents.env.__all__:
        assert getattr(lnagents.env, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        lnagents.env.Nothing  # noqa: B018


def test_a_daemon_does_not_load_the_twin() -> None:
    """Beside a node neither numba nor PettingZoo need to be installed, nor torch be loaded."""
    code = (
        "import sys, lnagents.env, lnagents.agent.rounds\n"
        "heavy = {'numba', 'pettingzoo', 'gymnasium', 'matplotlib', 'scipy', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
