"""How quick the market is on this machine: purchases end to end, paid tokens, and under a flood.

One node sells behind its real Aperture, another buys over real channels; both keep their books in
SQLite as agents do. Nobody else uses the network meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import numpy as np

from lnagents.agent.store import Store
from lnagents.evaluate.bench_forwarding import ForwardingBench, Place, bench_forwarding
from lnagents.evaluate.toll import TollGate
from lnagents.lnd import LndClient
from lnagents.market import (
    Budget,
    DocumentBuyer,
    DocumentSeller,
    LiquidityRequest,
    PriceBook,
    Product,
    Seller,
    SellerSettings,
    new_nonce,
    running_seller,
    standard_issuers,
)
from lnagents.market.l402 import authorization
from lnagents.model.errors import PaymentError, TestbedError
from lnagents.model.payment import PaymentStatus
from lnagents.model.topology import Topology
from lnagents.model.units import Msat, PaymentHash
from lnagents.testbed import Testbed

PRICE_SAT = 2
AT_ONCE = 16
"""Purchases, or requests, under way at once where throughput is measured."""
BUYING_DURING_FLOOD = 10
"""Purchases one after the other while the challenges of others are left unpaid."""
_BUDGET = Budget(
    max_price_msat=10**6, max_fee_msat=10**6, per_hour_msat=10**12, per_day_msat=10**12
)


@dataclass(frozen=True, slots=True)
class MarketBench:
    """All measurements; times in milliseconds."""

    purchases: int
    """Behind the next three, one after the other."""
    purchase_p50_ms: float
    purchase_p99_ms: float
    purchases_per_second_serial: float
    purchases_per_second: float
    """With `AT_ONCE` under way."""
    token_requests: int
    token_requests_per_second: float
    """The same paid token again and again through Aperture, with `AT_ONCE` under way."""
    unpaid_challenges: int
    challenges_per_second: float
    purchase_p50_during_challenges_ms: float
    purchases_during_challenges: int
    """That were delivered, of `BUYING_DURING_FLOOD`."""
    forwarding: ForwardingBench
    load: float
    """Of the machine, while this was measured: processes that ran or wanted to, mean of the last
    minute."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "forwarding": self.forwarding.to_json()}


async def bench_market(
    topology: Topology,
    *,
    purchases: int,
    token_requests: int,
    challenges: int,
    pairs: int,
    rounds: int,
    progress: Callable[[str], None],
) -> MarketBench:
    """Measure on a fresh network of `topology`, whose first seller sells to a node that is not it.

    Raises:
        TestbedError: the topology has no seller, or the network failed.
        LnagentsError: a purchase failed.
    """
    if not topology.sellers:
        raise TestbedError(f"topology {topology.name} has no seller")
    seller = topology.sellers[0].node
    async with Testbed.running(topology, progress=progress) as testbed:
        async with _trade(testbed, seller) as trade:
            progress("warming up")
            await trade.buy(4, 2)
            progress(f"{purchases} purchases, one after the other")
            serial, serial_seconds = await trade.buy(purchases, 1)
            progress(f"{purchases} purchases, {AT_ONCE} at once")
            _, parallel_seconds = await trade.buy(purchases, AT_ONCE)
            progress(f"{token_requests} requests with one paid token")
            token_seconds = await trade.repeat(token_requests)
            progress(f"{challenges} challenges that nobody pays, while one buys")
            flood = asyncio.create_task(trade.challenge(challenges))
            during, _ = await trade.buy(BUYING_DURING_FLOOD, 1)
            flood_seconds = await flood
        forwarding = await _forwarding(testbed, seller, pairs, rounds, progress)
    return MarketBench(
        purchases=purchases,
        purchase_p50_ms=_milliseconds(serial, 50),
        purchase_p99_ms=_milliseconds(serial, 99),
        purchases_per_second_serial=purchases / serial_seconds,
        purchases_per_second=purchases / parallel_seconds,
        token_requests=token_requests,
        token_requests_per_second=token_requests / token_seconds,
        unpaid_challenges=challenges,
        challenges_per_second=challenges / flood_seconds,
        purchase_p50_during_challenges_ms=_milliseconds(during, 50),
        purchases_during_challenges=len(during),
        forwarding=forwarding,
        load=os.getloadavg()[0],
    )


def _milliseconds(seconds: list[float], percentile: float) -> float:
    return float(1_000 * np.percentile(seconds, percentile))


class _Payer:
    """A `LightningPayer` by the node's own route search."""

    def __init__(self, node: LndClient) -> None:
        self._node = node
        self.preimages: dict[PaymentHash, bytes] = {}

    async def pay_invoice(self, request: str, *, max_fee_msat: Msat) -> bytes:
        payment = await self._node.pay(request, fee_limit_msat=max_fee_msat, timeout_seconds=30)
        if payment.status is not PaymentStatus.SETTLED:
            raise PaymentError(f"the payment failed: {payment.failure_reason}")
        self.preimages[payment.payment_hash] = payment.preimage
        return payment.preimage

    async def find_preimage(self, payment_hash: PaymentHash) -> bytes | None:
        return self.preimages.get(payment_hash)


class _Trade:
    """One seller, one buyer."""

    def __init__(
        self, buyer: DocumentBuyer, seller: Seller, asked: LiquidityRequest, store: Store
    ) -> None:
        self._buyer = buyer
        self._seller = seller
        self._asked = asked
        self._store = store
        self._http = httpx.AsyncClient(base_url=seller.url, trust_env=False, timeout=30.0)

    async def close(self) -> None:
        await self._http.aclose()

    def _question(self) -> LiquidityRequest:
        return LiquidityRequest(
            scid=self._asked.scid,
            source=self._asked.source,
            amount_msat=self._asked.amount_msat,
            nonce=new_nonce(),
        )

    async def buy(self, count: int, at_once: int) -> tuple[list[float], float]:
        """Seconds of each of `count` purchases, quote included, and of all."""
        times: list[float] = []

        async def one() -> None:
            began = time.perf_counter()
            await self._buyer.buy(self._seller, self._question())
            times.append(time.perf_counter() - began)

        return times, await _many(one, count, at_once)

    async def repeat(self, count: int) -> float:
        """Seconds of `count` requests with the token of one purchase."""
        request = self._question()
        await self._buyer.buy(self._seller, request, agreed_price_msat=PRICE_SAT * 1_000)
        bought = await self._store.purchases.find(request.nonce)
        token = authorization(bought.macaroon, bought.preimage)

        return await _repeat(self._seller.url, bought.path, token, bought.document, count)

    async def challenge(self, count: int) -> float:
        """Seconds of `count` requests without a token."""

        async def one() -> None:
            response = await self._http.get(self._question().path())
            if response.status_code != httpx.codes.PAYMENT_REQUIRED:
                raise TestbedError(f"instead of a challenge came HTTP {response.status_code}")

        return await _many(one, count, AT_ONCE)


async def _repeat(url: str, path: str, token: str, document: bytes, count: int) -> float:
    """Seconds of `count` requests for `path`, over `AT_ONCE` connections.

    Written out, as a whole HTTP client in this process takes more time than Aperture and seller.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    question = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: {token}\r\n\r\n"
    left = iter(range(count))

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for _ in left:
                writer.write(question.encode())
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                if await reader.readexactly(length) != document:
                    raise TestbedError(f"a paid token got {head[:15].decode()}")
        finally:
            writer.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return time.perf_counter() - began


async def _many(work: Callable[[], Any], count: int, at_once: int) -> float:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await work()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return time.perf_counter() - began


async def _forwarding(
    testbed: Testbed, seller: str, pairs: int, rounds: int, progress: Callable[[str], None]
) -> ForwardingBench:
    """From the node that buys by way of the seller to the peer where most can be sent on."""
    names = {node.key: name for name, node in testbed.nodes.items()}
    buyer = _buyer_of(testbed, seller)
    async with AsyncExitStack() as stack:
        channels = await testbed.client(seller).channels()
        others = [one for one in channels if names[one.peer] != buyer]
        receiver = names[max(others, key=lambda one: one.spendable_msat).peer]
        place = Place(
            testbed.client(buyer),
            testbed.client(seller),
            testbed.client(receiver),
            (testbed.nodes[buyer].key, testbed.nodes[seller].key, testbed.nodes[receiver].key),
        )
        agent = testbed.nodes[seller].agent
        gate = TollGate(
            agent, testbed.nodes[seller].key, testbed.sellers[seller], testbed.directory
        )
        documents, store = await _open_buyer(stack, testbed, buyer)
        return await bench_forwarding(
            testbed,
            gate,
            place,
            documents,
            store.purchases,
            pairs=pairs,
            rounds=rounds,
            progress=progress,
        )


def _buyer_of(testbed: Testbed, seller: str) -> str:
    """A node with a channel to the seller."""
    for channel in testbed.topology.channels:
        if channel.target == seller:
            return channel.source
    return next(name for name in testbed.nodes if name != seller)


async def _open_buyer(
    stack: AsyncExitStack, testbed: Testbed, name: str
) -> tuple[DocumentBuyer, Store]:
    node = await stack.enter_async_context(LndClient(testbed.nodes[name].agent))
    store = await Store.open(testbed.directory / "bench-buyer.sqlite")
    stack.push_async_callback(store.close)
    buyer = DocumentBuyer(node, _Payer(node), store.purchases, _BUDGET)
    return await stack.enter_async_context(buyer), store


@asynccontextmanager
async def _trade(testbed: Testbed, seller_name: str) -> AsyncIterator[_Trade]:
    site = testbed.sellers[seller_name]
    seller_key = testbed.nodes[seller_name].key
    async with AsyncExitStack() as stack:
        seller_node = await stack.enter_async_context(LndClient(testbed.nodes[seller_name].agent))
        sales = await Store.open(testbed.directory / "bench-seller.sqlite")
        stack.push_async_callback(sales.close)
        settings = SellerSettings()
        seller = DocumentSeller(
            seller_node,
            seller_key,
            sales.sales,
            PriceBook({Product.LIQUIDITY: PRICE_SAT}),
            standard_issuers(seller_key, settings),
            settings,
        )
        await stack.enter_async_context(
            running_seller(
                seller,
                service_host=site.service_host,
                service_port=site.service_port,
                pricer_host=site.pricer_host,
                pricer_port=site.pricer_port,
            )
        )
        buyer, store = await _open_buyer(stack, testbed, _buyer_of(testbed, seller_name))
        channel = (await seller_node.channels())[0]
        asked = LiquidityRequest(
            scid=channel.scid, source=seller_key, amount_msat=1_000_000, nonce=new_nonce()
        )
        trade = _Trade(buyer, Seller(site.url, seller_key), asked, store)
        stack.push_async_callback(trade.close)
        yield trade
