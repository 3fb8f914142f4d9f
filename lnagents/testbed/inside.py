"""The service `provision` of a Compose file: funds the network, opens its channels, and ends.

`python -m lnagents.testbed.inside` does in a container what `Testbed.up` does on the host, with the
same code. Topology, certificates and macaroons are where `render` mounts them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from lnagents.lnd import LndClient, LndEndpoint
from lnagents.model.errors import LnagentsError, TestbedError
from lnagents.model.topology import Topology
from lnagents.testbed.backend import BITCOIND, BitcoindSite, NodeSite
from lnagents.testbed.bitcoin import BitcoinClient
from lnagents.testbed.provision import prepare_chain, provision, wait_active, wait_nodes
from lnagents.testbed.render import (
    BITCOIND_RPC_PORT,
    LND_PEER_PORT,
    LND_RPC_PORT,
    MACAROONS,
    NODES_DIRECTORY,
    PROVISION_DIRECTORY,
    TOPOLOGY_FILE,
)
from lnagents.testbed.topologies import load_topology
from lnagents.testbed.waiting import wait_until

CREDENTIALS_SECONDS = 60.0
DONE_FILE = Path(PROVISION_DIRECTORY / "done")


def main() -> int:
    """Provision the network of the mounted topology; gives the exit code."""
    try:
        asyncio.run(_until_stopped(provision_network(load_topology(Path(TOPOLOGY_FILE)))))
    except LnagentsError as exc:
        _say(f"Error: {exc}")
        return 1
    return 0


async def provision_network(topology: Topology) -> None:
    """Fund the nodes and open the channels; after a restart, only connect the nodes again.

    Raises:
        TestbedError: an earlier run was interrupted half-way.
        LnagentsError: a node refused, or did not get ready.
    """
    async with AsyncExitStack() as stack:
        bitcoin = await stack.enter_async_context(BitcoinClient(_bitcoind()))
        await prepare_chain(topology, bitcoin)
        sites = {node.name: await _site(node.name) for node in topology.nodes}
        clients = {
            name: await stack.enter_async_context(LndClient(site.admin))
            for name, site in sites.items()
        }
        _say("waiting for the nodes")
        lightning = await wait_nodes(sites, clients)
        if await asyncio.to_thread(DONE_FILE.exists):
            _say("the network was funded before; connecting the nodes")
            await wait_active(topology, lightning)
        else:
            for name, client in clients.items():
                if await client.channels() or await client.pending_channel_count():
                    raise TestbedError(
                        f"{name} has channels from a start that was interrupted;"
                        " `docker compose down -v` removes them, then start again"
                    )
            await provision(topology, bitcoin, lightning, progress=_say, phase=_ignore)
            await asyncio.to_thread(DONE_FILE.touch)
        _say(f"{len(topology.nodes)} nodes and {len(topology.channels)} channels are ready")


def _bitcoind() -> BitcoindSite:
    return BitcoindSite(
        f"http://{BITCOIND}:{BITCOIND_RPC_PORT}",
        user=os.environ["BITCOIND_USER"],
        password=os.environ["BITCOIND_PASSWORD"],
    )


async def _site(name: str) -> NodeSite:
    """How a node is reached from here; waits until it has written certificate and macaroon.

    Raises:
        SettleTimeoutError: it did not.
    """
    folder = Path(NODES_DIRECTORY / name)
    certificate, macaroon = folder / "tls.cert", folder / MACAROONS / "admin.macaroon"
    await wait_until(
        lambda: asyncio.to_thread(_all_filled, certificate, macaroon),
        timeout=CREDENTIALS_SECONDS,
        complaint=lambda: f"{name} has not written its certificate and macaroon",
        interval=0.1,
    )
    return NodeSite(
        admin=LndEndpoint(f"{name}:{LND_RPC_PORT}", certificate, macaroon),
        peer_address=f"{name}:{LND_PEER_PORT}",
    )


def _all_filled(*paths: Path) -> bool:
    return all(path.is_file() and path.stat().st_size > 0 for path in paths)


async def _until_stopped(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until the container is asked to stop, which is no failure."""
    task = asyncio.ensure_future(coroutine)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _say(text: str) -> None:
    """Write one line to the container's log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _ignore(phase: str) -> None:
    """Phases are for benches."""


if __name__ == "__main__":
    sys.exit(main())
