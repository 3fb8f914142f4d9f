"""A daemon that decides on its node's forwards: it lets them go on, and can strand none."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import pytest

from lnagents.agent.forwarder import ForwarderState
from lnagents.lnd import LndClient, LndEndpoint, Role, StreamRestarted
from lnagents.model.payment import Attempt, AttemptStatus
from lnagents.testbed import Testbed

if TYPE_CHECKING:
    from tests.integration.agent.conftest import MakeAgent

AMOUNT_MSAT = 3_000_000
FORWARDER = "dave"
PATIENCE_SECONDS = 20.0


async def through_forwarder(testbed: Testbed) -> Awaitable[Attempt]:
    """A payment from alice by dave to grace, under way."""
    invoice = await testbed.client("grace").add_invoice(AMOUNT_MSAT)
    hops = [testbed.nodes[name].key for name in (FORWARDER, "grace")]
    alice = testbed.client("alice")
    route = await alice.build_route(AMOUNT_MSAT, hops, payment_addr=invoice.payment_addr)
    return asyncio.ensure_future(alice.send_to_route(invoice.payment_hash, route))


async def test_a_killed_daemon_strands_nothing(testbed: Testbed, make_agent: MakeAgent) -> None:
    agent = make_agent(FORWARDER, {"forwarding": {}})
    await agent.start()
    assert (await (await through_forwarder(testbed))).status is AttemptStatus.SETTLED
    status = (await agent.control.status()).forwarding
    assert (status.state, status.resumed, status.late) == (ForwarderState.DECIDING, 1, 0)

    agent.signal(signal.SIGSTOP)
    attempt = asyncio.ensure_future(await through_forwarder(testbed))
    _, pending = await asyncio.wait({attempt}, timeout=1.0)
    assert pending, "the node does not wait for its agent"
    await agent.kill()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await attempt).status is AttemptStatus.SETTLED
    # Nobody decides any more.
    assert (await (await through_forwarder(testbed))).status is AttemptStatus.SETTLED

    await agent.start()
    assert (await (await through_forwarder(testbed))).status is AttemptStatus.SETTLED


async def test_another_program_decides_already(testbed: Testbed, make_agent: MakeAgent) -> None:
    node = testbed.nodes[FORWARDER]
    endpoint = LndEndpoint(
        node.admin.address, node.admin.tls_certificate, node.macaroons[Role.FORWARDER]
    )
    agent = make_agent(FORWARDER, {"forwarding": {}})
    async with LndClient(endpoint) as client:
        stream = client.htlc_interceptor().htlcs()
        assert isinstance(await anext(stream), StreamRestarted)
        await agent.start()
        # The agent lives without it, and says so.
        status = await agent.control.status()
        assert status.forwarding.state is ForwarderState.OTHER
        await stream.aclose()


async def test_a_macaroon_that_does_not_allow_it_is_named(
    testbed: Testbed, make_agent: MakeAgent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    macaroon = tmp_path_factory.mktemp("macaroons") / "observer.macaroon"
    macaroon.write_bytes(
        await testbed.client(FORWARDER).bake_macaroon(
            [Role.OBSERVER, Role.FEES, Role.ROUTER, Role.SELLER]
        )
    )
    agent = make_agent(FORWARDER, {"forwarding": {}}, macaroon=macaroon)
    await agent.launch()
    assert await agent.wait() == 2
    assert "lnd.macaroon: does not allow deciding on forwards" in " ".join(
        agent.log.read_text().split()
    )
