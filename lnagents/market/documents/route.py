"""Route quotes: a whole route from the seller to a destination, its cost, and its chance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lnagents.market.documents.codec import (
    MAX_MSAT,
    PPM,
    Codec,
    Document,
    read_amount,
    read_key,
    read_probability,
)
from lnagents.market.paths import Request, RouteRequest
from lnagents.market.stubs import documents_pb2
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.units import Msat, NodeKey, ShortChannelId

MAX_HOPS = 20
"""As many fit into a payment's onion (BOLT 4)."""


@dataclass(frozen=True, slots=True)
class QuotedHop:
    """One channel of the route."""

    scid: ShortChannelId
    target: NodeKey
    amount_msat: Msat
    """What travels over this channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteQuote(Document):
    """What the issuer says of sending `amount_msat` from itself to `destination`."""

    destination: NodeKey
    amount_msat: Msat
    """What arrives."""
    total_fee_msat: Msat
    """What the issuer must receive beyond that: its own fee and those of all after it."""
    probability: float
    """When it was issued; kept in parts per million."""
    hops: tuple[QuotedHop, ...]

    @property
    def own_fee_msat(self) -> Msat:
        """The issuer's part of the fee: for sending on over the first hop."""
        return self.amount_msat + self.total_fee_msat - self.hops[0].amount_msat

    def answers(self, request: Request) -> bool:
        """Whether this is what `request` asks for."""
        return isinstance(request, RouteRequest) and (self.destination, self.amount_msat) == (
            request.destination,
            request.amount_msat,
        )


def _write(quote: RouteQuote) -> documents_pb2.RouteQuote:
    return documents_pb2.RouteQuote(
        destination=bytes.fromhex(quote.destination),
        amount_msat=quote.amount_msat,
        total_fee_msat=quote.total_fee_msat,
        probability_ppm=round(quote.probability * PPM),
        hops=[
            documents_pb2.RouteHop(
                short_channel_id=hop.scid,
                target=bytes.fromhex(hop.target),
                amount_msat=hop.amount_msat,
            )
            for hop in quote.hops
        ],
    )


def _read(message: documents_pb2.RouteQuote) -> dict[str, Any]:
    hops = tuple(
        QuotedHop(
            hop.short_channel_id,
            read_key(hop.target, "hops.target"),
            read_amount(hop.amount_msat, "hops.amount_msat"),
        )
        for hop in message.hops
    )
    destination = read_key(message.destination, "destination")
    amount = read_amount(message.amount_msat, "amount_msat")
    if not 0 < len(hops) <= MAX_HOPS:
        raise DocumentInvalidError(f"a route of {len(hops)} hops")
    if message.total_fee_msat > MAX_MSAT:
        raise DocumentInvalidError(f"a fee of {message.total_fee_msat} msat")
    if len({hop.target for hop in hops} | {message.issuer.hex()}) != len(hops) + 1:
        raise DocumentInvalidError("the route visits a node twice")
    if hops[-1].target != destination or hops[-1].amount_msat != amount:
        raise DocumentInvalidError("the route does not bring the amount to the destination")
    amounts = [amount + message.total_fee_msat, *(hop.amount_msat for hop in hops)]
    if any(after > before for before, after in pairwise(amounts)):
        raise DocumentInvalidError("the amounts of the route grow on the way")
    return {
        "destination": destination,
        "amount_msat": amount,
        "total_fee_msat": message.total_fee_msat,
        "probability": read_probability(message.probability_ppm),
        "hops": hops,
    }


ROUTE_QUOTE = Codec("route quote", RouteQuote, documents_pb2.RouteQuote, _write, _read)
