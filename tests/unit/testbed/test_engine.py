from __future__ import annotations

import gc
import socket
from pathlib import Path

import pytest

from lnagents.model.errors import BackendError, ToolchainError
from lnagents.testbed import engine
from lnagents.testbed.compose import bindable
from lnagents.testbed.engine import Engine, compose, engine_errors


@pytest.fixture
def docker_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `docker` of the test's, the only one on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "docker"


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


# The client's library leaves a socket that cannot connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_an_engine_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(ToolchainError, match="start one, or use the native backend"):
        Engine("project")
    gc.collect()


async def test_without_the_program_the_error_names_it(docker_program: Path) -> None:
    with pytest.raises(ToolchainError, match="`docker` is missing"):
        await compose(["version"], environment={}, timeout=10)


async def test_a_failing_command_is_told_with_its_last_lines(docker_program: Path) -> None:
    write_program(docker_program, "echo one; echo 'no space left' >&2; exit 17")
    with pytest.raises(BackendError, match=r"(?s)compose up` failed \(17\).*no space left"):
        await compose(["up"], environment={}, timeout=10)


async def test_a_command_that_hangs_is_ended(docker_program: Path) -> None:
    write_program(docker_program, "exec /bin/sleep 60")
    with pytest.raises(BackendError, match=r"compose build` did not end within 0\.2 s"):
        await compose(["build"], environment={}, timeout=0.2)


async def test_builds_trust_the_hosts_authorities(
    docker_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(docker_program, 'echo "$SSL_CERT_FILE"')
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setattr(engine, "CERTIFICATE_BUNDLES", ("/nowhere.pem", str(bundle)))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert await compose(["build"], environment={}, timeout=10) == f"{bundle}\n"
    monkeypatch.setenv("SSL_CERT_FILE", "/chosen.pem")
    assert await compose(["build"], environment={}, timeout=10) == "/chosen.pem\n"


def test_what_a_full_disk_does_is_one_sentence() -> None:
    with (
        pytest.raises(BackendError, match=r"saving data: \[Errno 28\] No space left"),
        engine_errors("saving data"),
    ):
        raise OSError(28, "No space left on device")


def test_daemons_listen_on_loopback_where_the_bridge_is_elsewhere() -> None:
    # Reserved for documentation (RFC 5737), so no host has it.
    assert bindable("192.0.2.1") == "127.0.0.1"
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        assert bindable("127.0.0.2") == "127.0.0.2"
