"""Hints bought and sold through a real Aperture, paid over real channels."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from coincurve import PrivateKey

from lnagents.market import (
    CommitmentRequest,
    FeeCommitment,
    LiquidityHint,
    LiquidityRequest,
    Product,
    RouteQuote,
    RouteRequest,
    new_nonce,
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
    PriceError,
)
from lnagents.model.graph import ChannelPolicy
from lnagents.testbed import Testbed
from lnagents.testbed.backend import ServiceState, aperture_service
from lnagents.testbed.waiting import wait_until
from tests.integration.market.trading import (
    PRICE_SAT,
    SELLER,
    FixedFees,
    ForgingNode,
    Market,
)


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

    # The route leads there, at what the seller promised for its own channel and the policies on
    # the way ask for.
    graph = await market.witness.graph()
    own = FixedFees().promise(route.hops[0].scid, route.expires_at)
    at, total = market.seller.key, ChannelPolicy(*own).outbound_fee(route.hops[0].amount_msat)
    arriving = [hop.amount_msat for hop in route.hops]
    for hop in route.hops:
        edge = graph.channels[hop.scid].edge_from(at)
        assert edge.target == hop.target
        assert edge.policy is not None
        if at != market.seller.key:
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
    # Its other peers may take long to come back by themselves; the network is shared.
    await testbed.reset()
