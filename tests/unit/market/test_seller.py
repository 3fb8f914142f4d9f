from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.lnd import InvoiceStatus
from lnagents.market.hint import LiquidityHint, verify_hint
from lnagents.market.l402 import TokenIdentity
from lnagents.market.paths import LiquidityRequest, new_nonce, parse_path
from lnagents.market.records import Sale
from lnagents.market.seller import HintSeller, SellerSettings, passing_probability
from lnagents.model.errors import NotForSaleError, StoreError, TokenError
from tests.unit.market.market_fakes import (
    CAPACITY_MSAT,
    PEER_KEY,
    SCID,
    SELLER_KEY,
    STRANGER_KEY,
    FakeNode,
    MemorySales,
    local_channel,
    paid_invoice,
)

NOW = 1_800_000_000.0
TOKEN = TokenIdentity(hashlib.sha256(b"paid").hexdigest(), "11" * 32)


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


def path_for(*, source: str = SELLER_KEY, amount_msat: int = 100_000_000, scid: int = SCID) -> str:
    return LiquidityRequest(scid, source, amount_msat, new_nonce()).path()


def seller_of(
    node: FakeNode, sales: MemorySales | None = None, price: int | None = 2
) -> HintSeller:
    return HintSeller(
        node,
        SELLER_KEY,
        sales if sales is not None else MemorySales(),
        lambda scid: price,
        SellerSettings(minimum_price_sat=2),
        clock=lambda: NOW,
    )


def node_with_payment(**invoice: object) -> FakeNode:
    state = paid_invoice(TOKEN.payment_hash, **invoice)  # type: ignore[arg-type]
    return FakeNode(invoices={TOKEN.payment_hash: state})


async def read(document: bytes, path: str) -> LiquidityHint:
    return await verify_hint(
        FakeNode(), document, issuer=SELLER_KEY, request=parse_path(path), now=NOW
    )


amounts = st.integers(1, 2_000_000)
balances = st.integers(0, 1_000_000)


@given(amounts, amounts, balances, st.integers(1, 50))
def test_more_is_never_more_probable(a: int, b: int, available: int, bands: int) -> None:
    low, high = sorted((a, b))
    less = passing_probability(high, available, 1_000_000, bands)
    assert 0.0 <= less <= passing_probability(low, available, 1_000_000, bands) <= 1.0


@given(amounts, balances, st.integers(1, 50))
def test_an_answer_tells_the_band_and_no_more(amount: int, available: int, bands: int) -> None:
    width = 1_000_000 // bands
    low = available // width * width
    answers = {
        passing_probability(amount, balance, 1_000_000, bands)
        for balance in (low, available, low + width - 1)
    }
    assert len(answers) == 1


@given(st.integers(1, 2_000), st.integers(0, 1_000), st.integers(1, 50))
def test_an_answer_is_the_true_frequency_over_the_band(
    amount: int, available: int, bands: int
) -> None:
    width = 1_000 // bands
    low = available // width * width
    passing = sum(balance >= amount for balance in range(low, low + width))
    assert passing_probability(amount, available, 1_000, bands) == passing / width


async def test_the_catalogue_offers_public_channels_at_the_present_price() -> None:
    catalogue = await seller_of(FakeNode()).catalogue()
    assert catalogue.seller == SELLER_KEY
    assert [(offer.channel, offer.peer, offer.price_sat) for offer in catalogue.offers] == [
        ("103x1x0", PEER_KEY, 2)
    ]
    assert catalogue.price_msat("liquidity", SCID) == 2_000
    assert catalogue.price_msat("liquidity", SCID + 1) is None
    assert catalogue.price_msat("fees", SCID) is None


async def test_private_channels_are_neither_offered_nor_sold() -> None:
    node = node_with_payment()
    node.own = (local_channel(private=True),)
    seller = seller_of(node)
    assert (await seller.catalogue()).offers == ()
    with pytest.raises(NotForSaleError, match="not a public channel"):
        await seller.quote(path_for())
    with pytest.raises(NotForSaleError, match="not a public channel"):
        await seller.answer(path_for(), TOKEN)


async def test_nonsense_has_no_price() -> None:
    seller = seller_of(FakeNode())
    for path in ("/v1/hints/liquidity/x", path_for(scid=SCID + 1), path_for(source=STRANGER_KEY)):
        with pytest.raises(NotForSaleError):
            await seller.quote(path)


@pytest.mark.parametrize(("price", "quoted"), [(0, 2), (1, 2), (-5, 2), (3, 3)])
async def test_no_price_is_below_the_minimum(price: int, quoted: int) -> None:
    assert await seller_of(FakeNode(), price=price).quote(path_for()) == quoted


async def test_a_seller_may_refuse_to_sell() -> None:
    seller = seller_of(FakeNode(), price=None)
    assert (await seller.catalogue()).offers == ()
    with pytest.raises(NotForSaleError):
        await seller.quote(path_for())


async def test_those_who_have_not_paid_do_not_make_the_node_work() -> None:
    node = FakeNode()
    seller = seller_of(node)
    for _ in range(20):
        await seller.quote(path_for())
        await seller.catalogue()
    assert node.channel_calls == 1


def test_settings_that_give_hints_away_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        SellerSettings(minimum_price_sat=0)


@pytest.mark.parametrize(
    ("source", "amount_msat", "probability"),
    [
        (SELLER_KEY, 500_000_000, 1.0),
        (SELLER_KEY, 600_000_000, 0.0),
        (SELLER_KEY, 550_000_000, 0.5),
        (PEER_KEY, 300_000_000, 1.0),
        (PEER_KEY, 400_000_000, 0.0),
        (PEER_KEY, 375_000_000, 0.25),
    ],
)
async def test_both_directions_are_told_from_the_own_balances(
    source: str, amount_msat: int, probability: float
) -> None:
    # 600 of 1,000 million are local; the reserve is 1 %, so 590 and 390 can move.
    path = path_for(source=source, amount_msat=amount_msat)
    hint = await read(await seller_of(node_with_payment()).answer(path, TOKEN), path)
    assert hint.probability == probability
    assert hint.expires_at == NOW + 60


async def test_nothing_passes_an_inactive_channel() -> None:
    node = node_with_payment()
    node.own = (local_channel(local_msat=CAPACITY_MSAT, active=False),)
    path = path_for(amount_msat=1)
    hint = await read(await seller_of(node).answer(path, TOKEN), path)
    assert hint.probability == 0.0


async def test_the_same_token_gets_the_same_bytes_whatever_has_changed() -> None:
    node, sales, path = node_with_payment(), MemorySales(), path_for()
    first = await seller_of(node, sales).answer(path, TOKEN)
    node.own = (local_channel(local_msat=0),)
    node.invoices.clear()
    assert await seller_of(node, sales).answer(path, TOKEN) == first
    (sale,) = sales.sales.values()
    assert (sale.price_msat, sale.sold_at, sale.token_id) == (2_000, NOW, TOKEN.token_id)


async def test_two_requests_at_once_are_one_sale() -> None:
    seller, path = seller_of(node_with_payment()), path_for()
    answers = await asyncio.gather(*(seller.answer(path, TOKEN) for _ in range(10)))
    assert len(set(answers)) == 1


async def test_a_token_buys_one_path_only() -> None:
    seller = seller_of(node_with_payment())
    await seller.answer(path_for(amount_msat=1_000), TOKEN)
    with pytest.raises(TokenError, match="something else"):
        await seller.answer(path_for(amount_msat=2_000), TOKEN)


async def test_two_paths_at_once_are_one_sale_and_one_refusal() -> None:
    seller = seller_of(node_with_payment())
    answers = await asyncio.gather(
        *(seller.answer(path_for(), TOKEN) for _ in range(2)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {bytes, TokenError}


async def test_another_token_id_for_the_same_payment_buys_nothing_more() -> None:
    seller, path = seller_of(node_with_payment()), path_for()
    await seller.answer(path, TOKEN)
    forged = TokenIdentity(TOKEN.payment_hash, "22" * 32)
    with pytest.raises(TokenError, match="something else"):
        await seller.answer(path, forged)


@pytest.mark.parametrize(
    ("invoices", "problem"),
    [
        ({}, "no invoice"),
        ({"status": InvoiceStatus.OPEN, "paid_msat": 0}, "not paid"),
        ({"status": InvoiceStatus.ACCEPTED}, "not paid"),
        ({"status": InvoiceStatus.CANCELED}, "not paid"),
        ({"paid_msat": 1_999}, "less than"),
        ({"description": "coffee"}, "not made for a token"),
    ],
)
async def test_only_a_settled_token_invoice_of_this_node_buys(
    invoices: dict[str, object], problem: str
) -> None:
    node = node_with_payment(**invoices) if invoices else FakeNode()
    sales = MemorySales()
    with pytest.raises(TokenError, match=problem):
        await seller_of(node, sales).answer(path_for(), TOKEN)
    assert sales.sales == {}


async def test_nothing_is_handed_out_that_could_not_be_recorded() -> None:
    class BrokenSales(MemorySales):
        async def record_sale(self, sale: Sale) -> Sale:
            raise StoreError("disk full")

    with pytest.raises(StoreError):
        await seller_of(node_with_payment(), BrokenSales()).answer(path_for(), TOKEN)


async def test_sequence_numbers_grow_across_restarts_and_within_a_moment() -> None:
    tokens = [TokenIdentity(f"{index:064x}", "11" * 32) for index in range(3)]
    node = FakeNode(
        invoices={each.payment_hash: paid_invoice(each.payment_hash) for each in tokens}
    )
    clock = Clock(NOW)
    numbers = []
    for _ in range(2):
        seller = HintSeller(node, SELLER_KEY, MemorySales(), lambda scid: 1, clock=clock)
        for token in tokens:
            path = path_for()
            hint = await read(await seller.answer(path, token), path)
            numbers.append(hint.sequence)
        clock.now += 1
    assert numbers == sorted(set(numbers))
