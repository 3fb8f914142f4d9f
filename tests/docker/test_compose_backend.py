"""The same `Testbed` on containers: everything the native backend does, and partitions."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from lnagents.model.errors import LndError, NodeDiedError, PortInUseError
from lnagents.model.payment import PaymentStatus
from lnagents.model.topology import Topology, parse_topology
from lnagents.testbed import BackendKind, ServiceState, Testbed
from lnagents.testbed.engine import Engine
from lnagents.testbed.state import StateFolder

LINE = parse_topology(
    """
name: line3
nodes: [{name: ann}, {name: ben}, {name: cat}]
channels:
  - {from: ann, to: ben, capacity_sat: 1000000, local_fraction: 0.7}
  - {from: ben, to: cat, capacity_sat: 1000000, local_fraction: 0.7}
sellers: [{node: ben}]
""",
    "line3",
)
NAME = f"line3-docker-{os.getpid()}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def testbed() -> AsyncIterator[Testbed]:
    async with Testbed.running(LINE, backend=BackendKind.COMPOSE, name=NAME) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Engine]:
    connected = Engine(f"lnagents-{NAME}-2")
    yield connected
    connected.close()


async def pays(testbed: Testbed, *, within: float = 0.0) -> bool:
    """Whether a payment from ann to cat arrives, at last after some seconds of trying."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        settled = False
        try:
            outcome = await testbed.pay("ann", "cat", 1_000_000, timeout_seconds=5)
            settled = outcome.settled
        except LndError:
            if asyncio.get_running_loop().time() >= deadline:
                raise
        if settled or asyncio.get_running_loop().time() >= deadline:
            return settled
        await asyncio.sleep(0.5)


async def test_it_pays_and_the_books_balance(testbed: Testbed) -> None:
    outcome = await testbed.pay("ann", "cat", 50_000_000)
    assert outcome.settled
    assert outcome.fee_msat > 0
    assert (await testbed.audit()).difference_sat == 0


async def test_all_services_run_and_log(testbed: Testbed) -> None:
    states = await testbed.states()
    assert set(states) == {"bitcoind", "ann", "ben", "cat", "aperture-ben", "miner"}
    assert set(states.values()) == {ServiceState.RUNNING}
    assert "[INF]" in await testbed.logs("ann", 20)


async def test_credentials_belong_to_their_owner_alone(testbed: Testbed) -> None:
    for node in testbed.nodes.values():
        for path in (node.admin.macaroon, node.agent.macaroon, *node.macaroons.values()):
            assert path is not None
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(testbed.directory.stat().st_mode) == 0o700


async def test_sellers_daemons_listen_on_the_bridge(testbed: Testbed) -> None:
    site = testbed.sellers["ben"]
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, site.service_host, site.service_port)
    async with server:
        host, _, port = site.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /v1/catalogue HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n")
        writer.close()
    assert requests == [b"GET /v1/catalogue HTTP/1.1\r\n"]


async def test_a_second_command_finds_it(testbed: Testbed) -> None:
    other = await Testbed.attach(testbed.name)
    try:
        assert other.nodes == testbed.nodes
        assert other.sellers == testbed.sellers
        assert await pays(other)
    finally:
        await other.close()


async def test_a_frozen_node_goes_on(testbed: Testbed) -> None:
    await testbed.backend.pause(["ben"])
    try:
        assert (await testbed.states())["ben"] is ServiceState.PAUSED
    finally:
        await testbed.backend.resume(["ben"])
    assert (await testbed.states())["ben"] is ServiceState.RUNNING
    assert await pays(testbed, within=60)


async def test_a_partition_heals(testbed: Testbed) -> None:
    invoice = await testbed.client("cat").add_invoice(1_000_000)
    await testbed.backend.partition("cat")
    try:
        paying = asyncio.ensure_future(
            testbed.client("ann").pay(
                invoice.payment_request, fee_limit_msat=100_000, timeout_seconds=30
            )
        )
        await asyncio.wait([paying], timeout=5)
        assert not paying.done() or (await paying).status is not PaymentStatus.SETTLED
    finally:
        await testbed.backend.heal("cat")
    assert await pays(testbed, within=120)
    await paying
    await testbed.wait_quiet()
    assert (await testbed.audit()).difference_sat == 0


async def test_a_killed_node_comes_back(testbed: Testbed) -> None:
    await testbed.backend.kill(["ben"])
    assert (await testbed.states())["ben"] is ServiceState.STOPPED
    await testbed.backend.start(["ben"])
    await testbed.client("ben").wait_ready(60.0)
    assert await pays(testbed, within=60)
    assert (await testbed.audit()).difference_sat == 0


async def test_a_death_is_noticed(testbed: Testbed) -> None:
    container = f"lnagents-{testbed.name}-miner-1"
    killer = await asyncio.create_subprocess_exec(
        "docker", "kill", container, stdout=asyncio.subprocess.DEVNULL
    )
    assert await killer.wait() == 0
    with pytest.raises(NodeDiedError, match="miner ended by itself"):
        await asyncio.wait_for(testbed.backend.watch(), 30)
    await testbed.backend.start(["miner"])
    assert (await testbed.states())["miner"] is ServiceState.RUNNING


async def test_reset_goes_back(testbed: Testbed) -> None:
    assert await pays(testbed, within=60)
    keys = {name: node.key for name, node in testbed.nodes.items()}
    await testbed.reset()
    assert await testbed.client("ann").list_payments() == ()
    for name, key in keys.items():
        assert (await testbed.client(name).info()).key == key
    local = {
        channel.peer: channel.local_balance_msat
        for channel in await testbed.client("cat").channels()
    }
    assert local == {keys["ben"]: 300_000_000}
    assert await pays(testbed, within=60)
    assert (await testbed.audit()).difference_sat == 0


async def test_cancelled_at_any_moment_it_leaves_nothing(engine: Engine) -> None:
    for seconds in (0.5, 2.0, 4.0):
        name = engine.project.removeprefix("lnagents-")
        starting = asyncio.ensure_future(Testbed.up(LINE, backend=BackendKind.COMPOSE, name=name))
        await asyncio.sleep(seconds)
        if starting.done():
            # A quick machine: it was ready before, so this is the usual way down.
            await starting.result().down()
        else:
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        assert not await asyncio.to_thread(engine.leftovers)
        assert not StateFolder(name).exists()


async def test_down_leaves_nothing(engine: Engine) -> None:
    name = engine.project.removeprefix("lnagents-")
    testbed = await Testbed.up(LINE, backend=BackendKind.COMPOSE, name=name)
    directory = testbed.directory
    assert len(await asyncio.to_thread(engine.containers)) == 6
    await testbed.down()
    assert not await asyncio.to_thread(engine.leftovers)
    assert not directory.exists()
    assert not StateFolder(name).exists()


async def test_a_port_in_use_is_named(engine: Engine) -> None:
    name = engine.project.removeprefix("lnagents-")
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        topology = Topology.model_validate(
            LINE.model_dump(by_alias=True) | {"base_port": min(port, 60_000)}
        )
        if topology.base_port != port:
            pytest.skip("the system gave a port that a topology cannot name")
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1"):
            await Testbed.up(topology, backend=BackendKind.COMPOSE, name=name)
    assert not await asyncio.to_thread(engine.leftovers)
