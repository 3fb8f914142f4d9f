"""Runs `lnagents` as a user would, apart from other networks, and sees what stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TINY = """
name: tiny
nodes: [{name: alice}, {name: bob}, {name: carol}]
channels:
  - {from: alice, to: bob, capacity_sat: 1000000}
  - {from: bob, to: carol, capacity_sat: 1000000}
sellers: [{node: carol}]
"""


@dataclass
class Shell:
    """Runs `lnagents` with a registry of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "COLUMNS": "200"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lnagents", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, timeout: float = 120.0) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def topology(self, text: str = TINY) -> str:
        path = self.folder / "tiny.yaml"
        path.write_text(text)
        return str(path)

    def processes(self) -> list[str]:
        """Command lines of what was started with this environment and still runs."""
        wanted = f"XDG_STATE_HOME={self.folder / 'state'}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if command:
                        found.append(command)
        return found

    def assert_nothing_left(self) -> None:
        left = self.processes()
        assert left == [], left
        assert list((self.folder / "state").rglob("*.json")) == []
        assert not (self.folder / "data").exists()
        testbeds = self.folder / "state" / "lnagents" / "testbeds"
        assert not testbeds.exists() or list(testbeds.iterdir()) == []
