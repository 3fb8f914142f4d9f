from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnagents.testbed.processes import (
    ProcessRecord,
    is_alive,
    is_stopped,
    marked,
    send_signal,
    spawn,
    wait_gone,
)
from lnagents.testbed.supervise import FIRST_SECONDS, supervised


class Supervised:
    """A program that writes a line per start, under supervision."""

    def __init__(self, tmp_path: Path) -> None:
        self.mark = secrets.token_hex(8)
        self.log = tmp_path / "log"
        self.record = spawn(
            supervised(["sh", "-c", "echo begins; exec sleep 60"]), self.log, self.mark
        )

    def program(self) -> ProcessRecord:
        """The program itself, once it runs."""
        while True:
            for one in marked(self.mark):
                command = Path(f"/proc/{one.pid}/cmdline")
                if command.exists() and command.read_bytes().startswith(b"sleep\x0060"):
                    return one
            assert is_alive(self.record)
            time.sleep(0.01)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Supervised]:
    service = Supervised(tmp_path)
    yield service
    for one in marked(service.mark):
        send_signal(one, signal.SIGKILL)


def test_what_ends_is_started_again(service: Supervised) -> None:
    first = service.program()
    time.sleep(FIRST_SECONDS)
    assert send_signal(first, signal.SIGKILL)
    assert wait_gone([first], 10)
    again = service.program()
    assert again != first
    assert is_alive(service.record)
    assert service.log.read_text().count("begins") == 2
    assert "ended with 137" in service.log.read_text()


def test_it_is_stopped_on_request_with_all_it_runs(service: Supervised) -> None:
    program = service.program()
    assert send_signal(service.record, signal.SIGTERM)
    assert wait_gone([service.record, program], 10)
    assert service.log.read_text().count("begins") == 1
    assert marked(service.mark) == []


def test_it_is_stopped_between_two_runs(service: Supervised) -> None:
    program = service.program()
    time.sleep(FIRST_SECONDS)
    assert send_signal(program, signal.SIGKILL)
    while "ended with" not in service.log.read_text():
        time.sleep(0.01)
    assert send_signal(service.record, signal.SIGTERM)
    assert wait_gone([service.record], 10)
    assert service.log.read_text().count("begins") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_it_runs_is_killed_and_frozen_with_it(
    service: Supervised, number: signal.Signals
) -> None:
    program = service.program()
    assert send_signal(service.record, number)
    if number is signal.SIGKILL:
        assert wait_gone([service.record, program], 10)
    else:
        while not (is_stopped(program) and is_stopped(service.record)):
            time.sleep(0.01)


def test_a_program_that_cannot_run_is_given_up(tmp_path: Path) -> None:
    record = spawn(supervised(["sh", "-c", "exit 3"]), tmp_path / "log", secrets.token_hex(8))
    assert wait_gone([record], 10)
