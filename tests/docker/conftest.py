"""Docker tests need an engine. Without one they are skipped, with the reason; with REQUIRE_DOCKER=1
they fail.

`.ci/docker-engine start` installs and starts one on a bare Debian machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def _missing() -> str:
    """What Docker lacks here, in one sentence; empty if nothing."""
    if shutil.which("docker") is None:
        return "the program `docker` is not installed"
    for what, command in (
        ("no Docker engine answers", ["docker", "info"]),
        ("the Compose plugin is not installed", ["docker", "compose", "version"]),
    ):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if answer.returncode != 0:
            lines = (answer.stderr or answer.stdout).strip().splitlines() or ["no reason given"]
            return f"{what}: {lines[-1]}"
    return ""


@pytest.fixture(scope="session", autouse=True)
def docker_engine() -> None:
    """An engine with Compose, or no test."""
    reason = _missing()
    if not reason:
        return
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1, but {reason}", pytrace=False)
    pytest.skip(reason)
