from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path

import pytest

from lnagents.model.errors import BackendError
from lnagents.testbed.processes import (
    MARK_VARIABLE,
    ProcessRecord,
    is_alive,
    is_stopped,
    marked,
    send_signal,
    spawn,
    wait_gone,
)

SLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]


def started(log: Path, mark: str) -> ProcessRecord:
    record = spawn(SLEEP, log, mark)
    while not log.read_text():
        assert is_alive(record)
    return record


def test_a_process_is_followed_from_start_to_end(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    record = started(tmp_path / "log", mark)
    try:
        assert os.getsid(record.pid) == record.pid
        assert marked(mark) == [record]
        assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
        assert send_signal(record, signal.SIGSTOP)
        while not is_stopped(record):
            pass
        assert is_alive(record)
        assert send_signal(record, signal.SIGCONT)
        assert not wait_gone([record], 0.05)
    finally:
        assert send_signal(record, signal.SIGKILL)
    assert wait_gone([record], 10)
    assert not send_signal(record, signal.SIGKILL)
    assert not is_stopped(record)
    assert marked(mark) == []


def test_a_process_with_the_same_id_is_not_the_same_process() -> None:
    own = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    record = ProcessRecord(pid=os.getpid(), started=int(own[19]))
    assert is_alive(record)
    stranger = ProcessRecord(pid=os.getpid(), started=int(own[19]) - 1)
    assert not is_alive(stranger)
    # Would end this very test.
    assert not send_signal(stranger, signal.SIGKILL)


def test_descendants_keep_the_mark(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    # The shell stays, because it waits for the program.
    record = spawn(["sh", "-c", "sleep 60; true"], tmp_path / "log", mark)
    try:
        while len(found := marked(mark)) < 2:
            assert is_alive(record)
        assert record in found
    finally:
        everyone = marked(mark)
        for each in everyone:
            send_signal(each, signal.SIGKILL)
        assert wait_gone(everyone, 10)


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="/no/such/program cannot be started"):
        spawn(["/no/such/program"], tmp_path / "log", "mark")


def test_further_variables_are_given(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record = spawn(
        ["sh", "-c", f'echo "$COLOUR ${MARK_VARIABLE}"'], log, "red-mark", {"COLOUR": "blue"}
    )
    assert wait_gone([record], 10)
    assert log.read_text() == "blue red-mark\n"
