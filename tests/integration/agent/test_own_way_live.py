"""What a buyer has on the one way that there is: a pass that it bought by hand, a promised fee."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
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

BUYER, SELLER, FAR, BEYOND = "alice", "carol", "frank", "grace"
TOPOLOGY = Topology(
    name="own-way",
    nodes=(
        NodeSpec(name=BUYER),
        NodeSpec(name=SELLER),
        # Holds forwards for its agent, which is there when something has to go beyond it.
        NodeSpec(name=FAR, lnd=("--requireinterceptor", "--store-final-htlc-resolutions")),
        NodeSpec(name=BEYOND),
    ),
    channels=(
        ChannelSpec(source=BUYER, target=SELLER, capacity_sat=5_000_000, local_fraction=0.9),
        ChannelSpec(source=SELLER, target=FAR, capacity_sat=4_000_000, local_fraction=0.9),
        ChannelSpec(source=FAR, target=BEYOND, capacity_sat=2_000_000, local_fraction=0.9),
    ),
    sellers=(SellerSpec(node=SELLER),),
)
PRICE_SAT = 1
KEPT_SHARE = 0.85
"""Of what carol can send to frank, hardly anything is left for those without a pass."""
AMOUNT_MSAT = 300_000_000
"""More than that: 30 units of a pass."""
SMALL_MSAT = 20_000_000
LOW_PPM, HIGH_PPM = 10, 5_000
"""Of which one small payment pays 0.2 sat or 100."""
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

    async def invoice(self, amount: Msat = AMOUNT_MSAT, receiver: str = FAR) -> Invoice:
        return await self.testbed.client(receiver).add_invoice(amount)

    async def pay(self, invoice: Invoice) -> PaymentReport:
        return await self.buyer.control.pay(invoice.payment_request)

    async def buy(self, *question: str) -> dict[str, Any]:
        """`lnagents market buy`, as its users type it."""
        at = ("-c", str(self.buyer.config), "--json")
        code, out, err = await run_command("market", "buy", *self.where, *question, *at)
        assert code == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer


async def fee_of(testbed: Testbed, ppm: int) -> None:
    """carol's operator asks for so much to frank, and alice's node knows."""
    far = testbed.nodes[FAR].key
    carol, key = testbed.client(SELLER), testbed.nodes[SELLER].key
    own = next(one for one in await carol.channels() if one.peer == far)
    before = (await carol.channel(own.scid)).edge_from(key).policy
    assert before is not None
    await asyncio.sleep(1.1)  # gossip counts whole seconds
    await carol.set_policy(own.channel_point, replace(before, fee_rate_ppm=ppm))
    await testbed.wait_gossip()


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
    trade: Trade = await begin(
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
    # It is used up, and good for nothing more, also if carol's daemon cannot save anything now.
    await trade.seller.kill()
    assert trade.seller.query("SELECT amount_msat FROM pass_uses") == [(AMOUNT_MSAT,)]
    await trade.seller.start()
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
    attempts = trade.buyer.query("SELECT state, amount_msat FROM pass_attempts")
    assert attempts == [("settled", AMOUNT_MSAT)] * 2
    uses = trade.seller.query("SELECT state, amount_msat FROM pass_uses ORDER BY at")
    # Whether the first was told to have settled before the kill is a matter of milliseconds.
    assert uses[0] in [("settled", AMOUNT_MSAT), ("unknown", AMOUNT_MSAT)]
    assert uses[1:] == [("settled", AMOUNT_MSAT)]
    assert trade.seller.query("SELECT * FROM pass_refusals") == []


async def test_a_payment_that_is_left_to_another_presents_passes_on_the_way_there(
    begin: Any, make_agent: MakeAgent
) -> None:
    trade: Trade = await begin(
        {"market.sell": {"products": ["pass"]}, "forwarding": {"reserved_share": KEPT_SHARE}}, {}
    )
    relay = make_agent(
        FAR, {"forwarding": {}, "forwarding.delegation": {"max_amount_msat": AMOUNT_MSAT}}
    )
    await relay.start()
    key, budget = trade.testbed.nodes[FAR].key, AMOUNT_MSAT // 100

    async def leave_it_to_relay() -> PaymentReport:
        invoice = await trade.invoice(receiver=BEYOND)
        return await trade.buyer.control.pay(
            invoice.payment_request, delegate=key, max_fee_msat=budget
        )

    assert not (await leave_it_to_relay()).settled
    await trade.buy("pass", await trade.channel(), str(AMOUNT_MSAT + budget), "60")
    report = await leave_it_to_relay()
    assert report.settled, report.reason
    await relay.until(lambda status: status.delegation.settled == 1, PATIENCE_SECONDS)
    await asyncio.gather(*(one.terminate() for one in (trade.seller, trade.buyer, relay)))
    ((state, used),) = trade.buyer.query("SELECT state, amount_msat FROM pass_attempts")
    assert state == "settled"
    assert AMOUNT_MSAT < used <= AMOUNT_MSAT + budget
    assert trade.seller.query("SELECT amount_msat FROM pass_uses") == [(used,)]
    assert relay.query("SELECT incoming_msat, state FROM delegations") == [(used, "settled")]


async def test_an_agent_that_saw_fees_rise_has_one_promised(testbed: Testbed, begin: Any) -> None:
    """Nobody asks it to: it has seen what a promise would have saved on a way that it uses."""
    trade: Trade = await begin(
        {"market.sell": {"products": ["commitment"]}},
        {
            "market.buy": {
                "sellers": [{"url": testbed.sellers[SELLER].url, "key": testbed.nodes[SELLER].key}]
            }
        },
    )
    await fee_of(testbed, LOW_PPM)
    for _ in range(3):
        assert (await trade.pay(await trade.invoice(SMALL_MSAT))).settled
    await fee_of(testbed, HIGH_PPM)
    for _ in range(2):
        assert (await trade.pay(await trade.invoice(SMALL_MSAT))).settled
    await fee_of(testbed, LOW_PPM)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await trade.buyer.control.status()).hints_bought:
            assert (await trade.pay(await trade.invoice(SMALL_MSAT))).settled
            await asyncio.sleep(0.3)
    ((path, state),) = trade.buyer.query("SELECT path, state FROM purchases")
    assert path.startswith(f"/v1/commitments/fee/{await trade.channel()}/")
    assert state == "delivered"
    ((reason,),) = trade.buyer.query("SELECT reason FROM decisions WHERE verdict = 'bought'")
    assert "would have saved" in reason
    # As long as that holds, it is not bought again.
    assert (await trade.pay(await trade.invoice(SMALL_MSAT))).settled
    assert (await trade.buyer.control.status()).hints_bought == 1
    assert (await trade.seller.control.status()).hints_sold == 1
