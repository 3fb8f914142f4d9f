"""Which port of 127.0.0.1 each service of a network listens on."""

from __future__ import annotations

import errno
import random
import socket

from lnagents.model.errors import PortInUseError
from lnagents.model.topology import Topology

HOST = "127.0.0.1"

FREE_PORTS = range(10_000, 32_000)
"""Where free ports are looked for: below what Linux gives to outgoing connections (32768 and up,
`ip_local_port_range`), so that none takes one between our check and a program's start."""
ATTEMPTS = 200


def port_names(topology: Topology) -> tuple[str, ...]:
    """What every port is for, in the order in which they are numbered from `base_port`."""
    names = ["bitcoind RPC", "bitcoind ZMQ blocks", "bitcoind ZMQ transactions"]
    for node in topology.nodes:
        names += [f"{node.name} gRPC", f"{node.name} peers"]
    for seller in topology.sellers:
        names += [
            f"{seller.node} Aperture",
            f"{seller.node} hint service",
            f"{seller.node} pricer",
        ]
    return tuple(names)


def assign_ports(topology: Topology) -> dict[str, int]:
    """A port for each name of `port_names`: from `base_port` on, or free ones if that is 0.

    Raises:
        PortInUseError: one is taken; says which, and who wants it.
    """
    names = port_names(topology)
    if topology.base_port:
        ports = {name: topology.base_port + index for index, name in enumerate(names)}
        for name, port in ports.items():
            if not _is_free(port):
                raise PortInUseError(
                    f"port {port} on {HOST} is in use by another program, and {name} wants it;"
                    " end that program or change base_port in the topology"
                )
        return ports
    for _ in range(ATTEMPTS):
        # Any free block of ports serves, nothing secret about it.
        first = random.randrange(FREE_PORTS.start, FREE_PORTS.stop - len(names))  # noqa: S311
        if all(_is_free(port) for port in range(first, first + len(names))):
            return {name: first + index for index, name in enumerate(names)}
    raise PortInUseError(
        f"no {len(names)} free ports in a row between {FREE_PORTS.start} and {FREE_PORTS.stop}"
    )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the programs do, so that connections which ended a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
