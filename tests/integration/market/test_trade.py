"""Hints bought and sold through a real Aperture, paid over real channels."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from coincurve import PrivateKey

from lnagents.agent.store import Store
from lnagents.lnd import InvoiceState, LndClient
from lnagents.market import (
    Budget,
    CommitmentRequest,
    Document,
    DocumentBuyer,
    DocumentSeller,
    FeeCommitment,
    LiquidityHint,
    LiquidityRequest,
    PriceBook,
    Product,
    Purchase,
    Request,
    RouteQuote,
    RouteRequest,
    Seller,
    SellerSettings,
    new_nonce,
    running_seller,
    standard_issuers,
    verify_document,
)
from lnagents.market.documents.signature import signed_by
from lnagents.market.l402 import authorization
from lnagents.market.paths import parse_quoted
from lnagents.model.errors import (
    DocumentInvalidError,
    LnagentsError,
    MarketError,
    NotForSaleError,
    PaymentError,
    PriceError,
)
from lnagents.model.graph import LocalChannel
from lnagents.model.payment import PaymentStatus
from lnagents.model.units import Msat, NodeKey, PaymentHash, Ppm, ShortChannelId
from lnagents.testbed import Testbed
from lnagents.testbed.backend import SellerSite, ServiceState, aperture_service
from lnagents.testbed.waiting import wait_until

BUYER, SELLER, WITNESS = "alice", "carol", "grace"
BUDGET = Budget(max_price_msat=10_000, max_fee_msat=5_000, per_hour_msat=10**8, per_day_msat=10**8)
PRICE_SAT = 2


class NodePayer:
    """Pays with the node's own route search; LND's ledger makes it idempotent."""

    def __init__(self, node: LndClient) -> None:
        self._node = node
        self.after_payment: Callable[[], Awaitable[None]] | None = None

    async def pay_invoice(self, request: str, *, max_fee_msat: Msat) -> bytes:
        payment = await self._node.pay(request, fee_limit_msat=max_fee_msat, timeout_seconds=30)
        if payment.status is not PaymentStatus.SETTLED:
            raise PaymentError(payment.failure_reason)
        if self.after_payment is not None:
            await self.after_payment()
        return payment.preimage

    async def find_preimage(self, payment_hash: PaymentHash) -> bytes | None:
        payment = await self._node.track_payment(payment_hash)
        settled = payment is not None and payment.status is PaymentStatus.SETTLED
        return payment.preimage if payment is not None and settled else None


@dataclass
class ForgingNode:
    """A seller's node whose documents another node signs."""

    node: LndClient
    forger: LndClient

    async def sign_message(self, message: bytes) -> str:
        return await self.forger.sign_message(message)

    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        return await self.node.channels(active_only=active_only)

    async def lookup_invoice(self, payment_hash: PaymentHash) -> InvoiceState:
        return await self.node.lookup_invoice(payment_hash)


class FixedFees:
    """Fees that nobody changes."""

    def promise(self, scid: ShortChannelId, until: float) -> tuple[Msat, Ppm]:
        return 1_000, 100


@dataclass
class Market:
    """carol sells to alice; both act with the rights of an agent only."""

    site: SellerSite
    seller_node: LndClient
    buyer_node: LndClient
    witness: LndClient
    seller: Seller
    buyer_key: NodeKey
    channel: LocalChannel
    sales: Store
    purchases: Store
    prices: PriceBook = field(default_factory=lambda: PriceBook(dict.fromkeys(Product, PRICE_SAT)))
    service: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    payer: NodePayer = field(init=False)

    def __post_init__(self) -> None:
        self.payer = NodePayer(self.buyer_node)

    async def open(self, node: LndClient | ForgingNode | None = None) -> None:
        """Start selling."""
        settings = SellerSettings()
        seller = DocumentSeller(
            node or self.seller_node,
            self.seller.key,
            self.sales.sales,
            self.prices,
            standard_issuers(
                self.seller.key, settings, router=self.seller_node, keeper=FixedFees()
            ),
            settings,
        )
        await self.service.enter_async_context(
            running_seller(
                seller,
                service_host=self.site.service_host,
                service_port=self.site.service_port,
                pricer_host=self.site.pricer_host,
                pricer_port=self.site.pricer_port,
            )
        )

    async def close(self) -> None:
        """Stop selling."""
        await self.service.aclose()

    def buyer(self, collect_seconds: float = 5.0) -> DocumentBuyer:
        return DocumentBuyer(
            self.buyer_node,
            self.payer,
            self.purchases.purchases,
            BUDGET,
            collect_seconds=collect_seconds,
        )

    def question(self, amount_msat: Msat = 1_000_000, source: NodeKey = "") -> LiquidityRequest:
        return LiquidityRequest(
            scid=self.channel.scid,
            source=source or self.seller.key,
            amount_msat=amount_msat,
            nonce=new_nonce(),
        )

    async def buy(self, request: Request | None = None) -> Document:
        async with self.buyer() as buyer:
            return await buyer.buy(self.seller, request or self.question())

    async def purchase(self) -> tuple[Purchase, Document]:
        """Buy, and read the record of it as a crash right before the delivery would leave it."""
        kept: list[Purchase] = []

        async def keep() -> None:
            kept.extend(await self.purchases.purchases.unfinished())

        self.payer.after_payment = keep
        hint = await self.buy()
        self.payer.after_payment = None
        return kept[-1], hint

    async def preimage(self, purchase: Purchase) -> bytes:
        preimage = await self.payer.find_preimage(purchase.payment_hash)
        assert preimage is not None
        return preimage

    async def get(
        self, path: str, token: str = "", *, past_aperture: bool = False
    ) -> httpx.Response:
        url = f"http://{self.site.service_host}:{self.site.service_port}"
        headers = {"authorization": token} if token else {}
        async with httpx.AsyncClient(trust_env=False) as http:
            base = url if past_aperture else self.site.url
            return await http.get(base + path, headers=headers)

    async def bought(self) -> tuple[int, Msat]:
        """Hints delivered, and what all purchases cost."""
        delivered = (await self.purchases.totals()).hints_bought
        return delivered, await self.purchases.purchases.spent_msat(0.0)

    async def sold(self) -> tuple[int, Msat]:
        """Hints sold, and what they brought in."""
        totals = await self.sales.totals()
        return totals.hints_sold, totals.hint_income_msat

    async def settled_payments(self) -> int:
        payments = await self.buyer_node.list_payments()
        return sum(payment.status is PaymentStatus.SETTLED for payment in payments)

    async def income_msat(self) -> Msat:
        return sum(each.paid_msat for each in await self.seller_node.list_invoices())


@pytest.fixture
async def market(testbed: Testbed, tmp_path: Path) -> AsyncIterator[Market]:
    async with contextlib.AsyncExitStack() as stack:
        buyer_node, seller_node, witness = [
            await stack.enter_async_context(LndClient(testbed.nodes[name].agent))
            for name in (BUYER, SELLER, WITNESS)
        ]
        stores = [await Store.open(tmp_path / name) for name in ("sales", "purchases")]
        for store in stores:
            stack.push_async_callback(store.close)
        buyer_key = testbed.nodes[BUYER].key
        site = testbed.sellers[SELLER]
        market = Market(
            site=site,
            seller_node=seller_node,
            buyer_node=buyer_node,
            witness=witness,
            seller=Seller(site.url, testbed.nodes[SELLER].key),
            buyer_key=buyer_key,
            # Not the one that the payments for the hints themselves go over.
            channel=next(each for each in await seller_node.channels() if each.peer != buyer_key),
            sales=stores[0],
            purchases=stores[1],
        )
        stack.push_async_callback(market.close)
        await market.open()
        yield market


async def test_the_catalogue_is_free_and_offers_every_public_channel(market: Market) -> None:
    before = await market.settled_payments()
    async with market.buyer() as buyer:
        catalogue = await buyer.catalogue(market.seller)
    channels = await market.seller_node.channels()
    assert catalogue.seller == market.seller.key
    offers = [offer for offer in catalogue.offers if offer.product == Product.LIQUIDITY]
    assert {offer.peer for offer in offers} == {each.peer for each in channels}
    assert all(offer.price_sat == PRICE_SAT for offer in catalogue.offers)
    assert await market.settled_payments() == before


async def test_a_hint_is_paid_for_once_and_anybody_can_verify_it(market: Market) -> None:
    payments, income = await market.settled_payments(), await market.income_msat()
    hint = await market.buy()
    assert isinstance(hint, LiquidityHint)
    assert hint.issuer == market.seller.key
    assert (hint.scid, hint.amount_msat) == (market.channel.scid, 1_000_000)
    assert await market.settled_payments() == payments + 1
    assert await market.income_msat() == income + PRICE_SAT * 1_000
    assert await market.bought() == (1, PRICE_SAT * 1_000)
    assert await market.sold() == (1, PRICE_SAT * 1_000)


async def test_the_answers_are_those_of_the_real_balances(market: Market) -> None:
    async with market.buyer() as buyer:
        for source, movable in (
            (market.seller.key, market.channel.spendable_msat),
            (market.channel.peer, market.channel.receivable_msat),
        ):
            band = market.channel.capacity_msat // 10
            for amount, probability in (
                (movable // band * band, 1.0),
                (movable // band * band + band, 0.0),
            ):
                hint = await buyer.buy(market.seller, market.question(amount, source))
                assert isinstance(hint, LiquidityHint)
                assert hint.probability == probability


async def test_the_same_token_again_gives_the_same_bytes(market: Market) -> None:
    purchase, hint = await market.purchase()
    token = authorization(purchase.macaroon, await market.preimage(purchase))
    first, again = [await market.get(purchase.path, token) for _ in range(2)]
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    verified = verify_document(
        first.content,
        issuer=market.seller.key,
        request=parse_quoted(purchase.path)[0],
        now=hint.issued_at,
    )
    assert verified == hint
    assert await market.sold() == (1, PRICE_SAT * 1_000)


async def test_a_token_is_worth_nothing_for_another_question(market: Market) -> None:
    purchase, _ = await market.purchase()
    token = authorization(purchase.macaroon, await market.preimage(purchase))
    question = parse_quoted(purchase.path)[0]
    assert isinstance(question, LiquidityRequest)
    others = (
        replace(question, amount_msat=2_000_000),
        replace(question, source=market.channel.peer),
        replace(question, nonce=new_nonce()),
        CommitmentRequest(scid=question.scid, seconds=60, nonce=question.nonce),
    )
    for other in others:
        # Aperture asks for a new payment; the service behind it would refuse, too.
        assert (await market.get(other.path(), token)).status_code == 402
        direct = await market.get(other.path(), token, past_aperture=True)
        assert direct.status_code == 403
        assert direct.json()["error"] == "token"


async def test_an_unpaid_token_is_worth_nothing(market: Market) -> None:
    path = market.question(1_000).path()
    challenge = (await market.get(path)).headers.get_list("www-authenticate")[1]
    macaroon = challenge.split('macaroon="')[1].split('"')[0]
    token = authorization(macaroon, b"\0" * 32)
    assert (await market.get(path, token)).status_code == 402
    assert (await market.get(path, token, past_aperture=True)).status_code == 403


async def test_a_paid_invoice_for_something_else_buys_no_hint(
    market: Market, testbed: Testbed
) -> None:
    coffee = await testbed.client(SELLER).add_invoice(50_000, description="coffee")
    preimage = await market.payer.pay_invoice(coffee.payment_request, max_fee_msat=5_000)
    identifier = b"\0\0" + bytes.fromhex(coffee.payment_hash) + b"\1" * 32
    forged = b"\2\2\x42" + identifier + b"\0\0\6\x20" + b"s" * 32
    token = authorization(base64.b64encode(forged).decode(), preimage)
    path = market.question(1_000).path()
    assert (await market.get(path, token)).status_code == 402
    direct = await market.get(path, token, past_aperture=True)
    assert direct.status_code == 403
    assert "not made for a token" in direct.json()["message"]


async def test_a_price_raised_after_the_quote_is_not_paid(market: Market) -> None:
    before = await market.settled_payments()
    async with market.buyer() as buyer:
        catalogue = await buyer.catalogue(market.seller)
        listed = catalogue.price_msat(Product.LIQUIDITY, market.channel.scid)
        question = market.question()
        quote = await buyer.quote(market.seller, question)
        market.prices.set_price(Product.LIQUIDITY, PRICE_SAT + 1)
        with pytest.raises(PriceError, match="3 sat, 2 sat were agreed"):
            await buyer.buy(market.seller, market.question(), agreed_price_msat=listed)
        assert await market.settled_payments() == before
        # Who has a quote pays what it says.
        await buyer.buy(market.seller, question, quote=quote)
        before += 1
    assert await market.settled_payments() == before
    assert await market.purchases.purchases.unfinished() == ()


async def test_nothing_payable_is_made_for_nonsense(market: Market) -> None:
    before = len(await market.seller_node.list_invoices())
    good = market.question(1_000).path()
    for path in (
        good.replace("/1000/", "/1000:1/"),
        good.replace("/1000/", "/1000,1/"),
        good.replace("/1000/", "/1000%3A/"),
        good.replace("/1000/", "/0/"),
        good.replace(market.seller.key, market.buyer_key),
        good + "/",
        "/v1/hints/",
        "/v1/hints/liquidity/" + "a" * 2_000,
    ):
        assert (await market.get(path)).status_code == 500
    assert len(await market.seller_node.list_invoices()) == before


async def test_a_refusal_to_sell_makes_no_invoice(market: Market) -> None:
    before = len(await market.seller_node.list_invoices())
    async with market.buyer() as buyer:
        with pytest.raises(NotForSaleError, match="not an end"):
            await buyer.buy(market.seller, market.question(source=market.buyer_key))
    assert len(await market.seller_node.list_invoices()) == before


async def test_what_was_paid_is_collected_when_the_seller_comes_back(market: Market) -> None:
    payments, income = await market.settled_payments(), await market.income_msat()
    market.payer.after_payment = market.close
    async with market.buyer(collect_seconds=0.5) as buyer:
        with pytest.raises(MarketError, match="has not delivered yet: HTTP 502"):
            await buyer.buy(market.seller, market.question())
    (purchase,) = await market.purchases.purchases.unfinished()
    assert purchase.state == "paid"

    await market.open()
    async with market.buyer() as restarted:
        (hint,) = await restarted.resume()
        assert await restarted.resume() == ()
    assert hint.answers(parse_quoted(purchase.path)[0])
    assert await market.settled_payments() == payments + 1
    assert await market.income_msat() == income + PRICE_SAT * 1_000


async def test_what_was_paid_right_before_a_crash_is_collected(market: Market) -> None:
    payments = await market.settled_payments()

    async def crash() -> None:
        raise SystemExit

    market.payer.after_payment = crash
    with pytest.raises(SystemExit):
        await market.buy()
    (purchase,) = await market.purchases.purchases.unfinished()
    assert purchase.state == "challenged"
    async with market.buyer() as restarted:
        (hint,) = await restarted.resume()
    assert hint.answers(parse_quoted(purchase.path)[0])
    assert await market.settled_payments() == payments + 1


async def test_a_forged_hint_is_refused_and_the_loss_recorded(market: Market) -> None:
    await market.close()
    await market.open(ForgingNode(market.seller_node, market.witness))
    with pytest.raises(DocumentInvalidError, match="signed by"):
        await market.buy()
    assert await market.bought() == (0, PRICE_SAT * 1_000)
    assert await market.purchases.purchases.unfinished() == ()


async def test_signatures_are_verified_without_a_node_as_lnd_does(market: Market) -> None:
    for message in (b"\0", b"a document", bytes(range(256))):
        signature = await market.seller_node.sign_message(message)
        _, key = await market.witness.verify_message(message, signature)
        assert signed_by(message, signature) == key == market.seller.key
        assert signed_by(message + b"x", signature) != key


async def test_every_product_is_sold(market: Market, testbed: Testbed) -> None:
    requests = (
        CommitmentRequest(scid=market.channel.scid, seconds=60, nonce=new_nonce()),
        RouteRequest(
            destination=testbed.nodes["frank"].key, amount_msat=1_000_000, nonce=new_nonce()
        ),
    )
    commitment, route = [await market.buy(request) for request in requests]
    assert isinstance(commitment, FeeCommitment)
    assert commitment.expires_at - commitment.issued_at == pytest.approx(60)
    assert isinstance(route, RouteQuote)
    assert 0.0 < route.probability <= 1.0

    # The route leads there, at what the policies on the way ask for.
    graph = await market.witness.graph()
    at, total = market.seller.key, 0
    arriving = [hop.amount_msat for hop in route.hops]
    for hop in route.hops:
        edge = graph.channels[hop.scid].edge_from(at)
        assert edge.target == hop.target
        assert edge.policy is not None
        total += edge.policy.outbound_fee(hop.amount_msat)
        at = hop.target
    assert at == testbed.nodes["frank"].key
    assert arriving[-1] == 1_000_000
    assert route.total_fee_msat == total


async def test_a_route_to_nowhere_costs_nothing(market: Market) -> None:
    before = len(await market.seller_node.list_invoices())
    nobody = PrivateKey().public_key.format().hex()
    with pytest.raises(NotForSaleError, match="no route"):
        await market.buy(RouteRequest(destination=nobody, amount_msat=1_000, nonce=new_nonce()))
    assert len(await market.seller_node.list_invoices()) == before


async def test_aperture_comes_back_with_its_lnd_and_sells_again(
    market: Market, testbed: Testbed
) -> None:
    await market.buy()
    service = aperture_service(SELLER)
    await testbed.backend.kill([SELLER])
    try:

        async def ended() -> bool:
            return "is started again" in await testbed.logs(service)

        await wait_until(ended, timeout=30.0, complaint=lambda: "it still runs")
        async with market.buyer() as buyer:
            with pytest.raises(MarketError):
                await buyer.buy(market.seller, market.question(), agreed_price_msat=2_000)
        assert await market.purchases.purchases.unfinished() == ()
    finally:
        await testbed.backend.start([SELLER])
        await testbed.client(SELLER).wait_ready(60.0)

    async def again() -> bool:
        try:
            await market.buy()
        except LnagentsError:
            return False
        return True

    await wait_until(again, timeout=90.0, complaint=lambda: "nothing is sold", interval=0.5)
    assert (await testbed.states())[service] is ServiceState.RUNNING
    await testbed.wait_gossip()
