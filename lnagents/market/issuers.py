"""What the seller's node can say: one issuer for each product that is sold.

`check` refuses what cannot be answered before money moves, and is asked by those who have not paid;
`issue` makes the document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol, TypedDict

from lnagents.lnd import PairEstimate
from lnagents.market.documents import (
    Document,
    FeeCommitment,
    LiquidityHint,
    PriorityPass,
    QuotedHop,
    RouteQuote,
)
from lnagents.market.paths import (
    CommitmentRequest,
    LiquidityRequest,
    PassRequest,
    Product,
    Request,
    RouteRequest,
)
from lnagents.model.errors import NoRouteError, NotForSaleError
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel
from lnagents.model.payment import Route
from lnagents.model.units import Msat, NodeKey, Ppm, ShortChannelId, format_short_channel_id

REMEMBERED_ROUTES = 256
"""Routes that were found for those who asked for a price."""
ROUTE_SEARCHES = 2
"""At once, so that strangers cannot keep the node busy."""


class RouteNode(Protocol):
    """What quoting routes needs of the own node; `lnagents.lnd.LndClient` has it."""

    async def query_routes(self, target: NodeKey, amount_msat: Msat) -> tuple[Route, ...]:
        """The best route; raises NoRouteError (QueryRoutes)."""

    async def channel(self, scid: ShortChannelId) -> Channel:
        """A channel of the graph (GetChanInfo)."""

    async def estimate(self, source: NodeKey, target: NodeKey, amount_msat: Msat) -> PairEstimate:
        """How likely the node thinks it that the amount passes (QueryProbability)."""


class FeeKeeper(Protocol):
    """Whoever sets the own fees, and can be held to them."""

    def promise(self, scid: ShortChannelId, until: float) -> tuple[Msat, Ppm] | None:
        """Base fee and rate that channel `scid` will not exceed before `until` (Unix seconds).

        From the moment of the answer it is kept. None: no promise is made about this channel.
        """


class PassKeeper(Protocol):
    """Whoever decides on the own forwards, and so can keep room for those who have a pass."""

    max_seconds: int
    """For how long passes are issued."""

    def check(self, request: PassRequest, channel: LocalChannel) -> None:
        """See that there is room now; raises NotForSaleError.

        Those who have not paid ask, too: the answer must tell no more of the channel than hints do.
        """

    def reserve(self, request: PassRequest, channel: LocalChannel, until: float) -> None:
        """Keep the room until then (Unix seconds); raises NotForSaleError.

        From the moment of the answer it is kept. Asking again for the same changes nothing.
        """


class Header(TypedDict):
    """What an issuer fills into every document."""

    issuer: NodeKey
    issued_at: float
    expires_at: float
    sequence: int


Channels = Mapping[ShortChannelId, LocalChannel]
"""The own public channels."""


class Issuer(Protocol):
    """Makes the documents of one product."""

    product: Product

    def seconds(self, request: Request) -> float:
        """How long the document will hold."""

    async def check(self, request: Request, channels: Channels) -> None:
        """See that there would be an answer; raises NotForSaleError."""

    async def issue(self, request: Request, channels: Channels, header: Header) -> Document:
        """The answer; raises NotForSaleError if there is none any more."""


@dataclass(slots=True)
class LiquidityIssuer:
    """Tells whether amounts pass the own channels."""

    key: NodeKey
    valid_seconds: float
    bands: int
    """Privacy: answers depend on the balance only by which of so many equal parts it lies in."""
    tell_bands: bool
    """Whether the part itself is told, too: what several questions would find out, for one."""
    product: Product = Product.LIQUIDITY

    def seconds(self, request: Request) -> float:
        """How long a hint holds."""
        return self.valid_seconds

    async def check(self, request: Request, channels: Channels) -> None:
        """See that it is about a public channel and one of its ends."""
        _channel_of(_liquidity(request), self.key, channels)

    async def issue(self, request: Request, channels: Channels, header: Header) -> Document:
        """The hint."""
        asked = _liquidity(request)
        channel = _channel_of(asked, self.key, channels)
        own = asked.source == self.key
        available = channel.spendable_msat if own else channel.receivable_msat
        low, high = band_of(available if channel.active else 0, channel.capacity_msat, self.bands)
        probability = passing_probability(asked.amount_msat, low, high) if channel.active else 0.0
        return LiquidityHint(
            scid=asked.scid,
            source=asked.source,
            amount_msat=asked.amount_msat,
            probability=probability,
            band=(low, high) if self.tell_bands and channel.active else None,
            **header,
        )


def band_of(available: Msat, capacity: Msat, bands: int) -> tuple[Msat, Msat]:
    """Which of `bands` equal parts of the capacity `available` lies in; all in msat."""
    width = max(1, capacity // bands)
    low = available // width * width
    return low, low + width


def passing_probability(amount: Msat, low: Msat, high: Msat) -> float:
    """Probability that `amount` is at most what is available, to one who knows the band only.

    Within the band what is available may be anywhere with equal probability. All amounts in msat.
    """
    if amount <= low:
        return 1.0
    return max(0.0, (high - amount) / (high - low))


def _liquidity(request: Request) -> LiquidityRequest:
    if not isinstance(request, LiquidityRequest):
        raise NotForSaleError(f"{request} does not ask for a hint")
    return request


def _channel_of(request: LiquidityRequest, key: NodeKey, channels: Channels) -> LocalChannel:
    channel = _public(request.scid, channels)
    if request.source not in (key, channel.peer):
        name = format_short_channel_id(request.scid)
        raise NotForSaleError(f"{request.source} is not an end of {name}")
    return channel


def _public(scid: ShortChannelId, channels: Channels) -> LocalChannel:
    channel = channels.get(scid)
    if channel is None:
        name = format_short_channel_id(scid)
        raise NotForSaleError(f"{name} is not a public channel of this node")
    return channel


@dataclass(slots=True)
class CommitmentIssuer:
    """Promises not to raise the own fees."""

    keeper: FeeKeeper
    max_seconds: int
    product: Product = Product.COMMITMENT

    def seconds(self, request: Request) -> float:
        """As long as was asked for."""
        return _commitment(request).seconds

    async def check(self, request: Request, channels: Channels) -> None:
        """See that it is about a public channel and not for too long."""
        asked = _commitment(request)
        _public(asked.scid, channels)
        if asked.seconds > self.max_seconds:
            raise NotForSaleError(f"no promise is made for more than {self.max_seconds} s")

    async def issue(self, request: Request, channels: Channels, header: Header) -> Document:
        """The promise, which the keeper of the fees has taken on."""
        asked = _commitment(request)
        await self.check(request, channels)
        fees = self.keeper.promise(asked.scid, header["expires_at"])
        if fees is None:
            name = format_short_channel_id(asked.scid)
            raise NotForSaleError(f"no promise is made about {name} now")
        base, rate = fees
        return FeeCommitment(scid=asked.scid, base_fee_msat=base, fee_rate_ppm=rate, **header)


def _commitment(request: Request) -> CommitmentRequest:
    if not isinstance(request, CommitmentRequest):
        raise NotForSaleError(f"{request} does not ask for a fee commitment")
    return request


class RouteIssuer:
    """Quotes routes that start at the own node."""

    product = Product.ROUTE

    def __init__(
        self,
        node: RouteNode,
        key: NodeKey,
        valid_seconds: float,
        levels: int,
        keeper: FeeKeeper | None = None,
    ) -> None:
        """`levels`: privacy; probabilities are told as multiples of one in so many.

        With a `keeper` the own fee on the first channel is not raised while a quote holds.
        """
        self._node = node
        self._key = key
        self._valid_seconds = valid_seconds
        self._levels = levels
        self._keeper = keeper
        self._searching = asyncio.Semaphore(ROUTE_SEARCHES)
        self._found: dict[tuple[NodeKey, Msat], Route] = {}

    def seconds(self, request: Request) -> float:
        """How long a quote holds."""
        return self._valid_seconds

    async def check(self, request: Request, channels: Channels) -> None:
        """See that there is a route; what is found is remembered for who pays."""
        asked = _route(request)
        if (asked.destination, asked.amount_msat) not in self._found:
            await self._search(asked)

    async def issue(self, request: Request, channels: Channels, header: Header) -> Document:
        """The quote of a fresh route, or of the one that was found before if there is none now."""
        asked = _route(request)
        remembered = self._found.get((asked.destination, asked.amount_msat))
        try:
            route = await self._search(asked)
        except NotForSaleError:
            if remembered is None:
                raise
            route = remembered
        own_fee = await self._own_fee(route, header["expires_at"])
        return RouteQuote(
            destination=asked.destination,
            amount_msat=asked.amount_msat,
            total_fee_msat=route.fee_msat + own_fee,
            probability=await self._probability(route),
            hops=tuple(
                QuotedHop(hop.scid, hop.target, hop.amount_msat + hop.fee_msat)
                for hop in route.hops
            ),
            **header,
        )

    async def _own_fee(self, route: Route, until: float) -> Msat:
        """What is charged over the first channel, and stays so until then (Unix seconds)."""
        scid, amount = route.hops[0].scid, route.total_amount_msat
        if self._keeper is not None:
            fees = self._keeper.promise(scid, until)
            if fees is not None:
                base, rate = fees
                return ChannelPolicy(base_fee_msat=base, fee_rate_ppm=rate).outbound_fee(amount)
        policy = (await self._node.channel(scid)).edge_from(self._key).policy
        return 0 if policy is None else policy.outbound_fee(amount)

    async def _search(self, asked: RouteRequest) -> Route:
        if asked.destination == self._key:
            raise NotForSaleError("the destination is this node")
        async with self._searching:
            try:
                routes = await self._node.query_routes(asked.destination, asked.amount_msat)
            except NoRouteError as exc:
                raise NotForSaleError(f"there is no route to {asked.destination}") from exc
        self._found.pop((asked.destination, asked.amount_msat), None)
        self._found[asked.destination, asked.amount_msat] = routes[0]
        if len(self._found) > REMEMBERED_ROUTES:
            del self._found[next(iter(self._found))]
        return routes[0]

    async def _probability(self, route: Route) -> float:
        """That all channels but the own one carry it, as the node's mission control thinks."""
        chances: Sequence[PairEstimate] = await asyncio.gather(
            *(
                self._node.estimate(before.target, hop.target, hop.amount_msat + hop.fee_msat)
                for before, hop in zip(route.hops, route.hops[1:], strict=False)
            )
        )
        chance = prod(one.probability for one in chances)
        return round(chance * self._levels) / self._levels


def _route(request: Request) -> RouteRequest:
    if not isinstance(request, RouteRequest):
        raise NotForSaleError(f"{request} does not ask for a route")
    return request


@dataclass(slots=True)
class PassIssuer:
    """Sells priority on the own channels."""

    keeper: PassKeeper
    product: Product = Product.PASS

    def seconds(self, request: Request) -> float:
        """As long as was asked for."""
        return _pass(request).seconds

    async def check(self, request: Request, channels: Channels) -> None:
        """See that it is about a public channel that has room, and not for too long."""
        asked = _pass(request)
        if asked.seconds > self.keeper.max_seconds:
            raise NotForSaleError(f"no pass holds for more than {self.keeper.max_seconds} s")
        self.keeper.check(asked, _public(asked.scid, channels))

    async def issue(self, request: Request, channels: Channels, header: Header) -> Document:
        """The pass, whose room is kept from now on."""
        asked = _pass(request)
        await self.check(request, channels)
        self.keeper.reserve(asked, _public(asked.scid, channels), header["expires_at"])
        return PriorityPass(
            scid=asked.scid,
            amount_msat=asked.amount_msat,
            payment_hash=asked.payment_hash,
            buyer_key=asked.buyer_key,
            **header,
        )


def _pass(request: Request) -> PassRequest:
    if not isinstance(request, PassRequest):
        raise NotForSaleError(f"{request} does not ask for a pass")
    return request
