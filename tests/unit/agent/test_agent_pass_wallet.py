"""Own passes: presented where they fit, counted, remembered, and bought where they are worth it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from lnagents.agent.candidates import Candidate
from lnagents.agent.config import AgentConfig, parse_config
from lnagents.agent.liquidity import Estimate
from lnagents.agent.pass_buying import PassBuyer
from lnagents.agent.pass_ledger import OwnPassLedger
from lnagents.agent.pass_wallet import PassWallet
from lnagents.agent.store import Store
from lnagents.agent.template import render_template
from lnagents.market import Catalogue, Offer, PassRequest, PriorityPass, Purchase, Seller
from lnagents.market.documents import encode_document, kind_of
from lnagents.market.passes import PASS_RECORD, Passage, PassUse, is_presented_by
from lnagents.market.records import PurchaseState
from lnagents.market.stubs import hint_pb2
from lnagents.model.errors import LnagentsError, NotForSaleError
from lnagents.model.graph import Edge
from lnagents.model.payment import AttemptFailure, AttemptStatus, FailureCode, Hop, Route
from lnagents.model.units import format_short_channel_id

SELLER, OTHER, END = ("02" + digit * 64 for digit in "123")
HASH, OTHER_HASH = "aa" * 32, "bb" * 32
SCID = 103 << 40 | 1 << 16
SENT = 1_000_000
FAILED = AttemptStatus.FAILED

ROUTE = Route(
    hops=(
        Hop(1, SELLER, SENT, 10, 200, {65_537: b"something else"}),
        Hop(SCID, OTHER, SENT - 5, 5, 160),
        Hop(3, END, SENT - 5, 0, 160),
    ),
    total_amount_msat=SENT + 10,
    total_time_lock=240,
)


def failure(index: int) -> AttemptFailure:
    return AttemptFailure(FailureCode.TEMPORARY_CHANNEL_FAILURE, index)


@dataclass
class Setting:
    store: Store
    wallet: PassWallet

    async def buy(
        self, nonce: str, *, amount: int = 2 * SENT, payment_hash: str | None = None
    ) -> PassRequest:
        """A purchase, as the buyer leaves it in the book."""
        request = PassRequest(
            nonce=nonce * 32,
            scid=SCID,
            amount_msat=amount,
            seconds=60,
            payment_hash=payment_hash,
            buyer_key=None if payment_hash else self.wallet.key_for(nonce * 32),
        )
        await self.deliver(request)
        await self.wallet.collect()
        return request

    async def deliver(self, request: PassRequest) -> None:
        document = PriorityPass(
            issuer=SELLER,
            issued_at=time.time(),
            expires_at=time.time() + request.seconds,
            sequence=1,
            scid=request.scid,
            amount_msat=request.amount_msat,
            payment_hash=request.payment_hash,
            buyer_key=request.buyer_key,
        )
        signed = hint_pb2.SignedDocument(
            kind=kind_of(document), payload=encode_document(document), signature="y" * 104
        ).SerializeToString(deterministic=True)
        purchase = Purchase(
            nonce=request.nonce,
            seller=Seller("http://s", SELLER),
            path=request.path(),
            price_msat=2_000,
            macaroon="",
            payment_request="",
            payment_hash=request.nonce * 2,
            created_at=time.time(),
            state=PurchaseState.CHALLENGED,
        )
        await self.store.purchases.challenged(purchase)
        await self.store.purchases.delivered(request.nonce, signed)

    async def attempt(self, payment_hash: str = HASH) -> int:
        """A row of the book of payments for the ledger to point at."""

        def work(connection: Any) -> int:
            connection.execute(
                "INSERT OR IGNORE INTO payments (payment_hash, request, destination, amount_msat,"
                " max_fee_msat, purpose, state, requested_at)"
                " VALUES (?, '', '', 1, 1, 'payment', 'in_flight', 0)",
                (payment_hash,),
            )
            cursor = connection.execute(
                "INSERT INTO attempts (payment_hash, route, fee_msat, probability, reason, state,"
                " started_at) VALUES (?, '', 0, 1, '', 'failed', 0)",
                (payment_hash,),
            )
            return int(cursor.lastrowid)

        return await self.store.database.write(work)

    async def restart(self) -> PassWallet:
        await self.store.database.flush()
        wallet = PassWallet(OwnPassLedger(self.store.database))
        await wallet.load()
        return wallet

    def left(self) -> int | None:
        own = self.wallet.usable(SELLER, SCID, 1, HASH)
        return None if own is None else own.left_msat


@pytest_asyncio.fixture(loop_scope="session")
async def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setting]:
    # Who signed is what test_documents is about.
    monkeypatch.setattr("lnagents.market.documents.envelope.signed_by", lambda *_: SELLER)
    store = await Store.open(tmp_path / "agent.sqlite")
    wallet = PassWallet(OwnPassLedger(store.database))
    await wallet.load()
    yield Setting(store, wallet)
    await store.close()


async def test_a_pass_is_presented_to_who_sold_it(setting: Setting) -> None:
    request = await setting.buy("a")
    route, presented = setting.wallet.attach(HASH, ROUTE, await setting.attempt())
    assert [one.hop for one in presented] == [1]
    records = route.hops[0].custom_records
    assert records.keys() == {65_537, PASS_RECORD}
    use = PassUse.from_bytes(records[PASS_RECORD])
    assert request.buyer_key is not None
    assert is_presented_by(request.buyer_key, use, Passage(HASH, SCID, SENT))
    assert route.hops[1:] == ROUTE.hops[1:]
    assert ROUTE.hops[0].custom_records == {65_537: b"something else"}
    # One HTLC at a time.
    again, none = setting.wallet.attach(OTHER_HASH, ROUTE, await setting.attempt(OTHER_HASH))
    assert (again, none) == (ROUTE, [])


@pytest.mark.parametrize(
    "route",
    [
        replace(ROUTE, hops=(replace(ROUTE.hops[0], target=OTHER), *ROUTE.hops[1:])),
        replace(ROUTE, hops=(ROUTE.hops[0], replace(ROUTE.hops[1], scid=9), ROUTE.hops[2])),
        replace(ROUTE, hops=(replace(ROUTE.hops[0], amount_msat=3 * SENT), *ROUTE.hops[1:])),
        replace(ROUTE, hops=ROUTE.hops[:1]),
    ],
)
async def test_a_pass_is_presented_nowhere_else(setting: Setting, route: Route) -> None:
    await setting.buy("a")
    assert setting.wallet.attach(HASH, route, await setting.attempt()) == (route, [])


async def test_a_pass_for_one_payment_is_presented_for_that_one(setting: Setting) -> None:
    await setting.buy("a", payment_hash=HASH)
    assert setting.wallet.attach(OTHER_HASH, ROUTE, await setting.attempt(OTHER_HASH))[1] == []
    route, presented = setting.wallet.attach(HASH, ROUTE, await setting.attempt())
    assert presented
    assert PassUse.from_bytes(route.hops[0].custom_records[PASS_RECORD]).signature == b""


@pytest.mark.parametrize(
    ("status", "cause", "left", "trust"),
    [
        (AttemptStatus.SETTLED, None, SENT, 5 / 6),
        (FAILED, failure(2), 2 * SENT, 5 / 6),
        (FAILED, failure(1), None, 4 / 6),
        (FAILED, failure(0), 2 * SENT, 4 / 5),
        (FAILED, None, 2 * SENT, 4 / 5),
    ],
)
async def test_every_end_is_counted_and_remembered(
    setting: Setting,
    status: AttemptStatus,
    cause: AttemptFailure | None,
    left: int | None,
    trust: float,
) -> None:
    await setting.buy("a")
    _, presented = setting.wallet.attach(HASH, ROUTE, await setting.attempt())
    setting.wallet.ended(presented, status, cause)
    assert setting.left() == left
    assert setting.wallet.reliability(SELLER) == pytest.approx(trust)
    after = await setting.restart()
    assert after.reliability(SELLER) == pytest.approx(trust)
    own = after.usable(SELLER, SCID, 1, HASH)
    # A pass that was refused is tried again after a restart: once more, and it is dropped.
    assert own is not None
    assert own.left_msat == (2 * SENT if left is None else left)


async def test_what_may_be_under_way_after_a_restart_is_spent(setting: Setting) -> None:
    request = await setting.buy("a")
    setting.wallet.attach(HASH, ROUTE, await setting.attempt())
    after = await setting.restart()
    own = after.usable(SELLER, SCID, 1, HASH)
    assert own is not None
    assert own.left_msat == SENT
    # The key is the same one.
    assert after.key_for(request.nonce) == request.buyer_key


async def test_what_is_over_is_not_presented(setting: Setting) -> None:
    late = PassWallet(OwnPassLedger(setting.store.database), clock=lambda: time.time() + 59.5)
    await setting.buy("a")
    await late.load()
    assert late.usable(SELLER, SCID, 1, HASH) is None
    assert setting.left() == 2 * SENT


async def test_what_was_bought_for_somebody_else_is_not_presented(setting: Setting) -> None:
    request = await setting.buy("a")
    await setting.deliver(replace(request, nonce="b" * 32))
    await setting.wallet.collect()
    _, presented = setting.wallet.attach(HASH, ROUTE, await setting.attempt())
    assert len(presented) == 1
    assert setting.left() is None


async def test_what_people_asked_for_is_presented_too(setting: Setting) -> None:
    assert PassWallet(OwnPassLedger(setting.store.database)).key == ""
    request = await setting.buy("a")
    key = setting.wallet.key
    assert key not in ("", request.buyer_key)
    await setting.deliver(replace(request, nonce="b" * 32, buyer_key=key))
    after = await setting.restart()
    assert after.key == key
    after.attach(HASH, ROUTE, await setting.attempt())
    route, presented = after.attach(OTHER_HASH, ROUTE, await setting.attempt(OTHER_HASH))
    assert len(presented) == 1
    use = PassUse.from_bytes(route.hops[0].custom_records[PASS_RECORD])
    holders = [
        one
        for one in (key, request.buyer_key or "")
        if is_presented_by(one, use, Passage(OTHER_HASH, SCID, SENT))
    ]
    assert len(holders) == 1


async def test_routes_count_on_passes(setting: Setting) -> None:
    edge = Edge(SCID, SELLER, OTHER, 10**9, None)
    assert setting.wallet.admitted(HASH) is None
    await setting.buy("a", payment_hash=HASH)
    for payment_hash, amount, other, chance in (
        (HASH, 2 * SENT, edge, 0.8),
        (HASH, 2 * SENT + 1, edge, 0.0),
        (HASH, SENT, replace(edge, source=OTHER), 0.0),
        (HASH, SENT, replace(edge, scid=9), 0.0),
        (OTHER_HASH, SENT, edge, 0.0),
    ):
        admitted = setting.wallet.admitted(payment_hash)
        assert admitted is not None
        assert admitted(other, amount) == pytest.approx(chance)


# ---- When to buy


class Shop:
    """Sells what it is asked for, if it sells at all."""

    def __init__(self, setting: Setting, price_sat: int, error: LnagentsError | None) -> None:
        self._setting = setting
        self._price_sat = price_sat
        self._error = error
        self.asked: list[PassRequest] = []

    async def catalogue(self, seller: Seller) -> Catalogue:
        channel = format_short_channel_id(SCID)
        offer = Offer(product="pass", channel=channel, price_sat=self._price_sat)
        return Catalogue(seller=SELLER, bands=10, valid_seconds=60, offers=(offer,))

    async def buy(self, seller: Seller, request: Any, *, agreed_price_msat: int) -> Any:
        self.asked.append(request)
        assert agreed_price_msat == self._price_sat * 1_000 * request.units
        if self._error is not None:
            raise self._error
        await self._setting.deliver(request)


def config(passes: str = "true") -> AgentConfig:
    text = render_template(
        name="a", address="h:1", tls_certificate="t", macaroon="m", network="regtest"
    )
    text += f'[[market.buy.sellers]]\nurl = "http://s"\nkey = "{SELLER}"\n'
    text += f"[market.buy]\npasses = {passes}\n"
    return parse_config(text, Path("/agent.toml"))


def candidate(chance: float) -> Candidate:
    ends = (("02" + "9" * 64, SELLER), (SELLER, OTHER), (OTHER, END))
    edges = tuple(
        (Edge(hop.scid, *pair, 10**9, None), hop.amount_msat)
        for hop, pair in zip(ROUTE.hops, ends, strict=True)
    )
    chances = (1.0, chance, 0.1)
    return Candidate(
        cast(Any, SimpleNamespace(route=ROUTE)),
        edges,
        tuple(cast(Estimate, SimpleNamespace(probability=one)) for one in chances),
    )


@pytest.mark.parametrize(
    ("chance", "price_sat", "error", "verdict"),
    [
        # Reliability 0.8, attempt cost 101 sat: worth 30.3 sat.
        (0.5, 30, None, "bought"),
        (0.5, 31, None, "skipped"),
        (0.8, 1, None, None),
        (0.5, 1, NotForSaleError("sold out"), "skipped"),
    ],
)
async def test_a_pass_is_bought_where_it_is_worth_its_price(
    setting: Setting,
    chance: float,
    price_sat: int,
    error: LnagentsError | None,
    verdict: str | None,
) -> None:
    shop = Shop(setting, price_sat, error)
    told: list[str] = []
    buyer = PassBuyer(
        shop, setting.wallet, config, lambda subject, what, asked, why: told.append(what)
    )
    await buyer.prepare(HASH, candidate(chance))
    assert told == ([] if verdict is None else [verdict])
    assert (setting.left() is not None) == (verdict == "bought")
    # Neither again while there is one, nor soon where there was none.
    await buyer.prepare(HASH, candidate(chance))
    assert len(shop.asked) == (1 if verdict == "bought" or error else 0)


async def test_nothing_is_bought_that_was_not_asked_for(setting: Setting) -> None:
    shop = Shop(setting, 1, None)
    buyer = PassBuyer(shop, setting.wallet, lambda: config("false"), lambda *_: None)
    await buyer.prepare(HASH, candidate(0.5))
    assert shop.asked == []
