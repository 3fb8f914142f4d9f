from __future__ import annotations

import socket

import pytest

from lnagents.model.errors import PortInUseError
from lnagents.model.topology import Topology, parse_topology
from lnagents.testbed.ports import FREE_PORTS, assign_ports, port_names


def topology(base_port: int) -> Topology:
    text = f"""
name: tiny
base_port: {base_port}
nodes: [{{name: alice}}, {{name: bob}}]
sellers: [{{node: bob}}]
"""
    return parse_topology(text, "tiny.yaml")


def test_free_ports_are_in_a_row_and_out_of_the_way_of_outgoing_connections() -> None:
    ports = assign_ports(topology(0))
    assert list(ports) == list(port_names(topology(0)))
    numbers = list(ports.values())
    assert numbers == list(range(numbers[0], numbers[0] + 10))
    assert numbers[0] in FREE_PORTS
    assert numbers[-1] in FREE_PORTS


def test_fixed_ports_follow_the_base_port() -> None:
    base = assign_ports(topology(0))["bitcoind RPC"]
    assert assign_ports(topology(base))["bob Aperture"] == base + 7


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_taken_port_is_named_with_who_wants_it(address: str) -> None:
    base = assign_ports(topology(0))["bitcoind RPC"]
    with socket.socket() as taken:
        taken.bind((address, base + 4))
        taken.listen()
        with pytest.raises(PortInUseError, match=rf"port {base + 4} .* alice peers wants it"):
            assign_ports(topology(base))
