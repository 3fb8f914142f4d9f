from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.lnd import InvoiceStatus
from lnagents.market.documents import LiquidityHint, open_document, verify_document
from lnagents.market.issuers import band_of, passing_probability
from lnagents.market.l402 import TokenIdentity
from lnagents.market.paths import LiquidityRequest, Product, new_nonce, parse_quoted
from lnagents.market.prices import PriceBook
from lnagents.market.records import Sale
from lnagents.market.seller import DocumentSeller, SellerSettings, standard_issuers
from lnagents.model.errors import NotForSaleError, SellerBusyError, StoreError, TokenError
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
    return LiquidityRequest(
        scid=scid, source=source, amount_msat=amount_msat, nonce=new_nonce()
    ).path()


def seller_of(
    node: FakeNode,
    sales: MemorySales | None = None,
    price: int | None = 2,
    *,
    clock: Callable[[], float] = lambda: NOW,
    settings: SellerSettings | None = None,
) -> DocumentSeller:
    settings = settings or SellerSettings()
    return DocumentSeller(
        node,
        SELLER_KEY,
        sales if sales is not None else MemorySales(),
        PriceBook({Product.LIQUIDITY: price}, minimum_sat=2),
        standard_issuers(SELLER_KEY, settings),
        settings,
        clock=clock,
    )


def node_with_payment(**invoice: object) -> FakeNode:
    state = paid_invoice(TOKEN.payment_hash, **invoice)  # type: ignore[arg-type]
    return FakeNode(invoices={TOKEN.payment_hash: state})


def read(document: bytes, path: str) -> LiquidityHint:
    hint = verify_document(document, issuer=SELLER_KEY, request=parse_quoted(path)[0], now=NOW)
    assert isinstance(hint, LiquidityHint)
    return hint


def chance(amount: int, available: int, capacity: int, bands: int) -> float:
    return passing_probability(amount, *band_of(available, capacity, bands))


amounts = st.integers(1, 2_000_000)
balances = st.integers(0, 1_000_000)


@given(amounts, amounts, balances, st.integers(1, 50))
def test_more_is_never_more_probable(a: int, b: int, available: int, bands: int) -> None:
    low, high = sorted((a, b))
    less = chance(high, available, 1_000_000, bands)
    assert 0.0 <= less <= chance(low, available, 1_000_000, bands) <= 1.0


@given(amounts, balances, st.integers(1, 50))
def test_an_answer_tells_the_band_and_no_more(amount: int, available: int, bands: int) -> None:
    width = 1_000_000 // bands
    low = available // width * width
    answers = {
        chance(amount, balance, 1_000_000, bands) for balance in (low, available, low + width - 1)
    }
    assert len(answers) == 1


@given(st.integers(1, 2_000), st.integers(0, 1_000), st.integers(1, 50))
def test_an_answer_is_the_true_frequency_over_the_band(
    amount: int, available: int, bands: int
) -> None:
    width = 1_000 // bands
    low = available // width * width
    passing = sum(balance >= amount for balance in range(low, low + width))
    assert chance(amount, available, 1_000, bands) == passing / width


async def test_the_catalogue_offers_public_channels_at_the_present_price() -> None:
    catalogue = await seller_of(FakeNode()).catalogue()
    assert catalogue.seller == SELLER_KEY
    assert [(offer.channel, offer.peer, offer.price_sat) for offer in catalogue.offers] == [
        ("103x1x0", PEER_KEY, 2)
    ]
    assert catalogue.price_msat(Product.LIQUIDITY, SCID) == 2_000
    assert catalogue.price_msat(Product.LIQUIDITY, SCID + 1) is None
    assert catalogue.price_msat(Product.COMMITMENT, SCID) is None


async def test_private_channels_are_neither_offered_nor_sold() -> None:
    node = node_with_payment()
    node.own = (local_channel(private=True),)
    seller = seller_of(node)
    assert (await seller.catalogue()).offers == ()
    with pytest.raises(NotForSaleError, match="not a public channel"):
        await seller.price_sat(path_for())
    with pytest.raises(NotForSaleError, match="not a public channel"):
        await seller.answer(path_for(), TOKEN)


async def test_nonsense_has_no_price() -> None:
    seller = seller_of(FakeNode())
    for path in ("/v1/hints/liquidity/x", path_for(scid=SCID + 1), path_for(source=STRANGER_KEY)):
        with pytest.raises(NotForSaleError):
            await seller.price_sat(path)


@pytest.mark.parametrize(("price", "quoted"), [(0, 2), (1, 2), (-5, 2), (3, 3)])
async def test_no_price_is_below_the_minimum(price: int, quoted: int) -> None:
    assert await seller_of(FakeNode(), price=price).price_sat(path_for()) == quoted


async def test_a_seller_may_refuse_to_sell() -> None:
    seller = seller_of(FakeNode(), price=None)
    assert (await seller.catalogue()).offers == ()
    with pytest.raises(NotForSaleError):
        await seller.price_sat(path_for())


async def test_those_who_have_not_paid_do_not_make_the_node_work() -> None:
    node = FakeNode()
    seller = seller_of(node)
    for _ in range(20):
        await seller.price_sat(path_for())
        await seller.catalogue()
    assert node.channel_calls == 1


@pytest.mark.parametrize(
    "name",
    [
        "bands",
        "quote_seconds",
        "valid_seconds",
        "token_seconds",
        "challenges_burst",
        "challenges_per_second",
    ],
)
def test_settings_without_sense_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="too small"):
        SellerSettings(**{name: 0})  # type: ignore[arg-type]


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
    hint = read(await seller_of(node_with_payment()).answer(path, TOKEN), path)
    assert hint.probability == probability
    assert hint.expires_at == NOW + 60


async def test_nothing_passes_an_inactive_channel() -> None:
    node = node_with_payment()
    node.own = (local_channel(local_msat=CAPACITY_MSAT, active=False),)
    path = path_for(amount_msat=1)
    hint = read(await seller_of(node).answer(path, TOKEN), path)
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
        seller = seller_of(node, price=1, clock=clock)
        for token in tokens:
            path = path_for()
            hint = open_document(await seller.answer(path, token))
            numbers.append(hint.sequence)
        clock.now += 1
    assert numbers == sorted(set(numbers))


async def test_a_quoted_price_holds_until_the_quote_expires() -> None:
    clock = Clock(NOW)
    seller = seller_of(FakeNode(), clock=clock)
    quote = await seller.quote(path_for())
    assert (quote.price_sat, quote.expires_at) == (2, NOW + 60)
    dearer = seller_of(FakeNode(), price=9, clock=clock)  # also after a restart
    assert await dearer.price_sat(quote.path) == 2
    assert await dearer.price_sat(path_for()) == 9
    clock.now += 60
    with pytest.raises(NotForSaleError, match="expired"):
        await dearer.price_sat(quote.path)


async def test_a_quote_is_kept_by_a_seller_that_sells_no_more() -> None:
    quote = await seller_of(FakeNode()).quote(path_for())
    assert await seller_of(FakeNode(), price=None).price_sat(quote.path) == 2


async def test_forged_and_foreign_quotes_have_no_price() -> None:
    seller = seller_of(FakeNode(), price=9)
    quote = await seller.quote(path_for())
    plain, price, expires, seal = quote.path.rsplit("/", 3)
    for path in (
        f"{plain}/1/{expires}/{seal}",
        f"{plain}/{price}/{int(expires) + 1}/{seal}",
        f"{plain}/{price}/{expires}/{'0' * 32}",
        f"{path_for()}/{price}/{expires}/{seal}",
        (await seller_of(FakeNode(STRANGER_KEY)).quote(path_for())).path,
    ):
        with pytest.raises(NotForSaleError, match="not of this seller"):
            await seller.price_sat(path)
        with pytest.raises(NotForSaleError, match="not of this seller"):
            await seller_of(node_with_payment()).answer(path, TOKEN)


async def test_a_token_for_less_than_was_quoted_buys_nothing() -> None:
    quote = await seller_of(FakeNode(), price=3).quote(path_for())
    with pytest.raises(TokenError, match="for less than"):
        await seller_of(node_with_payment(paid_msat=2_999)).answer(quote.path, TOKEN)
    bought = await seller_of(node_with_payment(paid_msat=3_000)).answer(quote.path, TOKEN)
    assert read(bought, quote.path).scid == SCID


async def test_a_quote_that_has_expired_still_gets_what_was_paid_for() -> None:
    quote = await seller_of(FakeNode()).quote(path_for())
    late = seller_of(node_with_payment(), clock=Clock(NOW + 100))
    assert await late.answer(quote.path, TOKEN)


async def test_tokens_expire_used_or_not() -> None:
    sales, path = MemorySales(), path_for()
    settings = SellerSettings(token_seconds=100.0)
    clock = Clock(NOW + 100)  # it was paid at NOW
    seller = seller_of(node_with_payment(), sales, clock=clock, settings=settings)
    first = await seller.answer(path, TOKEN)
    clock.now += 100
    assert await seller.answer(path, TOKEN) == first
    clock.now += 1
    with pytest.raises(TokenError, match="expired"):
        await seller.answer(path, TOKEN)
    unused = seller_of(node_with_payment(), clock=clock, settings=settings)
    with pytest.raises(TokenError, match="expired"):
        await unused.answer(path, TOKEN)


async def test_bands_are_told_only_where_that_is_wanted() -> None:
    for tell in (False, True):
        path = path_for(amount_msat=550_000_000)
        seller = seller_of(node_with_payment(), settings=SellerSettings(tell_bands=tell))
        hint = read(await seller.answer(path, TOKEN), path)
        assert hint.probability == 0.5
        assert hint.band == ((500_000_000, 600_000_000) if tell else None)


async def test_every_sale_counts_once_as_demand() -> None:
    prices = PriceBook({Product.LIQUIDITY: 2})
    settings = SellerSettings()
    seller = DocumentSeller(
        node_with_payment(),
        SELLER_KEY,
        MemorySales(),
        prices,
        standard_issuers(SELLER_KEY, settings),
        settings,
        clock=lambda: NOW,
    )
    path = path_for()
    await seller.price_sat(path)
    await asyncio.gather(*(seller.answer(path, TOKEN) for _ in range(5)))
    demand = prices.take_demand()[Product.LIQUIDITY]
    assert (demand.asked, demand.sold, demand.revenue_msat) == (1, 1, 2_000)
    assert prices.take_demand() == {}


async def test_prices_are_told_to_so_many_who_do_not_pay() -> None:
    clock = Clock(NOW)
    settings = SellerSettings(challenges_burst=3, challenges_per_second=0.5)
    seller = seller_of(FakeNode(), clock=clock, settings=settings)
    for _ in range(3):
        await seller.price_sat(path_for())
    for _ in range(2):
        with pytest.raises(SellerBusyError):
            await seller.price_sat(path_for())
        with pytest.raises(SellerBusyError):
            await seller.price_sat((await seller.quote(path_for())).path)
        clock.now += 2  # enough for one more
        await seller.price_sat(path_for())
    clock.now += 1_000
    for _ in range(3):
        await seller.price_sat(path_for())
    with pytest.raises(SellerBusyError):
        await seller.price_sat(path_for())


async def test_nonsense_uses_up_no_allowance() -> None:
    seller = seller_of(FakeNode(), settings=SellerSettings(challenges_burst=1))
    for _ in range(5):
        with pytest.raises(NotForSaleError):
            await seller.price_sat("/v1/hints/x")
    await seller.price_sat(path_for())
