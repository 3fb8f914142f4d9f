"""Priority that really is, on real channels; and attacks on it, each refused by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from coincurve import PrivateKey

from lnagents.agent.forwarder import Forwarder, ForwarderState
from lnagents.agent.pass_ledger import PassLedger
from lnagents.agent.passes import PassDesk
from lnagents.agent.rooms import Rooms
from lnagents.agent.store import Store
from lnagents.lnd import LndClient
from lnagents.market import PassRequest, PriorityPass, Purchase, new_nonce
from lnagents.market.l402 import authorization
from lnagents.market.passes import PASS_RECORD, Passage, PassUse, pass_id, present, public_key
from lnagents.model.errors import NotForSaleError
from lnagents.model.graph import LocalChannel
from lnagents.model.payment import Attempt, AttemptStatus, FailureCode, HtlcEvent
from lnagents.model.units import Msat, NodeKey
from lnagents.testbed import Testbed
from tests.integration.market.trading import BUYER, PRICE_SAT, SELLER, Market

AMOUNT_MSAT = 50_000_000
"""Of one payment: five units of a pass."""
SPARE_MSAT = 20_000_000
"""What others may send over the channel."""
FAR, OTHER_SELLER = "frank", "dave"
SECONDS = 60
PATIENCE_SECONDS = 20.0


def fresh_key() -> bytes:
    return PrivateKey().secret


@dataclass
class Toll:
    """carol keeps nearly all of her channel to frank for holders of passes."""

    market: Market
    testbed: Testbed
    channel: LocalChannel
    desk: PassDesk
    store: Store

    @property
    def ledger(self) -> PassLedger:
        return PassLedger(self.store.database)

    def request(
        self, key: bytes = b"", amount: Msat = AMOUNT_MSAT, **changes: object
    ) -> PassRequest:
        asked = PassRequest(
            nonce=new_nonce(),
            scid=self.channel.scid,
            amount_msat=amount,
            seconds=SECONDS,
            buyer_key=public_key(key) if key else None,
        )
        return replace(asked, **changes)  # type: ignore[arg-type]

    async def buy(self, request: PassRequest) -> tuple[Purchase, bytes]:
        """The purchase, and the id of the pass."""
        async with self.market.buyer() as buyer:
            document = await buyer.buy(self.market.seller, request)
        assert isinstance(document, PriorityPass)
        purchase = await self.market.purchases.purchases.find(request.nonce)
        return purchase, pass_id(purchase.document)

    async def invoice(self) -> tuple[str, bytes]:
        made = await self.testbed.client(FAR).add_invoice(AMOUNT_MSAT)
        return made.payment_hash, made.payment_addr

    def passage(self, payment_hash: str) -> Passage:
        return Passage(payment_hash, self.channel.scid, AMOUNT_MSAT)

    async def send(
        self,
        use: PassUse | bytes | None = None,
        invoice: tuple[str, bytes] | None = None,
        by: str = SELLER,
    ) -> Attempt:
        """Send from alice over carol, or another one, to frank, perhaps presenting a pass."""
        payment_hash, payment_addr = invoice or await self.invoice()
        alice = self.testbed.client(BUYER)
        hops = [self.testbed.nodes[name].key for name in (by, FAR)]
        route = await alice.build_route(AMOUNT_MSAT, hops, payment_addr=payment_addr)
        if use is not None:
            data = use.to_bytes() if isinstance(use, PassUse) else use
            first = replace(route.hops[0], custom_records={PASS_RECORD: data})
            route = replace(route, hops=(first, *route.hops[1:]))
        return await alice.send_to_route(payment_hash, route)

    async def use(self, identity: bytes, key: bytes) -> Attempt:
        """Send with a pass as its holder does."""
        invoice = await self.invoice()
        return await self.send(present(key, identity, self.passage(invoice[0])), invoice)

    @contextlib.asynccontextmanager
    async def attacked(
        self, error: str, desk: PassDesk | None = None
    ) -> AsyncIterator[list[Attempt]]:
        """What is sent in here is refused as `error`, which is written down, and moves no money."""
        attempts: list[Attempt] = []
        received = await self.received()
        promised = self.desk.promised_msat(self.channel.scid)
        before = len(await self.refusals())
        yield attempts
        assert attempts
        for attempt in attempts:
            assert attempt.status is AttemptStatus.FAILED
            assert attempt.failure is not None
            assert attempt.failure.source_index == 1
            assert attempt.failure.code is FailureCode.TEMPORARY_CHANNEL_FAILURE
        assert await self.refusals() == (await self.refusals())[:before] + [error] * len(attempts)
        assert await self.received() == received
        assert self.desk.promised_msat(self.channel.scid) == promised

    async def refusals(self) -> list[str]:
        return [error for _, error in await self.ledger.refusals()]

    async def received(self) -> Msat:
        return sum(one.paid_msat for one in await self.testbed.client(FAR).list_invoices())


@contextlib.asynccontextmanager
async def deciding(node: LndClient, store: Store, share: float) -> AsyncIterator[PassDesk]:
    """A desk that decides on the forwards of `node`, as the daemon runs it."""
    rooms = Rooms(node)
    desk = PassDesk(
        rooms, PassLedger(store.database), reserved_share=share, bands=10, max_seconds=3_600
    )
    store.sales.on_sale = desk.on_sale

    async def follow() -> None:
        async for event in node.htlc_events():
            if isinstance(event, HtlcEvent):
                desk.on_event(event)

    await desk.load()
    forwarder = Forwarder(node.htlc_interceptor(), [desk], deadline_seconds=5.0)
    tasks = [asyncio.ensure_future(work) for work in (forwarder.run(), rooms.run(), follow())]
    try:
        assert await forwarder.wait_known(PATIENCE_SECONDS) is ForwarderState.DECIDING
        yield desk
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="session")
async def toll(testbed: Testbed, market: Market) -> AsyncIterator[Toll]:
    far: NodeKey = testbed.nodes[FAR].key
    channel = next(one for one in await market.seller_node.channels() if one.peer == far)
    share = (channel.spendable_msat - SPARE_MSAT) / channel.capacity_msat
    async with deciding(market.seller_node, market.sales, share) as desk:
        await market.close()
        await market.open(passes=desk)
        yield Toll(market, testbed, channel, desk, market.sales)
    await testbed.wait_quiet()


async def test_a_holder_gets_through_where_others_are_refused(toll: Toll) -> None:
    refused = await toll.send()
    assert refused.failure is not None
    assert refused.failure.source_index == 1
    key = fresh_key()
    purchase, identity = await toll.buy(toll.request(key))
    assert purchase.price_msat == 5 * PRICE_SAT * 1_000
    assert toll.desk.promised_msat(toll.channel.scid) == AMOUNT_MSAT
    assert (await toll.use(identity, key)).status is AttemptStatus.SETTLED
    assert (await toll.send()).status is AttemptStatus.FAILED
    async with asyncio.timeout(PATIENCE_SECONDS):
        while toll.desk.promised_msat(toll.channel.scid):  # noqa: ASYNC110 - the node tells it
            await asyncio.sleep(0.05)
    # Nothing of it was a misuse.
    assert await toll.refusals() == []


async def test_a_pass_for_one_payment(toll: Toll) -> None:
    invoice = await toll.invoice()
    _, identity = await toll.buy(toll.request(payment_hash=invoice[0]))
    async with toll.attacked("OTHER_PAYMENT") as attempts:
        attempts.append(await toll.send(PassUse(identity)))
    paid = await toll.send(PassUse(identity), invoice)
    assert paid.status is AttemptStatus.SETTLED


async def test_no_more_is_sold_than_is_kept(toll: Toll) -> None:
    income = await toll.market.income_msat()
    with pytest.raises(NotForSaleError, match="sold out"):
        await toll.buy(toll.request(fresh_key(), toll.channel.capacity_msat))
    with pytest.raises(NotForSaleError, match="no pass holds for more than"):
        await toll.buy(toll.request(fresh_key(), seconds=3_601))
    assert await toll.market.income_msat() == income
    incidents = await toll.market.purchases.purchases.incidents()
    assert [one.error for one in incidents] == ["NotForSaleError"] * 2


async def test_a_pass_is_used_up(toll: Toll) -> None:
    key = fresh_key()
    _, identity = await toll.buy(toll.request(key))
    assert (await toll.use(identity, key)).status is AttemptStatus.SETTLED
    await toll.testbed.wait_quiet()
    async with toll.attacked("USED_UP") as attempts:
        attempts.append(await toll.use(identity, key))


async def test_a_restart_does_not_renew_a_pass(testbed: Testbed, market: Market) -> None:
    far = testbed.nodes[FAR].key
    channel = next(one for one in await market.seller_node.channels() if one.peer == far)
    key = fresh_key()
    async with deciding(market.seller_node, market.sales, 0.5) as desk:
        await market.close()
        await market.open(passes=desk)
        toll = Toll(market, testbed, channel, desk, market.sales)
        _, identity = await toll.buy(toll.request(key))
        assert (await toll.use(identity, key)).status is AttemptStatus.SETTLED
        await market.close()
    async with deciding(market.seller_node, market.sales, 0.5) as desk:
        toll = Toll(market, testbed, channel, desk, market.sales)
        async with toll.attacked("USED_UP") as attempts:
            attempts.append(await toll.use(identity, key))
    await testbed.wait_quiet()


async def test_an_overheard_use_is_good_for_nothing_else(toll: Toll) -> None:
    """Somebody at the seller saw the record, and repeats it."""
    key = fresh_key()
    _, identity = await toll.buy(toll.request(key))
    overheard = present(key, identity, toll.passage("ab" * 32))
    async with toll.attacked("NOT_THE_HOLDER") as attempts:
        attempts.append(await toll.send(overheard))


async def test_an_altered_pass_is_refused(toll: Toll) -> None:
    key = fresh_key()
    _, identity = await toll.buy(toll.request(key))
    invoice = await toll.invoice()
    data = present(key, identity, toll.passage(invoice[0])).to_bytes()
    for place, error in ((0, "UNREADABLE"), (5, "UNKNOWN"), (40, "NOT_THE_HOLDER")):
        changed = bytearray(data)
        changed[place] ^= 1
        async with toll.attacked(error) as attempts:
            attempts.append(await toll.send(bytes(changed)))
    async with toll.attacked("UNREADABLE") as attempts:
        attempts.append(await toll.send(b"x" * 400))


async def test_a_pass_for_another_channel_is_refused(toll: Toll) -> None:
    others = await toll.market.seller_node.channels()
    other = next(one for one in others if one.peer == toll.testbed.nodes["grace"].key)
    key = fresh_key()
    _, identity = await toll.buy(toll.request(key, 10_000_000, scid=other.scid))
    async with toll.attacked("OTHER_CHANNEL") as attempts:
        attempts.append(await toll.use(identity, key))


async def test_a_pass_of_another_seller_is_refused(
    toll: Toll, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = fresh_key()
    _, identity = await toll.buy(toll.request(key))
    store = await Store.open(tmp_path_factory.mktemp("other") / "agent.sqlite")
    try:
        async with (
            LndClient(toll.testbed.nodes[OTHER_SELLER].agent) as node,
            deciding(node, store, 0.1) as desk,
        ):
            there = replace(toll, desk=desk, store=store)
            async with there.attacked("UNKNOWN") as attempts:
                invoice = await toll.invoice()
                use = present(key, identity, toll.passage(invoice[0]))
                attempts.append(await there.send(use, invoice, by=OTHER_SELLER))
    finally:
        await store.close()


async def test_an_expired_pass_is_refused(toll: Toll) -> None:
    key = fresh_key()
    _, identity = await toll.buy(toll.request(key, seconds=1))
    await asyncio.sleep(1.1)
    async with toll.attacked("EXPIRED") as attempts:
        attempts.append(await toll.use(identity, key))


async def test_a_token_that_a_router_learned_gives_it_no_pass(toll: Toll) -> None:
    """It has macaroon and preimage, so it gets the document; the key it has not."""
    key, thief = fresh_key(), fresh_key()
    purchase, identity = await toll.buy(toll.request(key))
    token = authorization(purchase.macaroon, purchase.preimage)
    stolen = await toll.market.get(purchase.path, token)
    assert stolen.content == purchase.document
    # Nor does it get a pass of its own for the same token.
    other = toll.request(thief)
    assert (await toll.market.get(other.path(), token)).status_code != 200
    async with toll.attacked("NOT_THE_HOLDER") as attempts:
        attempts.append(await toll.use(pass_id(stolen.content), thief))
    # It has cost the holder nothing.
    assert (await toll.use(identity, key)).status is AttemptStatus.SETTLED
