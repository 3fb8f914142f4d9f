from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain import debian, ensure_toolchain, golang
from lnagents.testbed.toolchain.processes import run_program
from lnagents.testbed.toolchain.programs import Product, parse_version, probe_version

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt")

DEB822 = """\
Types: deb
URIs: http://mirror.invalid/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main contrib
"""
ONE_LINE = """\
# deb http://disabled.invalid/debian bookworm main
deb [arch=amd64] https://packages.invalid/apt cloud-bookworm main
deb http://mirror.invalid/debian bookworm main
"""
UBUNTU = "deb http://ubuntu.invalid/ubuntu noble main universe\n"


def use_sources(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = folder / "sources.list.d"
    parts.mkdir()
    (parts / name).write_text(text)
    configuration = folder / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::sourcelist "-";\nDir::Etc::sourceparts "{parts}";\nAPT::Architecture "amd64";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))


@needs_apt
@pytest.mark.parametrize(("name", "text"), [("a.sources", DEB822), ("a.list", ONE_LINE)])
async def test_the_mirror_is_taken_from_the_sources_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    use_sources(tmp_path, name, text, monkeypatch)
    assert await debian.find_mirror() == "http://mirror.invalid/debian/"


@needs_apt
async def test_without_a_debian_mirror_the_user_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_sources(tmp_path, "a.list", UBUNTU, monkeypatch)
    with pytest.raises(ToolchainError, match=r"install bitcoind and bitcoin-cli 28 or newer"):
        await debian.find_mirror()


async def test_without_apt_the_user_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"no apt-get .* put them on PATH"):
        await debian.fetch(lambda event: None)


async def test_every_program_runs_and_is_new_enough() -> None:
    toolchain = await ensure_toolchain()
    for product in Product:
        for program in toolchain.programs:
            if program.name in product.program_names:
                version = await probe_version(program.name, program.command)
                assert version == program.version
                assert (parse_version(version) or ()) >= product.minimum


async def test_no_network_is_used_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = await ensure_toolchain()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("GOPROXY", "off")
    again = await ensure_toolchain()

    assert [program.command for program in again.programs] == [
        program.command for program in first.programs
    ]


async def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "children"
    script = f"sleep 600 & echo $! > {marker}; wait"
    with pytest.raises(ToolchainError, match="did not end within"):
        await run_program("sh", "-c", script, timeout=0.5)

    child = int(await asyncio.to_thread(marker.read_text))
    assert await asyncio.to_thread(ends, child)


def ends(process: int) -> bool:
    limit = time.monotonic() + 10
    while is_running(process) and time.monotonic() < limit:
        time.sleep(0.02)
    return not is_running(process)


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    # A child whose parent was killed waits for the system to collect it.
    return status.rpartition(")")[2].split()[0] != "Z"


async def test_go_on_path_tells_its_own_version() -> None:
    found = await golang.go_on_path()
    if found is None:
        pytest.skip("no Go on PATH")
    assert found[1] >= (1, 10)
