from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from lnagents.testbed.toolchain import ensure_toolchain


async def lnagents(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command with nothing in its environment but `environment`: exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lnagents", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def by_name(output: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(output)["checks"]}


async def test_doctor_on_a_machine_with_nothing_says_what_to_do(tmp_path: Path) -> None:
    code, output = await lnagents(
        "doctor", "--json", PATH=str(tmp_path), HOME=str(tmp_path / "home")
    )

    checks = by_name(output)
    assert code == 1
    assert json.loads(output)["ok"] is False
    for name in ("bitcoind and bitcoin-cli", "lnd and lncli", "aperture"):
        assert checks[name]["status"] == "failed"
        assert checks[name]["advice"] == "run `lnagents setup`, which provides it"
    # Docker is only for one of the two backends.
    assert checks["docker engine"]["status"] == "warning"
    assert checks["go"]["status"] == "warning"
    assert checks["python"]["status"] == "ok"
    assert all(check["advice"] for check in checks.values() if check["status"] != "ok")
    assert not (tmp_path / "home").exists()


async def test_doctor_prints_one_line_per_requirement(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    _, as_json = await lnagents("doctor", "--json", **environment)
    _, as_text = await lnagents("doctor", **environment)

    lines = as_text.splitlines()
    assert len(lines) == len(by_name(as_json))
    assert any("✗ aperture" in line and "→ run `lnagents setup`" in line for line in lines)


async def test_setup_finds_what_the_library_finds() -> None:
    toolchain = await ensure_toolchain()
    code, output = await lnagents("setup", "--json", **os.environ)

    assert code == 0
    assert [program["command"] for program in json.loads(output)] == [
        list(program.command) for program in toolchain.programs
    ]
    code, output = await lnagents("doctor", "--json", **os.environ)
    assert by_name(output)["lnd and lncli"]["status"] in {"ok", "warning"}
