from __future__ import annotations

import socket

import pytest

from lnagents.testbed import doctor
from lnagents.testbed.doctor import GIB, Status


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ((3, 10), Status.FAILED),
        ((3, 11), Status.OK),
        ((3, 13), Status.OK),
        ((3, 14), Status.FAILED),
    ],
)
def test_pythons_that_are_supported(version: tuple[int, int], status: Status) -> None:
    assert doctor.check_python(version).status is status


@pytest.mark.parametrize(
    ("free", "status"), [(1, Status.FAILED), (3, Status.WARNING), (5, Status.OK)]
)
def test_room_is_judged_by_what_is_needed_and_what_is_better(free: int, status: Status) -> None:
    check = doctor.check_room("disk", free * GIB, 2 * GIB, 4 * GIB, "make room")
    assert check.status is status
    assert check.found == f"{free}.0 GiB free"
    assert check.advice.startswith("make room") is (status is not Status.OK)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other.bind(("127.0.0.1", 0))
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        check = doctor.check_ports([port, free])
    assert check.status is Status.WARNING
    assert check.found == f"in use: {port}"
    assert "Compose backend" in check.advice


def test_free_ports_are_shown_as_a_span() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    check = doctor.check_ports([port])
    assert (check.status, check.found) == (Status.OK, f"{port} to {port} are free")


def test_too_little_tmpfs_only_slows_down() -> None:
    assert doctor.check_tmpfs(4 * GIB, nodes=7).status is Status.OK
    check = doctor.check_tmpfs(64 << 20, nodes=7)
    assert check.status is Status.WARNING
    assert "--shm-size=1g" in check.advice
