"""Processes that outlive the one that started them, known by id and start time.

Every process carries its testbed's mark in its environment. So one that was started a moment before
its starter was killed, too early to be written down, is still found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lnagents.model.errors import BackendError
from lnagents.model.files import StrictModel

MARK_VARIABLE = "LNAGENTS_TESTBED"

_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Python, or the shell that started it, may ignore these; the new process must not."""


class ProcessRecord(StrictModel):
    """One process. Ids are used again by the kernel, ids with start times are not."""

    pid: int
    started: int
    """In clock ticks since the machine booted (`/proc/PID/stat`, field 22)."""


def spawn(
    command: Sequence[str], log: Path, mark: str, environment: Mapping[str, str] | None = None
) -> ProcessRecord:
    """Start `command` in a session of its own, its output appended to `log`; never waits.

    Raises:
        BackendError: it cannot be executed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            {**os.environ, **(environment or {}), MARK_VARIABLE: mark},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=_DEFAULT_SIGNALS,
            setsigmask=(),
        )
    except OSError as exc:
        raise BackendError(f"{command[0]} cannot be started: {exc.strerror}") from exc
    status = _status(pid)
    # It is our child, so its entry stays until we reap it.
    return ProcessRecord(pid=pid, started=status[1] if status else 0)


def own_record() -> ProcessRecord:
    """The process that asks."""
    status = _status(os.getpid())
    return ProcessRecord(pid=os.getpid(), started=status[1] if status else 0)


def is_alive(record: ProcessRecord) -> bool:
    """Whether the process still runs (or is stopped, but not ended)."""
    status = _living(record)
    return status is not None


def is_stopped(record: ProcessRecord) -> bool:
    """Whether the process is frozen by SIGSTOP."""
    status = _living(record)
    return status is not None and status[0] in "Tt"


def send_signal(record: ProcessRecord, number: signal.Signals) -> bool:
    """Send a signal to exactly this process, and to the group that it leads; False if it ended.

    What `spawn` starts leads a group, and what it starts in turn belongs to it.
    """
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle names one process for good, so the check cannot be overtaken.
        if _living(record) is None:
            return False
        if os.getpgid(record.pid) == record.pid:
            # While the process has not been reaped, no other can lead a group of its number.
            os.killpg(record.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_gone(records: Iterable[ProcessRecord], timeout: float) -> bool:
    """Block until all have ended, for at most `timeout` seconds; whether they have."""
    remaining = list(records)
    deadline = time.monotonic() + timeout
    while True:
        remaining = [record for record in remaining if is_alive(record)]
        if not remaining:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)


def marked(mark: str) -> list[ProcessRecord]:
    """All of the user's processes that carry `mark` and their descendants that kept it."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # Processes of others cannot be read, and any may end meanwhile.
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                status = _status(int(entry.name))
                if status is not None:
                    found.append(ProcessRecord(pid=int(entry.name), started=status[1]))
    return found


def _living(record: ProcessRecord) -> tuple[str, int] | None:
    status = _status(record.pid)
    if status is None or status[1] != record.started:
        return None
    if status[0] in "ZX":
        # Ended; if it is a child of ours, this is where its entry goes.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(record.pid, os.WNOHANG)
        return None
    return status


def _status(pid: int) -> tuple[str, int] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may contain anything.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
