"""`docker compose -f docker-compose.regtest.yml up`, and nothing else, makes a network."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from lnagents.lnd import LndClient, LndEndpoint
from lnagents.model.payment import PaymentStatus
from lnagents.testbed import load_topology
from lnagents.testbed.backend import BitcoindSite
from lnagents.testbed.bitcoin import BitcoinClient
from lnagents.testbed.data import data_directory
from lnagents.testbed.engine import Engine
from lnagents.testbed.render import RPC_PASSWORD, RPC_USER, default_ports

ROOT = data_directory().parent
FILE = ROOT / "docker-compose.regtest.yml"
TOPOLOGY = load_topology("default")
PORTS = default_ports(TOPOLOGY)
HINT_PATH = f"/v1/hints/liquidity/100x1x0/{'02' * 33}/1000/{'0' * 32}"


@dataclass(frozen=True)
class PlainNetwork:
    """What `docker compose up` made, and a folder with each node's credentials."""

    project: str
    credentials: Path

    def compose(self, *arguments: str, timeout: float = 300.0) -> str:
        answer = subprocess.run(
            [
                *("docker", "compose", "--project-name", self.project, "--file", str(FILE)),
                *("--ansi", "never", *arguments),
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def endpoint(self, name: str) -> LndEndpoint:
        folder = self.credentials / name
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in ("tls.cert", "data/chain/bitcoin/regtest/admin.macaroon"):
            self.compose("cp", f"{name}:/lnd/{path}", str(folder))
        return LndEndpoint(
            f"127.0.0.1:{PORTS[f'{name} gRPC']}",
            folder / "tls.cert",
            folder / "admin.macaroon",
        )


@pytest.fixture(scope="module")
def network() -> Iterator[PlainNetwork]:
    project = f"lnagents-plain-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        plain = PlainNetwork(project, Path(folder))
        try:
            plain.compose("up", "--build", "--detach", "--wait", timeout=3600.0)
            yield plain
        finally:
            plain.compose("down", "--volumes", "--timeout", "5")
            engine = Engine(project)
            try:
                assert not engine.leftovers()
            finally:
                engine.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def clients(network: PlainNetwork) -> AsyncIterator[dict[str, LndClient]]:
    async with AsyncExitStack() as stack:
        opened = {}
        for node in TOPOLOGY.nodes:
            endpoint = await asyncio.to_thread(network.endpoint, node.name)
            opened[node.name] = await stack.enter_async_context(LndClient(endpoint))
        yield opened


def test_compose_accepts_the_file() -> None:
    answer = subprocess.run(
        ["docker", "compose", "-f", str(FILE), "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")


async def test_every_channel_is_open_with_its_share_and_policy(
    clients: dict[str, LndClient],
) -> None:
    keys = {name: (await client.info()).key for name, client in clients.items()}
    for name, client in clients.items():
        expected = sum(name in (channel.source, channel.target) for channel in TOPOLOGY.channels)
        assert len(await client.channels(active_only=True)) == expected
    graph = await clients["grace"].graph()
    assert len(graph.channels) == len(TOPOLOGY.channels)
    for spec in TOPOLOGY.channels:
        ends = {keys[spec.source], keys[spec.target]}
        channel = next(one for one in graph.channels.values() if {one.node1, one.node2} == ends)
        assert channel.capacity_msat == spec.capacity_msat
        wanted, _ = TOPOLOGY.channel_policies(spec)
        announced = channel.edge_from(keys[spec.source]).policy
        assert announced is not None
        assert (announced.base_fee_msat, announced.fee_rate_ppm) == (
            wanted.base_fee_msat,
            wanted.fee_rate_ppm,
        )


async def test_a_payment_arrives(clients: dict[str, LndClient]) -> None:
    invoice = await clients["grace"].add_invoice(10_000_000)
    payment = await clients["alice"].pay(
        invoice.payment_request, fee_limit_msat=1_000_000, timeout_seconds=30
    )
    assert payment.status is PaymentStatus.SETTLED


async def test_waiting_transactions_are_mined(clients: dict[str, LndClient]) -> None:
    site = BitcoindSite(f"http://127.0.0.1:{PORTS['bitcoind RPC']}", RPC_USER, RPC_PASSWORD)
    async with BitcoinClient(site) as bitcoin, asyncio.timeout(60):
        height = await bitcoin.height()
        await bitcoin.pay({await clients["alice"].new_address(): 100_000})
        while await bitcoin.waiting_transactions():  # noqa: ASYNC110 - only to be polled
            await asyncio.sleep(0.1)
        assert await bitcoin.height() > height


async def test_aperture_asks_for_payment(network: PlainNetwork) -> None:
    url = f"http://127.0.0.1:{PORTS['carol Aperture']}{HINT_PATH}"
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(url)
    assert answer.status_code == 402
    challenges = answer.headers.get_list("WWW-Authenticate")
    assert any(one.startswith("L402 ") and 'invoice="lnbcrt20n' in one for one in challenges)


async def test_a_restart_keeps_the_network(
    network: PlainNetwork, clients: dict[str, LndClient]
) -> None:
    await asyncio.to_thread(network.compose, "stop", "--timeout", "20")
    await asyncio.to_thread(network.compose, "up", "--detach", "--wait")
    for name, client in clients.items():
        expected = sum(name in (channel.source, channel.target) for channel in TOPOLOGY.channels)
        await client.wait_ready(60.0)
        async with asyncio.timeout(60):
            while len(await client.channels(active_only=True)) < expected:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    await test_a_payment_arrives(clients)
