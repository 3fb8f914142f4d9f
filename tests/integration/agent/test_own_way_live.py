"""What a buyer has on the one way that there is: a pass that it bought by hand, a promised fee."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from lnagents.model.payment import Invoice
from lnagents.model.topology import ChannelSpec, NodeSpec, SellerSpec, Topology
from lnagents.model.units import Msat, format_short_channel_id
from lnagents.testbed import Testbed
from tests.integration.agent.commands import run_command

if TYPE_CHECKING:
    from lnagents.agent import PaymentReport
    from lnagents.testbed.pytest_fixtures import NetworkFactory
    from tests.integration.agent.conftest import AgentProcess, MakeAgent, Sections

BUYER, SELLER, FAR = "alice", "carol", "frank"
TOPOLOGY = Topology(
    name="own-way",
    nodes=tuple(NodeSpec(name=name) for name in (BUYER, SELLER, FAR)),
    channels=(
        ChannelSpec(source=BUYER, target=SELLER, capacity_sat=5_000_000, local_fraction=0.9),
        ChannelSpec(source=SELLER, target=FAR, capacity_sat=4_000_000, local_fraction=0.9),
    ),
    sellers=(SellerSpec(node=SELLER),),
)
PRICE_SAT = 1
KEPT_SHARE = 0.85
"""Of what carol can send to frank, hardly anything is left for those without a pass."""
AMOUNT_MSAT = 300_000_000
"""More than that: 30 units of a pass."""
PATIENCE_SECONDS = 30.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def testbed(testbed_factory: NetworkFactory) -> AsyncIterator[Testbed]:
    """In place of the one that all share: with a single way, so that who buys has to use it."""
    network = await testbed_factory(TOPOLOGY)
    yield network
    await network.down()


@dataclass
class Trade:
    """carol sells, alice buys."""

    testbed: Testbed
    seller: AgentProcess
    buyer: AgentProcess

    @property
    def where(self) -> tuple[str, str]:
        """Of the seller, as commands take it."""
        return self.testbed.sellers[SELLER].url, self.testbed.nodes[SELLER].key

    async def channel(self) -> str:
        """The seller's, to frank."""
        far = self.testbed.nodes[FAR].key
        channels = await self.testbed.client(SELLER).channels()
        return format_short_channel_id(next(one.scid for one in channels if one.peer == far))

    async def invoice(self, amount: Msat = AMOUNT_MSAT) -> Invoice:
        return await self.testbed.client(FAR).add_invoice(amount)

    async def pay(self, invoice: Invoice) -> PaymentReport:
        return await self.buyer.control.pay(invoice.payment_request)

    async def buy(self, *question: str) -> dict[str, Any]:
        """`lnagents market buy`, as its users type it."""
        at = ("-c", str(self.buyer.config), "--json")
        code, out, err = await run_command("market", "buy", *self.where, *question, *at)
        assert code == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer


@pytest.fixture
def begin(testbed: Testbed, make_agent: MakeAgent) -> Any:
    """Starts both; `selling` and `buying` come on top of what they need."""

    async def start(selling: Sections, buying: Sections) -> Trade:
        site = testbed.sellers[SELLER]
        own = {
            "service_host": site.service_host,
            "service_port": site.service_port,
            "pricer_host": site.pricer_host,
            "pricer_port": site.pricer_port,
            "price_sat": PRICE_SAT,
        }
        sell = {"market.sell": own | selling.pop("market.sell", {})}
        seller = make_agent(SELLER, sell | selling)
        limits = {"limits": {"hint_per_purchase_msat": 100_000}}
        buyer = make_agent(BUYER, limits | buying)
        await asyncio.gather(seller.start(), buyer.start())
        return Trade(testbed, seller, buyer)

    return start


async def test_a_pass_that_was_bought_by_hand_is_presented(begin: Any) -> None:
    trade = await begin(
        {"market.sell": {"products": ["pass"]}, "forwarding": {"reserved_share": KEPT_SHARE}}, {}
    )
    refused = await trade.pay(await trade.invoice())
    assert not refused.settled
    code, out, _ = await run_command("market", "list", *trade.where)
    assert code == 0
    assert "pass" in out
    channel = await trade.channel()
    question = ("pass", channel, str(AMOUNT_MSAT), "60")
    bought = await trade.buy(*question)
    assert (bought["price_msat"], bought["paid_now"]) == (30 * PRICE_SAT * 1_000, True)
    assert (await trade.buy(*question))["paid_now"] is False
    # What the channel refused before is no reason not to try it with the pass.
    report = await trade.pay(await trade.invoice())
    assert report.settled, report.reason
    assert (report.attempts, report.failed_attempts) == (1, 0)
    # It is used up, and good for nothing more.
    assert not (await trade.pay(await trade.invoice())).settled

    # One for a certain payment.
    invoice = await trade.invoice()
    code, out, err = await run_command(
        "market", "buy", *trade.where, *question, "hash", invoice.payment_hash,
        "-c", str(trade.buyer.config),
    )  # fmt: skip
    assert code == 0, err
    assert not (await trade.pay(await trade.invoice())).settled
    assert (await trade.pay(invoice)).settled

    await asyncio.gather(trade.seller.terminate(), trade.buyer.terminate())
    uses = "SELECT state, amount_msat FROM pass_"
    assert trade.buyer.query(uses + "attempts") == [("settled", AMOUNT_MSAT)] * 2
    assert trade.seller.query(uses + "uses") == [("settled", AMOUNT_MSAT)] * 2
    assert trade.seller.query("SELECT * FROM pass_refusals") == []
