from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from lnagents.lnd import PairEstimate, PairHistory
from lnagents.market.documents import FeeCommitment, RouteQuote
from lnagents.market.issuers import CommitmentIssuer, Header, RouteIssuer
from lnagents.market.paths import CommitmentRequest, LiquidityRequest, RouteRequest
from lnagents.model.errors import NoRouteError, NotForSaleError
from lnagents.model.graph import Channel, ChannelPolicy
from lnagents.model.payment import Hop, Route
from tests.unit.market.market_fakes import (
    PEER_KEY,
    SCID,
    SELLER_KEY,
    STRANGER_KEY,
    local_channel,
)

CHANNELS = {SCID: local_channel()}
HEADER = Header(issuer=SELLER_KEY, issued_at=10.0, expires_at=70.0, sequence=1)
NONCE = "00" * 16
HINT = LiquidityRequest(scid=SCID, source=SELLER_KEY, amount_msat=1, nonce=NONCE)
ROUTE = RouteRequest(destination=STRANGER_KEY, amount_msat=1_000_000, nonce=NONCE)


@dataclass
class Keeper:
    fees: tuple[int, int] | None = (1_000, 100)
    until: list[float] = field(default_factory=list)

    def promise(self, scid: int, until: float) -> tuple[int, int] | None:
        assert scid == SCID
        self.until.append(until)
        return self.fees


def commitment(seconds: int = 60, scid: int = SCID) -> CommitmentRequest:
    return CommitmentRequest(scid=scid, seconds=seconds, nonce=NONCE)


async def test_a_commitment_says_what_the_keeper_of_the_fees_promised() -> None:
    keeper = Keeper()
    issuer = CommitmentIssuer(keeper, 3_600)
    assert issuer.seconds(commitment(60)) == 60
    await issuer.check(commitment(), CHANNELS)
    assert keeper.until == []  # nothing is promised to those who have not paid
    document = await issuer.issue(commitment(), CHANNELS, HEADER)
    assert document == FeeCommitment(scid=SCID, base_fee_msat=1_000, fee_rate_ppm=100, **HEADER)
    assert document.answers(commitment())
    assert keeper.until == [70.0]


async def test_no_promise_is_sold_that_is_not_made() -> None:
    issuer = CommitmentIssuer(Keeper(), 3_600)
    for request, problem in (
        (commitment(3_601), "more than 3600 s"),
        (commitment(scid=SCID + 1), "not a public channel"),
        (HINT, "does not ask"),
    ):
        with pytest.raises(NotForSaleError, match=problem):
            await issuer.check(request, CHANNELS)
    with pytest.raises(NotForSaleError, match="no promise is made"):
        await CommitmentIssuer(Keeper(None), 60).issue(commitment(), CHANNELS, HEADER)


@dataclass
class Router:
    """Knows one route over two channels."""

    routes: bool = True
    searches: int = 0
    at_once: int = 0
    most_at_once: int = 0

    async def query_routes(self, target: str, amount_msat: int) -> tuple[Route, ...]:
        self.searches += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if not self.routes:
            raise NoRouteError("unable to find a path")
        hops = (
            Hop(SCID, PEER_KEY, amount_msat, 500, 180),
            Hop(SCID + 1, target, amount_msat, 0, 100),
        )
        return (Route(hops, amount_msat + 500, 260),)

    async def channel(self, scid: int) -> Channel:
        first, second = sorted((SELLER_KEY, PEER_KEY))
        policy = ChannelPolicy(base_fee_msat=1_000, fee_rate_ppm=100)
        return Channel(scid, "ab:0", first, second, 10**9, policy, policy)

    async def estimate(self, source: str, target: str, amount_msat: int) -> PairEstimate:
        assert (source, target) == (PEER_KEY, STRANGER_KEY)
        return PairEstimate(0.63, PairHistory(source, target, 0.0, 0, 0.0, 0))


async def test_a_route_costs_the_own_fee_and_those_of_the_others() -> None:
    issuer = RouteIssuer(Router(), SELLER_KEY, 60.0, 10)
    assert issuer.seconds(ROUTE) == 60
    quote = await issuer.issue(ROUTE, CHANNELS, HEADER)
    assert isinstance(quote, RouteQuote)
    assert quote.answers(ROUTE)
    # 1,000 msat and 100 ppm of what is sent on, 1,000,500 msat.
    assert quote.own_fee_msat == 1_100
    assert quote.total_fee_msat == 1_600
    assert [hop.amount_msat for hop in quote.hops] == [1_000_500, 1_000_000]


async def test_the_own_part_of_a_quoted_fee_is_promised_while_the_quote_holds() -> None:
    keeper = Keeper((2_000, 1_000))
    issuer = RouteIssuer(Router(), SELLER_KEY, 60.0, 10, keeper)
    await issuer.check(ROUTE, CHANNELS)
    assert keeper.until == []
    quote = await issuer.issue(ROUTE, CHANNELS, HEADER)
    assert isinstance(quote, RouteQuote)
    # What is promised counts, which an update on its way may make dearer than gossip.
    assert (quote.own_fee_msat, keeper.until) == (2_000 + 1_000, [70.0])


async def test_probabilities_are_told_no_finer_than_configured() -> None:
    for levels, told in ((1, 1.0), (2, 0.5), (10, 0.6), (100, 0.63)):
        quote = await RouteIssuer(Router(), SELLER_KEY, 60.0, levels).issue(ROUTE, CHANNELS, HEADER)
        assert isinstance(quote, RouteQuote)
        assert quote.probability == told


async def test_without_a_route_nothing_is_sold() -> None:
    issuer = RouteIssuer(Router(routes=False), SELLER_KEY, 60.0, 10)
    for work in (issuer.check(ROUTE, CHANNELS), issuer.issue(ROUTE, CHANNELS, HEADER)):
        with pytest.raises(NotForSaleError, match="no route"):
            await work
    own = RouteRequest(destination=SELLER_KEY, amount_msat=1, nonce=NONCE)
    with pytest.raises(NotForSaleError, match="this node"):
        await issuer.check(own, CHANNELS)
    with pytest.raises(NotForSaleError, match="does not ask"):
        await issuer.check(HINT, CHANNELS)


async def test_who_paid_for_a_route_that_is_gone_gets_the_one_there_was() -> None:
    router = Router()
    issuer = RouteIssuer(router, SELLER_KEY, 60.0, 10)
    await issuer.check(ROUTE, CHANNELS)
    router.routes = False
    assert isinstance(await issuer.issue(ROUTE, CHANNELS, HEADER), RouteQuote)


async def test_strangers_do_not_keep_the_node_busy() -> None:
    router = Router()
    issuer = RouteIssuer(router, SELLER_KEY, 60.0, 10)
    await asyncio.gather(
        *(
            issuer.check(
                RouteRequest(destination=STRANGER_KEY, amount_msat=amount, nonce=NONCE), CHANNELS
            )
            for amount in range(1, 51)
        )
    )
    assert router.searches == 50
    assert router.most_at_once == 2
    for _ in range(20):
        await issuer.check(
            RouteRequest(destination=STRANGER_KEY, amount_msat=50, nonce=NONCE), CHANNELS
        )
    assert router.searches == 50
