"""Leaving the rest of a way to an agent: atomic, within budget and limits, and nothing is lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from lnagents.agent.delegation_ledger import DelegationTotals
from lnagents.market import Browser, Seller
from lnagents.market.forwarding import ForwardRequest
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation
from lnagents.model.errors import NotForSaleError, PaymentError
from lnagents.model.payment import Attempt, AttemptStatus, FailureCode, Hop, Invoice, Route
from lnagents.model.topology import ChannelSpec, NodeSpec, PolicySpec, SellerSpec, Topology
from lnagents.model.units import Msat
from lnagents.testbed import Testbed
from tests.integration.agent.conftest import Sections
from tests.integration.agent.dying import NOTHING_SENT, STEPS

if TYPE_CHECKING:
    from lnagents.testbed.pytest_fixtures import NetworkFactory
    from tests.integration.agent.conftest import AgentProcess, MakeAgent

AMOUNT_MSAT = 3_000_000
SENDER, AGENT, OTHER, NEAR, FAR = "alice", "ann", "ben", "dan", "eve"
BUDGET_MSAT = 20_000
"""Enough for the way that there is: 2 hops at 1,000 msat and 1 ppm each, and ann's margin."""
MARGIN_MSAT = 1_000 + AMOUNT_MSAT * 500 // 1_000_000
LEAST_BLOCKS = 260
"""After which an HTLC may expire that ann takes on: for her own delta, and for cyd's."""
PATIENCE_SECONDS = 60.0
FLUSHED_SECONDS = 0.3
"""In which refusals are written down."""

DEAR = PolicySpec(base_fee_msat=1_000_000)
"""Its fee is beyond every budget here: who is left the rest of the way sends over it for less."""
HOLDING = ("--requireinterceptor", "--store-final-htlc-resolutions")


def channel(one: str, other: str, policy: PolicySpec | None = None) -> ChannelSpec:
    return ChannelSpec(source=one, target=other, capacity_sat=2_000_000, policy=policy)


TOPOLOGY = Topology(
    name="delegation",
    nodes=(
        NodeSpec(name=SENDER),
        NodeSpec(name="rob"),
        NodeSpec(name=AGENT, lnd=HOLDING),
        NodeSpec(name="cyd"),
        NodeSpec(name=OTHER, lnd=HOLDING),
        NodeSpec(name=NEAR),
        NodeSpec(name=FAR),
    ),
    channels=(
        channel(SENDER, "rob"),
        channel("rob", AGENT),
        channel(AGENT, "cyd"),
        channel("cyd", NEAR),
        channel("cyd", OTHER),
        channel(OTHER, FAR, DEAR),
    ),
    sellers=(SellerSpec(node=AGENT),),
)
FORWARDING: Sections = {"forwarding": {}, "forwarding.delegation": {}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def testbed(testbed_factory: NetworkFactory) -> AsyncIterator[Testbed]:
    """In place of the one that all share: two of its nodes hold forwards for their agents."""
    network = await testbed_factory(TOPOLOGY)
    yield network
    await network.down()


@dataclass
class Case:
    """alice, who leaves payments to ann by way of rob."""

    testbed: Testbed

    async def invoice(self, receiver: str = NEAR, amount: Msat = AMOUNT_MSAT) -> Invoice:
        client = self.testbed.client(receiver)
        made = await client.add_invoice(amount)
        return await client.decode_invoice(made.payment_request)

    async def route(
        self,
        invoice: Invoice,
        *,
        budget: Msat = BUDGET_MSAT,
        short: Msat = 0,
        blocks: int = 400,
        **changes: object,
    ) -> Route:
        """What an own sender would make; `short` is less than what it says to send along."""
        told = Delegation(
            destination=invoice.destination,
            payment_addr=invoice.payment_addr,
            amount_msat=invoice.amount_msat,
            final_cltv_delta=invoice.final_cltv_delta,
            fee_budget_msat=budget + short,
        )
        told = replace(told, **changes)  # type: ignore[arg-type]
        keys = [self.testbed.nodes[name].key for name in ("rob", AGENT)]
        way = await self.testbed.client(SENDER).build_route(
            invoice.amount_msat + budget, keys, final_cltv_delta=blocks
        )
        end = way.hops[-1]
        records = {DELEGATION_RECORD: told.to_bytes()}
        amount = invoice.amount_msat
        chooser = replace(end, amount_msat=amount, fee_msat=budget, custom_records=records)
        nowhere = Hop(NOWHERE, end.target, amount, 0, end.expiry)
        return replace(way, hops=(*way.hops[:-1], chooser, nowhere))

    async def send(self, invoice: Invoice, **changes: object) -> Attempt:
        route = await self.route(invoice, **changes)  # type: ignore[arg-type]
        return await self.testbed.client(SENDER).send_to_route(invoice.payment_hash, route)

    async def balances(self) -> dict[str, Msat]:
        """Of every node, once nothing is under way."""
        await self.testbed.wait_quiet()
        nodes = self.testbed.nodes
        found = await asyncio.gather(
            *(self.testbed.client(name).channel_balances() for name in nodes)
        )
        return {name: one.local_msat for name, one in zip(nodes, found, strict=True)}

    async def gains(self, before: dict[str, Msat]) -> dict[str, Msat]:
        after = await self.balances()
        return {name: after[name] - before[name] for name in after if after[name] != before[name]}


@pytest.fixture
def case(testbed: Testbed) -> Case:
    return Case(testbed)


def refused_by_agent(attempt: Attempt) -> bool:
    failure = attempt.failure
    return (
        attempt.status is AttemptStatus.FAILED
        and failure is not None
        and (failure.code, failure.source_index) == (FailureCode.TEMPORARY_CHANNEL_FAILURE, 2)
    )


async def states(agent: AgentProcess, state: str) -> None:
    """Wait until all that `agent` took on is in `state`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while {one for (one,) in agent.query("SELECT state FROM delegations")} != {state}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_an_agent_finds_the_rest_of_the_way(case: Case, make_agent: MakeAgent) -> None:
    """alice's own daemon asks ann for a quote, and pays just that."""
    testbed = case.testbed
    site = testbed.sellers[AGENT]
    ann_key = testbed.nodes[AGENT].key
    agent = make_agent(
        AGENT,
        FORWARDING
        | {
            "market.sell": {
                "service_host": site.service_host,
                "service_port": site.service_port,
                "pricer_host": site.pricer_host,
                "pricer_port": site.pricer_port,
            }
        },
    )
    sender = make_agent(SENDER, {"market.buy": {"sellers": [{"url": site.url, "key": ann_key}]}})
    await asyncio.gather(agent.start(), sender.start())
    before = await case.balances()
    async with Browser() as browser:
        seller = Seller(site.url, ann_key)
        terms = (await browser.catalogue(seller)).forwarding
        assert terms is not None
        assert terms.margin_msat(AMOUNT_MSAT) == MARGIN_MSAT
        invoice = await case.invoice()
        request = ForwardRequest(invoice.destination, AMOUNT_MSAT, invoice.final_cltv_delta)
        quote = await browser.forward_quote(seller, request)
        with pytest.raises(NotForSaleError, match="are forwarded for others"):
            await browser.forward_quote(
                seller, replace(request, amount_msat=terms.max_amount_msat + 1)
            )
    with pytest.raises(PaymentError, match="asks for a fee"):
        await sender.control.pay(
            invoice.payment_request, delegate=ann_key, max_fee_msat=quote.fee_msat - 1
        )
    report = await sender.control.pay(invoice.payment_request, delegate=ann_key)
    assert report.settled, report.reason
    await states(agent, "settled")
    gains = await case.gains(before)
    assert gains[NEAR] == AMOUNT_MSAT
    assert gains[AGENT] == MARGIN_MSAT
    assert gains[SENDER] == -AMOUNT_MSAT - report.fee_msat
    assert report.fee_msat == quote.fee_msat + gains["rob"]
    assert sum(gains.values()) == 0
    # Asked again, nothing is paid.
    again = await sender.control.pay(invoice.payment_request, delegate=ann_key)
    assert again.preimage == report.preimage
    assert await case.gains(before) == gains
    status = await agent.control.status()
    assert status.forwarding.settled == 1
    assert status.delegation == DelegationTotals(1, MARGIN_MSAT)
    assert (status.forwards, status.fees_earned_msat) == (1, MARGIN_MSAT)
    assert (status.payments_settled, status.fees_paid_msat) == (0, 0)
    assert agent.query("SELECT msat FROM spending WHERE purpose = 'forward'") == [(0,)]


async def test_what_is_refused_costs_nothing(case: Case, make_agent: MakeAgent) -> None:
    agent = make_agent(
        AGENT,
        {
            "forwarding": {},
            "forwarding.delegation": {"max_amount_msat": 2 * AMOUNT_MSAT},
            "limits": {"per_payment_msat": AMOUNT_MSAT + 1_000_000},
        },
    )
    await agent.start()
    before = await case.balances()
    own, rob = (case.testbed.nodes[name].key for name in (AGENT, "rob"))
    for error, invoice, changes in (
        ("FEE_TOO_LOW", await case.invoice(), {"budget": MARGIN_MSAT - 1}),
        ("UNDERPAID", await case.invoice(), {"short": 1}),
        ("LOOP", await case.invoice(), {"passed": (own,)}),
        ("LOOP", await case.invoice(), {"destination": own}),
        ("TOO_LARGE", await case.invoice(amount=2 * AMOUNT_MSAT + 1), {}),
        ("LIMIT", await case.invoice(amount=2 * AMOUNT_MSAT), {}),
        ("TOO_LATE", await case.invoice(), {"blocks": 100}),
    ):
        assert refused_by_agent(await case.send(invoice, **changes)), error
        await asyncio.sleep(FLUSHED_SECONDS)
        errors = agent.query("SELECT error FROM delegation_refusals ORDER BY id")
        assert errors[-1] == (error,)
    # These are taken on, and there is no way.
    for changes in ({"budget": MARGIN_MSAT + 1_000}, {"hop_limit": 1}, {"passed": (rob,)}):
        invoice = await case.invoice()
        settles = "passed" in changes  # rob has no part in the rest of the way
        attempt = await case.send(invoice, **changes)
        if settles:
            assert attempt.status is AttemptStatus.SETTLED
            before = await case.balances()
        else:
            assert refused_by_agent(attempt)
    assert await case.gains(before) == {}


async def test_agents_leave_it_to_each_other(case: Case, make_agent: MakeAgent) -> None:
    """Only ben can send to eve for less than what he announces."""
    ben_key = case.testbed.nodes[OTHER].key
    ann = make_agent(AGENT, {"forwarding": {}, "forwarding.delegation": {"agents": [ben_key]}})
    ben = make_agent(OTHER, FORWARDING | {"fees": {"max_base_msat": DEAR.base_fee_msat}})
    await asyncio.gather(ann.start(), ben.start())
    before = await case.balances()
    # cyd and ben's own channel are left: not within a hop limit that ann alone uses up.
    limited = await case.send(await case.invoice(FAR), hop_limit=2)
    assert refused_by_agent(limited)
    attempt = await case.send(await case.invoice(FAR))
    assert attempt.status is AttemptStatus.SETTLED
    await asyncio.gather(states_one(ann, "settled"), states_one(ben, "settled"))
    gains = await case.gains(before)
    assert gains[FAR] == AMOUNT_MSAT
    assert gains[AGENT] >= MARGIN_MSAT
    assert gains[OTHER] >= MARGIN_MSAT
    assert gains[AGENT] + gains[OTHER] + gains["cyd"] == BUDGET_MSAT
    assert sum(gains.values()) == 0


async def states_one(agent: AgentProcess, state: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (state,) not in agent.query("SELECT state FROM delegations"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_router_that_learned_the_preimage_gets_nothing(
    case: Case, make_agent: MakeAgent
) -> None:
    agent = make_agent(AGENT, FORWARDING)
    await agent.start()
    invoice = await case.invoice()
    paid = await case.send(invoice)
    assert paid.status is AttemptStatus.SETTLED
    await states(agent, "settled")
    before = await case.balances()
    # cyd was on the way and has the preimage. It sends the hash once more: to the receiver, and to
    # itself, which could settle with what it knows.
    cyd = case.testbed.client("cyd")
    way = await cyd.build_route(
        AMOUNT_MSAT + BUDGET_MSAT, [case.testbed.nodes[AGENT].key], final_cltv_delta=400
    )
    for destination in (NEAR, "cyd"):
        told = Delegation(
            destination=case.testbed.nodes[destination].key,
            payment_addr=invoice.payment_addr,
            amount_msat=AMOUNT_MSAT,
            final_cltv_delta=invoice.final_cltv_delta,
            fee_budget_msat=BUDGET_MSAT,
        )
        end = way.hops[-1]
        records = {DELEGATION_RECORD: told.to_bytes()}
        route = replace(
            way,
            hops=(
                replace(end, amount_msat=AMOUNT_MSAT, fee_msat=BUDGET_MSAT, custom_records=records),
                Hop(NOWHERE, end.target, AMOUNT_MSAT, 0, end.expiry),
            ),
        )
        attempt = await cyd.send_to_route(invoice.payment_hash, route)
        assert attempt.status is AttemptStatus.FAILED
        assert attempt.failure is not None
        assert attempt.failure.source_index == 1
    await asyncio.sleep(FLUSHED_SECONDS)
    assert agent.query("SELECT error FROM delegation_refusals") == [("KNOWN_HASH",)] * 2
    assert await case.gains(before) == {}


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_it_loses_nothing(
    case: Case, make_agent: MakeAgent, step: str
) -> None:
    agent = make_agent(AGENT, FORWARDING)
    agent.command = (sys.executable, str(Path(__file__).with_name("dying.py")), step)
    await agent.start()
    before = await case.balances()
    invoice = await case.invoice()
    attempt = asyncio.ensure_future(case.send(invoice))
    assert await agent.wait() != 0
    await asyncio.sleep(1.0)
    if step != "answered":
        assert not attempt.done(), "the node does not wait for its agent"
    agent.command = None
    if step == "payment recorded":
        # Without its section nobody would know what to do with what the node holds.
        agent.configure({"forwarding": {}})
        await agent.launch()
        assert await agent.wait() == 2
        assert "have not ended" in " ".join(agent.log.read_text().split())
        agent.configure(FORWARDING)
    await agent.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        ended = await attempt
    gains = await case.gains(before)
    if step in NOTHING_SENT:
        assert refused_by_agent(ended)
        assert gains == {}
        await states(agent, "failed")
        # It may be asked again.
        ended = await case.send(invoice)
        gains = await case.gains(before)
    assert ended.status is AttemptStatus.SETTLED
    assert gains[NEAR] == AMOUNT_MSAT
    assert gains[AGENT] == BUDGET_MSAT - gains["cyd"]
    assert sum(gains.values()) == 0
    await states_one(agent, "settled")
    assert agent.query("SELECT count(*) FROM attempts WHERE state = 'settled'") == [(1,)]
    assert agent.query("SELECT msat FROM spending WHERE purpose = 'forward'") == [(0,)]


@pytest.mark.parametrize(
    ("step", "state"), [("settling recorded", "lost"), ("answered", "settled")]
)
async def test_away_beyond_the_expiry_it_learns_what_its_node_did(
    case: Case, make_agent: MakeAgent, step: str, state: str
) -> None:
    """By its own book it told the preimage in both cases; only in one of them the node heard it."""
    agent = make_agent(AGENT, FORWARDING)
    agent.command = (sys.executable, str(Path(__file__).with_name("dying.py")), step)
    await agent.start()
    before = await case.balances()
    attempt = asyncio.ensure_future(case.send(await case.invoice(), blocks=LEAST_BLOCKS))
    assert await agent.wait() != 0
    assert agent.query("SELECT state FROM delegations") == [("settling",)]
    # Until the node gives back what it holds, as it has to 19 blocks before it expires.
    await case.testbed.mine(LEAST_BLOCKS)
    async with asyncio.timeout(PATIENCE_SECONDS):
        ended = await attempt
    assert refused_by_agent(ended) is (state == "lost")
    agent.command = None
    await agent.start()
    await states(agent, state)
    gains = await case.gains(before)
    paid = AMOUNT_MSAT + gains["cyd"]
    totals = (await agent.control.status()).delegation
    if state == "lost":
        assert gains[AGENT] == -paid
        assert totals == DelegationTotals(lost=1, lost_msat=paid)
        assert agent.query("SELECT msat FROM spending WHERE purpose = 'forward'") == [(paid,)]
    else:
        assert gains[AGENT] == BUDGET_MSAT - gains["cyd"]
        assert totals == DelegationTotals(1, gains[AGENT])
        assert agent.query("SELECT msat FROM spending WHERE purpose = 'forward'") == [(0,)]


async def test_its_node_is_killed_while_the_way_is_paid(case: Case, make_agent: MakeAgent) -> None:
    """What the node held it holds again after its restart, and the agent has lived on."""
    backend = case.testbed.backend
    agent = make_agent(AGENT, FORWARDING)
    await agent.start()
    before = await case.balances()
    invoice = await case.invoice()
    await backend.pause([NEAR])
    attempt = asyncio.ensure_future(case.send(invoice))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while agent.query("SELECT state FROM attempts") != [("in_flight",)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        await backend.kill([AGENT])
        await backend.start([AGENT])
    finally:
        await backend.resume([NEAR])
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        ended = await attempt
    assert ended.status is AttemptStatus.SETTLED
    gains = await case.gains(before)
    assert gains[NEAR] == AMOUNT_MSAT
    assert gains[AGENT] == BUDGET_MSAT - gains["cyd"]
    assert sum(gains.values()) == 0
    await states(agent, "settled")


async def test_a_node_that_would_not_wait_is_not_used(case: Case, make_agent: MakeAgent) -> None:
    agent = make_agent(SENDER, FORWARDING)
    await agent.launch()
    assert await agent.wait() == 2
    assert "requireinterceptor=true" in " ".join(agent.log.read_text().split())
