"""The order in which a network comes up, from nothing to ready for use."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpx

from lnagents.lnd import LndClient
from lnagents.testbed import snapshot
from lnagents.testbed.backend import (
    BITCOIND,
    MINER,
    Backend,
    NodeSite,
    Progress,
    SellerSite,
    aperture_services,
    lightning_services,
)
from lnagents.testbed.bitcoin import BitcoinClient
from lnagents.testbed.provision import (
    Lightning,
    Phase,
    bake_macaroons,
    prepare_chain,
    provision,
    wait_nodes,
)
from lnagents.testbed.state import StateFolder, TestbedState
from lnagents.testbed.threads import in_thread
from lnagents.testbed.together import to_its_end, together
from lnagents.testbed.waiting import wait_until

APERTURE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Started:
    """A network that is up, with clients that its user closes."""

    state: TestbedState
    lightning: Lightning
    bitcoin: BitcoinClient


async def start_network(
    folder: StateFolder, state: TestbedState, backend: Backend, progress: Progress, phase: Phase
) -> Started:
    """Start all services of a prepared backend, provision, and keep a snapshot.

    Raises:
        TestbedError: a step failed; what runs then is the caller's to stop.
        LndError: a node refused.
    """
    topology = state.topology
    phase("chain")
    progress("Starting bitcoind")
    await backend.start([BITCOIND])
    bitcoin = BitcoinClient(await backend.bitcoind())
    clients: dict[str, LndClient] = {}
    try:
        await prepare_chain(topology, bitcoin)
        phase("nodes")
        names = lightning_services(topology)
        progress(f"Starting {len(names)} LND nodes")
        await backend.start(names)
        sites = await find_sites(backend, names)
        clients |= {name: LndClient(site.admin) for name, site in sites.items()}
        lightning = await wait_nodes(sites, clients)
        # Their starts take processor time, but nothing waits for them until the end.
        await backend.start(aperture_services(topology))
        books, _ = await together(
            (
                provision(topology, bitcoin, lightning, progress=progress, phase=phase),
                bake_macaroons(clients, backend.directory / "macaroons"),
            )
        )
        phase("sellers")
        await wait_sellers(backend.sellers().values())
        phase("snapshot")
        state = state.model_copy(update={"books": books, "began_at": time.time()})
        await in_thread(folder.write, state)
        await snapshot.save(backend, bitcoin)
        await backend.start([MINER])
        phase("up")
        return Started(state, lightning, bitcoin)
    except BaseException:
        await to_its_end(close_all(clients, bitcoin))
        raise


async def find_sites(backend: Backend, names: tuple[str, ...]) -> dict[str, NodeSite]:
    """Where the nodes are reached, once they have written their certificates."""
    return dict(zip(names, await together(backend.node(name) for name in names), strict=True))


async def wait_sellers(sites: Iterable[SellerSite]) -> None:
    """Wait until every Aperture answers; the services behind them may not be there yet.

    Raises:
        SettleTimeoutError: one does not.
    """
    async with httpx.AsyncClient(trust_env=False) as http:

        async def answers(url: str) -> bool:
            try:
                await http.get(url)
            except httpx.HTTPError:
                return False
            return True

        async def wait(site: SellerSite) -> None:
            await wait_until(
                lambda: answers(site.url),
                timeout=APERTURE_SECONDS,
                complaint=lambda: f"the Aperture of {site.node} does not answer at {site.url}",
            )

        await together(map(wait, sites))


async def close_all(clients: Mapping[str, LndClient], bitcoin: BitcoinClient) -> None:
    """Close all connections."""
    await together([*(client.close() for client in clients.values()), bitcoin.close()])
