from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
import stamina

from lnagents.market.budget import Budget
from lnagents.market.buyer import ABANDON_SECONDS, DocumentBuyer
from lnagents.market.catalogue import Catalogue, Quote
from lnagents.market.documents import (
    Document,
    FeeCommitment,
    LiquidityHint,
    PriorityPass,
    QuotedHop,
    RouteQuote,
    open_document,
    sign_document,
)
from lnagents.market.l402 import parse_authorization
from lnagents.market.paths import (
    CommitmentRequest,
    LiquidityRequest,
    PassRequest,
    QuoteMark,
    Request,
    RouteRequest,
    new_nonce,
    parse_quoted,
    quoted_path,
)
from lnagents.market.records import PurchaseState, Seller
from lnagents.model.errors import (
    ChallengeError,
    DocumentInvalidError,
    LimitExceededError,
    MarketError,
    NodeTimeoutError,
    NotForSaleError,
    NotFoundError,
    PaymentError,
    PriceError,
    StoreError,
    TokenError,
)
from lnagents.model.payment import Invoice
from tests.unit.market.market_fakes import (
    PEER_KEY,
    SCID,
    SELLER_KEY,
    STRANGER_KEY,
    FakeNode,
    MemoryPayer,
    MemoryPurchases,
)

NOW = 1_800_000_000.0
SELLER = Seller("http://seller/", SELLER_KEY)
BUDGET = Budget(
    max_price_msat=10_000, max_fee_msat=1_000, per_hour_msat=50_000, per_day_msat=100_000
)


@dataclass
class Shop:
    """Plays Aperture and the seller behind it, with every vice that a test asks for."""

    node: FakeNode
    payer: MemoryPayer
    price_sat: int = 2
    asked_sat: int | None = None
    """On the invoice; None: the price."""
    network: str = "bcrt"

    destination: str = SELLER_KEY
    signer: str = SELLER_KEY
    changes: dict[str, object] = field(default_factory=dict)
    """Of the document's fields."""
    quote_changes: dict[str, object] = field(default_factory=dict)
    invoice_changes: dict[str, object] = field(default_factory=dict)
    foreign_macaroon: bool = False
    failures: int = 0
    """How many paid requests are answered with 503 first."""
    unreachable_when_paid: bool = False
    refuse_paid: int = 0
    """A status for every paid request."""
    challenges: int = 0
    paid_requests: int = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/catalogue":
            catalogue = Catalogue(seller=self.destination, bands=10, valid_seconds=60, offers=())
            return httpx.Response(200, content=catalogue.model_dump_json())
        if path.startswith("/v1/quotes"):
            mark = QuoteMark(self.price_sat, int(NOW) + 60, "ab" * 16)
            quote = Quote(
                path=quoted_path(path.removeprefix("/v1/quotes"), mark),
                price_sat=mark.price_sat,
                expires_at=mark.expires_at,
            )
            changed = quote.model_copy(update=self.quote_changes)
            return httpx.Response(200, content=changed.model_dump_json())
        if "authorization" not in request.headers:
            return self._challenge()
        self.paid_requests += 1
        parse_authorization([request.headers["authorization"]])
        if self.unreachable_when_paid:
            raise httpx.ConnectError("connection refused")
        if self.refuse_paid:
            return httpx.Response(self.refuse_paid, json={"error": "x", "message": "no more"})
        if self.failures:
            self.failures -= 1
            return httpx.Response(503, text="not now")
        return httpx.Response(200, content=await self._document(path))

    def _challenge(self) -> httpx.Response:
        self.challenges += 1
        preimage = hashlib.sha256(b"preimage %d" % self.challenges).digest()
        payment_hash = hashlib.sha256(preimage).digest()
        request = (
            f"ln{self.network}{(self.asked_sat or self.price_sat) * 10}n1p{'q' * self.challenges}"
        )
        self.payer.preimages[request] = preimage
        invoice = Invoice(
            payment_request=request,
            payment_hash=payment_hash.hex(),
            destination=self.destination,
            amount_msat=(self.asked_sat or self.price_sat) * 1_000,
            expires_at=NOW + 3_600,
            final_cltv_delta=80,
            payment_addr=b"a" * 32,
        )
        self.node.requests[request] = replace(invoice, **self.invoice_changes)  # type: ignore[arg-type]
        if self.foreign_macaroon:
            payment_hash = b"f" * 32
        macaroon = base64.b64encode(
            b"\2\2\x42\0\0" + payment_hash + b"\7" * 32 + b"\0\0\6\x20" + b"s" * 32
        ).decode()
        text = f'macaroon="{macaroon}", invoice="{request}"'
        headers = [("WWW-Authenticate", f"LSAT {text}"), ("WWW-Authenticate", f"L402 {text}")]
        return httpx.Response(402, headers=headers, text="payment required")

    async def _document(self, path: str) -> bytes:
        document = answer(parse_quoted(path)[0])
        changed = replace(document, **self.changes)  # type: ignore[arg-type]
        return await sign_document(FakeNode(self.signer), changed)


def answer(request: Request) -> Document:
    header: dict[str, Any] = {
        "issuer": SELLER_KEY,
        "issued_at": NOW,
        "expires_at": NOW + 60,
        "sequence": 1,
    }
    if isinstance(request, LiquidityRequest):
        return LiquidityHint(
            scid=request.scid,
            source=request.source,
            amount_msat=request.amount_msat,
            probability=0.5,
            **header,
        )
    if isinstance(request, CommitmentRequest):
        return FeeCommitment(scid=request.scid, base_fee_msat=1, fee_rate_ppm=2, **header)
    if isinstance(request, RouteRequest):
        hop = QuotedHop(SCID, request.destination, request.amount_msat)
        return RouteQuote(
            destination=request.destination,
            amount_msat=request.amount_msat,
            total_fee_msat=3,
            probability=1.0,
            hops=(hop,),
            **header,
        )
    assert isinstance(request, PassRequest)
    return PriorityPass(
        scid=request.scid,
        amount_msat=request.amount_msat,
        payment_hash=request.payment_hash,
        buyer_key=request.buyer_key,
        **header,
    )


def question(amount_msat: int = 50_000_000, *, source: str = PEER_KEY, scid: int = SCID) -> Request:
    return LiquidityRequest(scid=scid, source=source, amount_msat=amount_msat, nonce=new_nonce())


QUESTIONS: tuple[Callable[[], Request], ...] = (
    question,
    lambda: CommitmentRequest(scid=SCID, seconds=60, nonce=new_nonce()),
    lambda: RouteRequest(destination=PEER_KEY, amount_msat=1_000, nonce=new_nonce()),
    lambda: PassRequest(
        scid=SCID, amount_msat=1_000, seconds=60, payment_hash="ab" * 32, nonce=new_nonce()
    ),
)
every_product = pytest.mark.parametrize(
    "ask", QUESTIONS, ids=("liquidity", "commitment", "route", "pass")
)


@dataclass
class Trade:
    """Everything around one buyer."""

    shop: Shop
    payer: MemoryPayer
    purchases: MemoryPurchases
    node: FakeNode
    now: float = NOW

    @asynccontextmanager
    async def buyer(
        self,
        budget: Budget = BUDGET,
        handler: Callable[[httpx.Request], object] | None = None,
    ) -> AsyncIterator[DocumentBuyer]:
        transport = httpx.MockTransport(handler or self.shop)  # type: ignore[arg-type]
        async with DocumentBuyer(
            self.node,
            self.payer,
            self.purchases,
            budget,
            clock=lambda: self.now,
            transport=transport,
        ) as buyer:
            yield buyer

    async def buy(
        self,
        budget: Budget = BUDGET,
        agreed: int | None = None,
        ask: Callable[[], Request] = question,
    ) -> Document:
        async with self.buyer(budget) as buyer:
            return await buyer.buy(SELLER, ask(), agreed_price_msat=agreed)


@pytest.fixture
def trade() -> Trade:
    node, payer = FakeNode(), MemoryPayer()
    return Trade(Shop(node, payer), payer, MemoryPurchases(), node)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


async def test_a_hint_is_bought_recorded_and_verified(trade: Trade) -> None:
    hint = await trade.buy()
    assert isinstance(hint, LiquidityHint)
    assert hint.probability == 0.5
    purchase = trade.purchases.only
    assert purchase.state is PurchaseState.DELIVERED
    assert purchase.price_msat == 2_000
    assert hashlib.sha256(purchase.preimage).hexdigest() == purchase.payment_hash
    assert purchase.document
    assert parse_quoted(purchase.path)[0].nonce == purchase.nonce
    assert trade.payer.payments == trade.shop.paid_requests == 1


@every_product
async def test_every_product_is_bought(trade: Trade, ask: Callable[[], Request]) -> None:
    request = ask()
    document = await trade.buy(ask=lambda: request)
    assert document == answer(request)
    assert document.answers(request)
    assert open_document(trade.purchases.only.document) == document


async def test_every_purchase_has_a_token_of_its_own(trade: Trade) -> None:
    async with trade.buyer() as buyer:
        for _ in range(3):
            await buyer.buy(SELLER, question(50_000_000))
    assert trade.shop.challenges == trade.shop.paid_requests == trade.payer.payments == 3


async def test_purchases_at_the_same_time_do_not_mix(trade: Trade) -> None:
    async with trade.buyer() as buyer:
        hints = await asyncio.gather(
            *(buyer.buy(SELLER, question(1_000 + index)) for index in range(10))
        )
    assert [hint.amount_msat for hint in hints if isinstance(hint, LiquidityHint)] == [
        1_000 + index for index in range(10)
    ]
    assert trade.payer.payments == 10


async def test_a_price_raised_after_the_quote_is_not_paid(trade: Trade) -> None:
    trade.shop.asked_sat = 3
    with pytest.raises(PriceError, match="3 sat, 2 sat were agreed"):
        await trade.buy()
    with pytest.raises(PriceError, match=r"3 sat, 2\.999 sat were agreed"):
        await trade.buy(agreed=2_999)
    assert trade.payer.payments == 0
    assert trade.purchases.purchases == {}


async def test_an_agreed_price_binds_a_dearer_quote_too(trade: Trade) -> None:
    request = question()
    async with trade.buyer() as buyer:
        quote = await buyer.quote(SELLER, request)
        assert quote.price_msat == 2_000
        with pytest.raises(PriceError, match="the quote asks for 2 sat, 1 sat were agreed"):
            await buyer.buy(SELLER, request, agreed_price_msat=1_000, quote=quote)
        assert trade.shop.challenges == 0
        await buyer.buy(SELLER, request, agreed_price_msat=2_000, quote=quote)
    assert trade.purchases.only.path == quote.path


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"price_sat": 1}, "contradicts itself"),
        ({"expires_at": 5}, "contradicts itself"),
        ({"path": question().path()}, "something else"),
        ({"path": "/v1/hints/a:b,c"}, "cannot be read"),
    ],
)
async def test_an_altered_quote_is_refused(
    trade: Trade, changes: dict[str, object], problem: str
) -> None:
    trade.shop.quote_changes = changes
    with pytest.raises(MarketError, match=problem):
        await trade.buy()
    assert trade.shop.challenges == 0


async def test_a_quote_that_has_expired_is_named(trade: Trade) -> None:
    request = question()
    async with trade.buyer() as buyer:
        quote = await buyer.quote(SELLER, request)

    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, text="failure fetching resource price")

    trade.now += 61
    async with trade.buyer(handler=refuse) as buyer:
        with pytest.raises(NotForSaleError, match="expired"):
            await buyer.buy(SELLER, request, quote=quote)


@pytest.mark.parametrize(
    ("shop", "problem"),
    [
        ({"invoice_changes": {"destination": STRANGER_KEY}}, "not the seller"),
        ({"invoice_changes": {"expires_at": NOW}}, "expired"),
        ({"invoice_changes": {"amount_msat": 0}}, "whole number"),
        ({"invoice_changes": {"amount_msat": 1_500}}, "whole number"),
        ({"foreign_macaroon": True}, "does not pay for the macaroon"),
    ],
)
async def test_a_wrong_challenge_is_not_paid(
    trade: Trade, shop: dict[str, object], problem: str
) -> None:
    for name, value in shop.items():
        setattr(trade.shop, name, value)
    with pytest.raises(ChallengeError, match=problem):
        await trade.buy()
    assert trade.payer.payments == 0
    assert trade.purchases.purchases == {}


async def test_what_the_client_cannot_read_is_not_paid_and_stays_no_debt(trade: Trade) -> None:
    trade.shop.network = "1"
    with pytest.raises(ChallengeError, match="could not be parsed"):
        await trade.buy()
    assert trade.payer.payments == 0
    assert trade.purchases.state == "failed"


async def test_a_402_without_challenge_is_named(trade: Trade) -> None:
    async with trade.buyer(handler=lambda request: httpx.Response(402)) as buyer:
        with pytest.raises(ChallengeError, match="no L402"):
            await buyer.buy(SELLER, question(1_000), agreed_price_msat=2_000)


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        (replace(BUDGET, max_price_msat=1_999), "dearer than"),
        (replace(BUDGET, per_hour_msat=5_000), "this hour"),
        (replace(BUDGET, per_day_msat=5_000), "this day,"),
        (replace(BUDGET, per_seller_per_day_msat=5_000), "this day with this seller"),
    ],
)
async def test_the_budget_holds_across_restarts(trade: Trade, budget: Budget, problem: str) -> None:
    per_seller = budget.per_seller_per_day_msat or budget.per_day_msat
    affordable = min(budget.per_hour_msat, budget.per_day_msat, per_seller) // 2_000
    for _ in range(affordable if budget.max_price_msat >= 2_000 else 0):
        await trade.buy(budget)
    before = trade.payer.payments
    with pytest.raises(LimitExceededError, match=problem):
        await trade.buy(budget)
    assert trade.payer.payments == before


async def test_the_budget_holds_for_purchases_at_the_same_time(trade: Trade) -> None:
    async with trade.buyer(replace(BUDGET, per_hour_msat=6_000)) as buyer:
        results = await asyncio.gather(
            *(buyer.buy(SELLER, question(1_000)) for _ in range(8)), return_exceptions=True
        )
    assert sum(isinstance(result, LiquidityHint) for result in results) == 3
    assert trade.payer.payments == 3


async def test_an_hour_later_the_budget_is_free_again(trade: Trade) -> None:
    budget = replace(BUDGET, per_hour_msat=2_000)
    await trade.buy(budget)
    trade.now += 3_601
    trade.shop.changes = {"issued_at": trade.now, "expires_at": trade.now + 60}
    trade.shop.invoice_changes = {"expires_at": trade.now + 60}
    await trade.buy(budget)
    assert trade.payer.payments == 2


async def test_nothing_is_bought_from_a_node_that_cannot_know(trade: Trade) -> None:
    async with trade.buyer() as buyer:
        with pytest.raises(NotForSaleError, match="not an end"):
            await buyer.buy(Seller(SELLER.url, STRANGER_KEY), question())
        with pytest.raises(NotForSaleError, match="not an end"):
            await buyer.buy(Seller(SELLER.url, STRANGER_KEY), QUESTIONS[1]())
        with pytest.raises(NotForSaleError, match="not an end"):
            await buyer.buy(SELLER, question(source=STRANGER_KEY))
        with pytest.raises(NotFoundError):
            await buyer.buy(SELLER, question(scid=SCID + 1))
    assert trade.shop.challenges == 0


async def test_a_catalogue_of_another_node_is_refused(trade: Trade) -> None:
    trade.shop.destination = STRANGER_KEY
    async with trade.buyer() as buyer:
        with pytest.raises(MarketError, match="sells for"):
            await buyer.catalogue(SELLER)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"seller": 1}', b"\xff", b"x" * 1_000_000]
)
async def test_a_broken_catalogue_is_named(trade: Trade, content: bytes) -> None:
    async with trade.buyer(handler=lambda request: httpx.Response(200, content=content)) as buyer:
        with pytest.raises(MarketError, match=r"catalogue|longer than"):
            await buyer.catalogue(SELLER)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, text="failure fetching resource price"),
        httpx.Response(200, text="for free?"),
        httpx.Response(302, headers={"location": "http://elsewhere/"}),
    ],
)
async def test_a_seller_that_asks_for_no_payment_sells_nothing(
    trade: Trade, response: httpx.Response
) -> None:
    async with trade.buyer(handler=lambda request: response) as buyer:
        with pytest.raises(MarketError, match="sells nothing: HTTP"):
            await buyer.buy(SELLER, question(1_000), agreed_price_msat=2_000)


async def test_an_unreachable_seller_is_named(trade: Trade) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    async with trade.buyer(handler=refuse) as buyer:
        with pytest.raises(MarketError, match="connection refused"):
            await buyer.buy(SELLER, question(1_000), agreed_price_msat=2_000)


async def test_a_failed_payment_is_recorded_and_does_not_count(trade: Trade) -> None:
    trade.payer.error = PaymentError("no route")
    with pytest.raises(PaymentError, match="no route"):
        await trade.buy()
    assert trade.purchases.state == "failed"
    assert trade.purchases.only.reason == "no route"
    (incident,) = trade.purchases.incidents
    assert (incident.error, incident.reason) == ("PaymentError", "no route")
    assert (incident.seller, incident.at) == (SELLER_KEY, NOW)
    assert trade.purchases.only.path.startswith(incident.path)
    assert await trade.purchases.spent_msat(0) == 0


@pytest.mark.parametrize("error", [NodeTimeoutError("HTLC on its way"), TimeoutError()])
async def test_a_payment_of_unknown_fate_stays_open(trade: Trade, error: Exception) -> None:
    trade.payer.error = error
    with pytest.raises((NodeTimeoutError, MarketError)):
        await trade.buy()
    assert trade.purchases.state == "challenged"
    assert await trade.purchases.spent_msat(0) == 2_000


@pytest.mark.parametrize(
    ("signer", "changes", "problem"),
    [
        (STRANGER_KEY, {}, "signed by"),
        (PEER_KEY, {"probability": 0.4, "issuer": PEER_KEY}, "issued by"),
        (SELLER_KEY, {"amount_msat": 1}, "another question"),
        (SELLER_KEY, {"issued_at": NOW - 100, "expires_at": NOW - 1}, "expired"),
    ],
)
async def test_a_worthless_hint_is_refused_and_the_loss_recorded(
    trade: Trade, signer: str, changes: dict[str, object], problem: str
) -> None:
    trade.shop.signer, trade.shop.changes = signer, changes
    with pytest.raises(DocumentInvalidError, match=problem):
        await trade.buy()
    purchase = trade.purchases.only
    assert purchase.state is PurchaseState.FAILED
    assert problem in purchase.reason
    assert await trade.purchases.spent_msat(0) == 2_000


@pytest.mark.parametrize(
    ("status", "error"), [(403, TokenError), (402, TokenError), (404, NotForSaleError)]
)
async def test_a_seller_that_keeps_the_money_is_named(
    trade: Trade, status: int, error: type[Exception]
) -> None:
    trade.shop.refuse_paid = status
    with pytest.raises(error, match=f"was paid and refuses: HTTP {status}"):
        await trade.buy()
    assert trade.payer.payments == 1
    assert trade.purchases.state == "failed"


async def test_a_passing_trouble_after_payment_is_waited_out(trade: Trade) -> None:
    trade.shop.failures = 2
    assert isinstance(await trade.buy(), LiquidityHint)
    assert trade.payer.payments == 1


@pytest.mark.parametrize("vice", [{"failures": 10}, {"unreachable_when_paid": True}])
async def test_what_was_paid_is_collected_after_a_restart(
    trade: Trade, vice: dict[str, object]
) -> None:
    for name, value in vice.items():
        setattr(trade.shop, name, value)
    with pytest.raises(MarketError, match="has not delivered yet"):
        await trade.buy()
    assert trade.purchases.state == "paid"
    trade.shop.failures, trade.shop.unreachable_when_paid = 0, False
    async with trade.buyer() as buyer:
        (hint,) = await buyer.resume()
        assert isinstance(hint, LiquidityHint)
        assert await buyer.resume() == ()
    assert trade.purchases.state == "delivered"
    assert trade.payer.payments == trade.shop.challenges == 1


class Crash(BaseException):
    """The process ends here."""


class CrashingPurchases(MemoryPurchases):
    """Dies before or after it has written one of the records."""

    def __init__(self, step: str, *, written: bool) -> None:
        super().__init__()
        self._step = step
        self._written = written

    def _crash(self, step: str, *, written: bool) -> None:
        if (self._step, self._written) == (step, written):
            self._step = ""
            raise Crash

    async def paid(self, nonce: str, preimage: bytes) -> None:
        self._crash("paid", written=False)
        await super().paid(nonce, preimage)
        self._crash("paid", written=True)

    async def delivered(self, nonce: str, document: bytes) -> None:
        self._crash("delivered", written=False)
        await super().delivered(nonce, document)


@every_product
@pytest.mark.parametrize(
    ("step", "written"), [("paid", False), ("paid", True), ("delivered", False)]
)
async def test_a_crash_after_paying_loses_nothing_and_pays_nothing_twice(
    trade: Trade, step: str, written: bool, ask: Callable[[], Request]
) -> None:
    trade.purchases = CrashingPurchases(step, written=written)
    request = ask()
    with pytest.raises(Crash):
        await trade.buy(ask=lambda: request)
    assert trade.payer.payments == 1
    async with trade.buyer() as buyer:
        assert await buyer.resume() == (answer(request),)
    assert trade.purchases.state == "delivered"
    assert trade.payer.payments == trade.shop.challenges == 1


@every_product
async def test_a_crash_between_challenge_and_payment_costs_nothing(
    trade: Trade, ask: Callable[[], Request]
) -> None:
    trade.payer.error = asyncio.CancelledError()  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        await trade.buy(ask=ask)
    assert trade.purchases.state == "challenged"
    trade.payer.error = None
    async with trade.buyer() as buyer:
        assert await buyer.resume() == ()
    assert trade.purchases.state == "failed"
    assert trade.payer.payments == 0
    assert await trade.purchases.spent_msat(0) == 0


async def test_a_store_that_fails_before_payment_stops_the_purchase(trade: Trade) -> None:
    class BrokenPurchases(MemoryPurchases):
        async def challenged(self, purchase: object) -> None:
            raise StoreError("disk full")

    trade.purchases = BrokenPurchases()
    with pytest.raises(StoreError):
        await trade.buy()
    assert trade.payer.payments == 0


async def test_what_a_seller_never_delivers_is_given_up(trade: Trade) -> None:
    trade.shop.unreachable_when_paid = True
    with pytest.raises(MarketError):
        await trade.buy()
    trade.now += ABANDON_SECONDS + 1
    async with trade.buyer() as buyer:
        assert await buyer.resume() == ()
    assert trade.purchases.state == "failed"
    assert await trade.purchases.spent_msat(0) == 2_000


async def test_one_dead_seller_does_not_hold_up_the_others(trade: Trade) -> None:
    trade.shop.failures = 100
    for _ in range(2):
        with pytest.raises(MarketError):
            await trade.buy()
    first, second = trade.purchases.purchases.values()

    async def half_dead(request: httpx.Request) -> httpx.Response:
        if request.url.path == first.path:
            raise httpx.ConnectError("connection refused")
        return await trade.shop(request)

    trade.shop.failures = 0
    async with trade.buyer(handler=half_dead) as buyer:
        assert len(await buyer.resume()) == 1
    states = trade.purchases.purchases
    assert states[first.nonce].state is PurchaseState.PAID
    assert states[second.nonce].state is PurchaseState.DELIVERED


async def test_a_purchase_under_way_is_left_alone_by_resume(trade: Trade) -> None:
    class SlowPayer(MemoryPayer):
        async def pay_invoice(self, request: str, *, max_fee_msat: int) -> bytes:
            started.set()
            await released.wait()
            return await super().pay_invoice(request, max_fee_msat=max_fee_msat)

    started, released = asyncio.Event(), asyncio.Event()
    trade.payer = trade.shop.payer = SlowPayer()
    async with trade.buyer() as buyer:
        buying = asyncio.create_task(buyer.buy(SELLER, question(1_000)))
        await started.wait()
        assert await buyer.resume() == ()
        assert trade.purchases.state == "challenged"
        released.set()
        await buying
    assert trade.purchases.state == "delivered"
    assert trade.payer.payments == trade.shop.paid_requests == 1
