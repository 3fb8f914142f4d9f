"""What `lncli describegraph` really prints is read back as the network that it describes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lnagents.testbed import Testbed
from lnagents.testbed.toolchain import Product, find_or_provide
from lnagents.testbed.toolchain.processes import run_program
from lnagents.twin.loaders import from_topology, load_network
from lnagents.twin.network import Network


def announced(network: Network, names: dict[str, str]) -> set[tuple[object, ...]]:
    """Each edge: who to whom, how large, and what it charges."""
    source, target = network.edge_source(), network.edge_target()
    return {
        (
            names[network.names[source[edge]]],
            names[network.names[target[edge]]],
            int(network.capacity[edge >> 1]),
            *network.policy[edge].tolist(),
        )
        for edge in range(2 * network.channels)
    }


async def test_the_graph_that_a_node_prints(testbed: Testbed, tmp_path: Path) -> None:
    lncli = (await find_or_provide(Product.LND))["lncli"]
    admin = testbed.nodes["alice"].admin
    text = await run_program(
        *lncli.command,
        f"--rpcserver={admin.address}",
        f"--tlscertpath={admin.tls_certificate}",
        f"--macaroonpath={admin.macaroon}",
        "--network=regtest",
        "describegraph",
        timeout=60.0,
    )
    path = tmp_path / "graph.json"
    path.write_text(text)
    network = load_network(path)
    expected = from_topology(testbed.topology)
    names = {node.key: name for name, node in testbed.nodes.items()}
    assert set(network.names) == set(names)
    assert (np.diff(network.scids) > 0).all()
    assert announced(network, names) == announced(expected, {name: name for name in expected.names})
