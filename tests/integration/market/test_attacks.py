"""Attacks on buyers and sellers, on the real stack: each a named error, and no more is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx
import pytest

from lnagents.market import (
    DocumentSeller,
    LiquidityHint,
    LiquidityRequest,
    PriceBook,
    Product,
    SellerSettings,
    create_app,
    new_nonce,
    sign_document,
    standard_issuers,
)
from lnagents.market.l402 import TokenIdentity, authorization
from lnagents.model.errors import (
    ChallengeError,
    DocumentInvalidError,
    LnagentsError,
    MarketError,
    NotForSaleError,
    PriceError,
    TokenError,
)
from lnagents.testbed import Testbed
from tests.integration.market.trading import PRICE_SAT, WITNESS, Market

LOST = PRICE_SAT * 1_000
UNPAID = 200
"""Challenges before somebody buys in this test; `lnagents bench market` takes 1,000."""


class Tampering(httpx.AsyncBaseTransport):
    """Somebody between buyer and seller."""

    def __init__(self, change: Callable[[httpx.Request, httpx.Response], httpx.Response]) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._change = change

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        await response.aclose()
        whole = httpx.Response(response.status_code, headers=response.headers, content=content)
        return self._change(request, whole)

    async def aclose(self) -> None:
        await self._inner.aclose()


def body(response: httpx.Response, content: bytes) -> httpx.Response:
    return httpx.Response(response.status_code, content=content)


@contextlib.asynccontextmanager
async def attacked(
    market: Market, error: type[LnagentsError], match: str, *, lost: int
) -> AsyncIterator[None]:
    """The attack ends with `error`, costs `lost` msat, and is written down by name."""
    before = await market.income_msat()
    with pytest.raises(error, match=match):
        yield
    assert await market.income_msat() - before == lost
    incidents = await market.purchases.purchases.incidents()
    assert incidents
    assert incidents[-1].error == error.__name__
    assert incidents[-1].seller == market.seller.key
    assert await market.purchases.purchases.spent_msat(0.0) == lost


async def test_an_altered_document_is_refused(market: Market) -> None:
    def flip(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if response.status_code != 200 or "authorization" not in request.headers:
            return response
        changed = bytearray(response.content)
        changed[60] ^= 1
        return body(response, bytes(changed))

    async with (
        attacked(market, DocumentInvalidError, "signed by", lost=LOST),
        market.buyer(transport=Tampering(flip)) as buyer,
    ):
        await buyer.buy(market.seller, market.question(), agreed_price_msat=LOST)


async def test_an_old_hint_is_refused(market: Market) -> None:
    old = LiquidityHint(
        issuer=market.seller.key,
        issued_at=time.time() - 120,
        expires_at=time.time() - 60,
        sequence=1,
        scid=market.channel.scid,
        source=market.seller.key,
        amount_msat=1_000_000,
        probability=1.0,
    )
    signed = await sign_document(market.seller_node, old)

    def replay(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        paid = response.status_code == 200 and "authorization" in request.headers
        return body(response, signed) if paid else response

    async with (
        attacked(market, DocumentInvalidError, "expired", lost=LOST),
        market.buyer(transport=Tampering(replay)) as buyer,
    ):
        await buyer.buy(market.seller, market.question(), agreed_price_msat=LOST)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"price_sat":2', b'"price_sat":1', "contradicts itself"),
        (b"/2/", b"/1/", "contradicts itself"),
        (b"/1000000/", b"/1000001/", "something else"),
    ],
)
async def test_an_altered_quote_is_refused(
    market: Market, old: bytes, new: bytes, problem: str
) -> None:
    def alter(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        assert old in response.content
        return body(response, response.content.replace(old, new))

    async with (
        attacked(market, MarketError, problem, lost=0),
        market.buyer(transport=Tampering(alter)) as buyer,
    ):
        await buyer.buy(market.seller, market.question())


async def test_a_forged_quote_gets_no_invoice(market: Market) -> None:
    before = len(await market.seller_node.list_invoices())
    async with market.buyer() as buyer:
        quote = await buyer.quote(market.seller, market.question())
    plain, _, expires, seal = quote.path.rsplit("/", 3)
    for path in (f"{plain}/1/{expires}/{seal}", f"{plain}/2/{int(expires) + 9}/{seal}"):
        assert (await market.get(path)).status_code == 500
    assert len(await market.seller_node.list_invoices()) == before


async def test_an_invoice_for_more_than_the_quote_is_not_paid(market: Market) -> None:
    class Greedy(DocumentSeller):
        async def price_sat(self, path: str) -> int:
            return await super().price_sat(path) + 1

    await market.close()
    await market.open(kind=Greedy)
    async with (
        attacked(market, PriceError, "3 sat, 2 sat were agreed", lost=0),
        market.buyer() as buyer,
    ):
        await buyer.buy(market.seller, market.question())


async def test_an_invoice_of_somebody_else_is_not_paid(market: Market) -> None:
    foreign = (await market.witness_admin.add_invoice(2_000)).payment_request

    def swap(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if response.status_code != 402:
            return response
        challenge = response.headers.get_list("www-authenticate")[1]
        macaroon = challenge.split('macaroon="')[1].split('"')[0]
        text = f'L402 macaroon="{macaroon}", invoice="{foreign}"'
        return httpx.Response(402, headers={"www-authenticate": text})

    async with (
        attacked(market, ChallengeError, "not the seller", lost=0),
        market.buyer(transport=Tampering(swap)) as buyer,
    ):
        await buyer.buy(market.seller, market.question(), agreed_price_msat=LOST)


async def test_a_token_is_worth_nothing_at_another_seller(market: Market, testbed: Testbed) -> None:
    purchase, _ = await market.purchase()
    token = authorization(purchase.macaroon, await market.preimage(purchase))
    settings = SellerSettings()
    other = DocumentSeller(
        testbed.client(WITNESS),
        testbed.nodes[WITNESS].key,
        market.sales.sales,
        PriceBook({Product.LIQUIDITY: 1}),
        standard_issuers(testbed.nodes[WITNESS].key, settings),
        settings,
    )
    channel = (await testbed.client(WITNESS).channels())[0]
    path = LiquidityRequest(
        scid=channel.scid,
        source=testbed.nodes[WITNESS].key,
        amount_msat=1_000,
        nonce=new_nonce(),
    ).path()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(other)), base_url="http://other"
    ) as http:
        # It knows the payment's sale, as somebody might who shares a store; else see below.
        answer = await http.get(path, headers={"authorization": token})
    assert answer.status_code == 403
    unknown = TokenIdentity(purchase.payment_hash, "00" * 32)
    with pytest.raises(TokenError, match=r"something else|no invoice"):
        await other.answer(path, unknown)


@pytest.mark.parametrize(
    ("status", "error", "problem"),
    [
        (500, MarketError, "has not delivered yet: HTTP 500"),
        (403, TokenError, "was paid and refuses: HTTP 403"),
        (404, NotForSaleError, "was paid and refuses: HTTP 404"),
        (402, TokenError, "was paid and refuses: HTTP 402"),
    ],
)
async def test_a_seller_that_takes_the_money_and_refuses(
    market: Market, status: int, error: type[LnagentsError], problem: str
) -> None:
    def refuse(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        paid = "authorization" in request.headers
        return httpx.Response(status, text="no") if paid else response

    async with (
        attacked(market, error, problem, lost=LOST),
        market.buyer(collect_seconds=0.3, transport=Tampering(refuse)) as buyer,
    ):
        await buyer.buy(market.seller, market.question(), agreed_price_msat=LOST)


async def test_a_seller_that_takes_the_money_and_hangs_up(market: Market) -> None:
    def hang_up(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if "authorization" in request.headers:
            raise httpx.RemoteProtocolError("the seller hung up", request=request)
        return response

    async with (
        attacked(market, MarketError, "has not delivered yet", lost=LOST),
        market.buyer(collect_seconds=0.3, transport=Tampering(hang_up)) as buyer,
    ):
        await buyer.buy(market.seller, market.question(), agreed_price_msat=LOST)
    # It is not lost: an honest answer later is collected, and paid for once.
    async with market.buyer() as restarted:
        assert len(await restarted.resume()) == 1
    assert await market.purchases.purchases.spent_msat(0.0) == LOST


async def test_an_answer_without_end_is_cut_off(market: Market) -> None:
    def flood(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        paid = "authorization" in request.headers
        return body(response, b"x" * 10_000_000) if paid else response

    async with (
        attacked(market, MarketError, "longer than", lost=LOST),
        market.buyer(collect_seconds=0.3, transport=Tampering(flood)) as buyer,
    ):
        await buyer.buy(market.seller, market.question(), agreed_price_msat=LOST)


async def test_bodies_and_long_paths_reach_nobody(market: Market) -> None:
    before = len(await market.seller_node.list_invoices())
    async with httpx.AsyncClient(trust_env=False, base_url=market.site.url) as http:
        huge = await http.request("GET", "/v1/catalogue", content=b"x" * 1_000_000)
        assert huge.status_code in (413, 502)
        assert (await http.get("/v1/quotes/" + "a" * 3_000)).status_code == 414
        assert (await http.get("/v1/hints/" + "a" * 3_000)).status_code == 500
    assert len(await market.seller_node.list_invoices()) == before


async def test_unpaid_challenges_keep_nobody_from_buying(market: Market) -> None:
    await market.close()
    await market.open(settings=SellerSettings(challenges_burst=100_000))
    before = len(await market.seller_node.list_invoices())
    unpaid, flooded, bought = 0, asyncio.Event(), asyncio.Event()

    async def flood(http: httpx.AsyncClient) -> None:
        nonlocal unpaid
        while not bought.is_set():
            assert (await http.get(market.question().path())).status_code == 402
            unpaid += 1
            if unpaid == UNPAID:
                flooded.set()

    async with (
        httpx.AsyncClient(trust_env=False, base_url=market.site.url, timeout=60.0) as http,
        market.buyer() as buyer,
        asyncio.timeout(120.0),
        asyncio.TaskGroup() as group,
    ):
        for _ in range(8):
            group.create_task(flood(http))
        await flooded.wait()
        for _ in range(3):
            hint = await buyer.buy(market.seller, market.question())
            assert isinstance(hint, LiquidityHint)
        assert unpaid > UNPAID
        bought.set()
    assert len(await market.seller_node.list_invoices()) == before + unpaid + 3


async def test_beyond_its_allowance_a_seller_makes_no_invoices(market: Market) -> None:
    await market.close()
    await market.open(settings=SellerSettings(challenges_burst=5, challenges_per_second=0.001))
    before = len(await market.seller_node.list_invoices())
    codes = [(await market.get(market.question().path())).status_code for _ in range(8)]
    assert codes == [402] * 5 + [500] * 3
    assert len(await market.seller_node.list_invoices()) == before + 5


async def test_a_replayed_token_costs_the_seller_no_second_answer(market: Market) -> None:
    purchase, _ = await market.purchase()
    token = authorization(purchase.macaroon, await market.preimage(purchase))
    answers = await asyncio.gather(*(market.get(purchase.path, token) for _ in range(20)))
    assert {answer.content for answer in answers} == {purchase.document or answers[0].content}
    assert await market.sold() == (1, LOST)
    question = market.question()
    assert (await market.get(replace(question, nonce=new_nonce()).path(), token)).status_code == 402
