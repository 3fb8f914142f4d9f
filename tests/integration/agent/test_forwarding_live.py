"""A daemon that decides on its node's forwards: it lets them go on, and can strand none."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from lnagents.agent.forwarder import ForwarderState
from lnagents.lnd import LndClient, LndEndpoint, Role, StreamRestarted
from lnagents.model.payment import Attempt, AttemptStatus
from lnagents.testbed import Testbed

if TYPE_CHECKING:
    from tests.integration.agent.conftest import MakeAgent

AMOUNT_MSAT = 3_000_000
FORWARDER = "dave"
PATIENCE_SECONDS = 20.0


@pytest_asyncio.fixture(scope="module", autouse=True, loop_scope="session")
async def _money_is_put_back(testbed: Testbed) -> AsyncIterator[None]:
    yield
    await testbed.reset()


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


async def test_agents_trade_priority(testbed: Testbed, make_agent: MakeAgent) -> None:
    """alice buys a pass of carol for a payment to frank, presents it, and carol counts it."""
    amount = 1_500_000_000
    site = testbed.sellers["carol"]
    seller = make_agent(
        "carol",
        {
            "forwarding": {"reserved_share": 0.4},
            "market.sell": {
                "service_host": site.service_host,
                "service_port": site.service_port,
                "pricer_host": site.pricer_host,
                "pricer_port": site.pricer_port,
                "products": ["pass"],
                "price_sat": 1,
            },
        },
    )
    buyer = make_agent(
        "alice",
        {
            "limits": {"hint_per_purchase_msat": 1_000_000},
            "market.buy": {
                "sellers": [{"url": site.url, "key": testbed.nodes["carol"].key}],
                "passes": True,
            },
        },
    )
    await asyncio.gather(seller.start(), buyer.start())
    invoice = await testbed.client("frank").add_invoice(amount)
    report = await buyer.control.pay(invoice.payment_request)
    assert report.settled, report.reason
    ((verdict, reason),) = buyer.query(
        "SELECT verdict, reason FROM decisions WHERE change LIKE 'pass for%'"
    )
    assert verdict == "bought", reason
    await asyncio.gather(seller.terminate(), buyer.terminate())
    ((state, seller_key),) = buyer.query("SELECT state, seller_key FROM pass_attempts")
    assert (state, seller_key) == ("settled", testbed.nodes["carol"].key)
    ((used, payment_hash),) = seller.query("SELECT amount_msat, payment_hash FROM pass_uses")
    assert (used, payment_hash) == (amount, report.payment_hash)
    assert seller.query("SELECT * FROM pass_refusals") == []


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
