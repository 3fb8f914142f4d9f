"""What people ask an agent to buy is paid for once, and collected if it did not come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from lnagents.agent.buying import BuyingDesk
from lnagents.agent.store import Store
from lnagents.market import (
    CommitmentRequest,
    Document,
    FeeCommitment,
    Purchase,
    PurchaseState,
    Quote,
    Request,
    Seller,
    new_nonce,
    sign_document,
)
from lnagents.model.errors import MarketError, PriceError
from tests.unit.market.market_fakes import SCID, SELLER_KEY, FakeNode

SELLER = Seller("http://seller", SELLER_KEY)
PRICE_MSAT = 3_000


def question(seconds: int = 60) -> CommitmentRequest:
    return CommitmentRequest(scid=SCID, seconds=seconds, nonce=new_nonce())


class CrashError(Exception):
    """The daemon was killed here."""


class ScriptedBuyer:
    """Keeps the book as `DocumentBuyer` does; `crash` names the state after which it is killed."""

    def __init__(self, store: Store) -> None:
        self.book = store.purchases
        self.paid = 0
        self.crash: PurchaseState | None = None
        self.delivers = True
        self.refuses = False
        self.holds_seconds = 60.0

    async def quote(self, seller: Seller, request: Request) -> Quote:
        return Quote(path=request.path() + "/3/9/" + "ab" * 16, price_sat=3, expires_at=9)

    async def buy(self, seller: Seller, request: Request, *, quote: Quote) -> None:
        purchase = Purchase(
            nonce=request.nonce,
            seller=seller,
            path=quote.path,
            price_msat=quote.price_msat,
            macaroon="mac",
            payment_request="lnbc",
            payment_hash=request.nonce * 2,
            created_at=time.time(),
        )
        await self.book.challenged(purchase)
        self._perhaps_crash(PurchaseState.CHALLENGED)
        self.paid += 1
        await self.book.paid(request.nonce, b"preimage")
        self._perhaps_crash(PurchaseState.PAID)
        await self._deliver(request.nonce)

    async def resume(self, nonces: Collection[str]) -> None:
        for nonce in nonces:
            purchase = await self.book.find(nonce)
            if purchase.state is PurchaseState.CHALLENGED:
                await self.book.failed(nonce, "it was never paid")
            elif self.refuses:
                await self.book.failed(nonce, "the seller refuses")
            elif self.delivers:
                await self._deliver(nonce)

    async def _deliver(self, nonce: str) -> None:
        now = time.time()
        document = FeeCommitment(
            issuer=SELLER_KEY,
            issued_at=now - 10.0,
            expires_at=now + self.holds_seconds,
            sequence=1,
            scid=SCID,
            base_fee_msat=1_000,
            fee_rate_ppm=100,
        )
        await self.book.delivered(nonce, await sign_document(FakeNode(SELLER_KEY), document))

    def _perhaps_crash(self, state: PurchaseState) -> None:
        if self.crash is state:
            self.crash = None
            raise CrashError


class Shop:
    """A desk over a real store, and what it told."""

    def __init__(self, store: Store) -> None:
        self.buyer = ScriptedBuyer(store)
        self.came: list[Document] = []
        self.desk = BuyingDesk(
            cast(Any, self.buyer), store.purchases, lambda document, _: self.came.append(document)
        )


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    store = await Store.open(tmp_path / "agent.sqlite")
    yield Shop(store)
    await store.close()


async def test_the_same_question_is_paid_for_once_while_the_answer_holds(shop: Shop) -> None:
    first = await shop.desk.buy_once(SELLER, question())
    second = await shop.desk.buy_once(SELLER, question())
    assert (first.paid_now, second.paid_now) == (True, False)
    assert (first.nonce, first.document, first.price_msat) == (
        second.nonce,
        second.document,
        PRICE_MSAT,
    )
    assert shop.buyer.paid == 1
    assert (await shop.desk.buy_once(SELLER, question(61))).paid_now  # another question
    assert (await shop.desk.buy_once(SELLER, question(), again=True)).paid_now
    assert (shop.buyer.paid, len(shop.came)) == (3, 3)


async def test_what_has_expired_is_bought_again(shop: Shop) -> None:
    shop.buyer.holds_seconds = -1.0
    assert (await shop.desk.buy_once(SELLER, question())).paid_now
    assert (await shop.desk.buy_once(SELLER, question())).paid_now


async def test_asked_at_the_same_time_it_is_paid_for_once(shop: Shop) -> None:
    reports = await asyncio.gather(*(shop.desk.buy_once(SELLER, question()) for _ in range(5)))
    assert sorted(report.paid_now for report in reports) == [False] * 4 + [True]
    assert len({report.nonce for report in reports}) == 1


@pytest.mark.parametrize("again", [False, True])
async def test_what_was_paid_before_a_crash_is_collected_not_paid_again(
    shop: Shop, again: bool
) -> None:
    shop.buyer.crash = PurchaseState.PAID
    with pytest.raises(CrashError):
        await shop.desk.buy_once(SELLER, question())
    report = await shop.desk.buy_once(SELLER, question(), again=again)
    assert (report.paid_now, shop.buyer.paid, len(shop.came)) == (False, 1, 1)


async def test_what_was_never_paid_before_a_crash_is_bought(shop: Shop) -> None:
    shop.buyer.crash = PurchaseState.CHALLENGED
    with pytest.raises(CrashError):
        await shop.desk.buy_once(SELLER, question())
    assert (await shop.desk.buy_once(SELLER, question())).paid_now
    assert shop.buyer.paid == 1


async def test_a_seller_that_owes_an_answer_is_not_paid_again(shop: Shop) -> None:
    shop.buyer.crash = PurchaseState.PAID
    with pytest.raises(CrashError):
        await shop.desk.buy_once(SELLER, question())
    shop.buyer.delivers = False
    for _ in range(2):
        with pytest.raises(MarketError, match="has not delivered yet; that is collected"):
            await shop.desk.buy_once(SELLER, question())
    shop.buyer.refuses = True
    with pytest.raises(MarketError, match="the seller refuses; ask again to pay again"):
        await shop.desk.buy_once(SELLER, question())
    assert shop.buyer.paid == 1
    assert (await shop.desk.buy_once(SELLER, question())).paid_now


async def test_more_than_was_said_is_not_paid(shop: Shop) -> None:
    with pytest.raises(PriceError, match=r"it costs 3 sat, and 2\.999 sat are the most"):
        await shop.desk.buy_once(SELLER, question(), max_price_msat=PRICE_MSAT - 1)
    assert shop.buyer.paid == 0
    assert (await shop.desk.buy_once(SELLER, question(), max_price_msat=PRICE_MSAT)).paid_now


async def test_collecting_tells_each_document_once(shop: Shop) -> None:
    shop.buyer.crash = PurchaseState.PAID
    with pytest.raises(CrashError):
        await shop.desk.buy_once(SELLER, question())
    await asyncio.gather(shop.desk.collect(), shop.desk.collect())
    assert len(shop.came) == 1
