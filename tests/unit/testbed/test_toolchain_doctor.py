from __future__ import annotations

import socket

import pytest

from lnagents.testbed.toolchain import doctor
from lnagents.testbed.toolchain.doctor import GIB, Status


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
    assert "Docker Compose" in check.advice


def test_published_ports_are_read_in_each_form_that_compose_knows() -> None:
    text = """
services:
  bitcoind: {}
  alice: {ports: ["127.0.0.1:10009:10009", "9735:9735"]}
  bob:
    ports:
      - {target: 10009, published: "10010", host_ip: 127.0.0.1}
      - {target: 9735}
"""
    assert doctor.published_ports(text) == [9735, 10009, 10010]
