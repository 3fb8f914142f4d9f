"""What a seller tells for free, in JSON: its catalogue, and quotes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lnagents.market.forwarding import Terms
from lnagents.market.paths import Product, Request
from lnagents.model.errors import MarketError
from lnagents.model.units import (
    MSAT_PER_SAT,
    Msat,
    NodeKey,
    ShortChannelId,
    format_short_channel_id,
)


class Offer(BaseModel):
    """One product, about one channel if it is about any. Keys of newer sellers are passed over."""

    model_config = ConfigDict(frozen=True)

    product: str
    """A `Product`, or something that a newer seller has."""
    channel: str = ""
    """`block x tx x output`; empty: about no certain one."""
    peer: NodeKey = ""
    """The channel's other end."""
    price_sat: Annotated[int, Field(ge=1)]
    """Of one unit: a pass has several (`Request.units`), everything else one."""


class Catalogue(BaseModel):
    """All offers of one seller, at the prices of this moment."""

    model_config = ConfigDict(frozen=True)

    seller: NodeKey
    bands: Annotated[int, Field(ge=1)]
    """Into how many equal parts a channel's capacity is divided: answers tell no more."""
    valid_seconds: Annotated[float, Field(gt=0)]
    """How long hints and route quotes hold."""
    max_seconds: Annotated[int, Field(ge=0)] = 0
    """For how long promises can be bought."""
    quote_seconds: Annotated[float, Field(ge=0)] = 0
    """How long a quoted price holds; 0: this seller makes no quotes."""
    offers: tuple[Offer, ...]
    forwarding: Terms | None = None
    """For whom this node finds the rest of a way; None: for nobody."""

    def price_of(self, request: Request) -> Msat | None:
        """What the answer to `request` costs now, in msat; None: not offered."""
        price = self.price_msat(request.product, request.channel)
        return None if price is None else price * request.units

    def price_msat(self, product: Product, scid: ShortChannelId | None = None) -> Msat | None:
        """What a unit of `product` about channel `scid` costs now; None: not offered."""
        channel = "" if scid is None else format_short_channel_id(scid)
        for offer in self.offers:
            if (offer.product, offer.channel) == (product.value, channel):
                return offer.price_sat * MSAT_PER_SAT
        return None


class Quote(BaseModel):
    """A price that holds for a while, for one question."""

    model_config = ConfigDict(frozen=True)

    path: str
    """What to buy to get this price: the question's path with the seller's mark at its end."""
    price_sat: Annotated[int, Field(ge=1)]
    expires_at: Annotated[int, Field(gt=0)]
    """Unix seconds."""

    @property
    def price_msat(self) -> Msat:
        """The price in msat."""
        return self.price_sat * MSAT_PER_SAT


def parse_catalogue(text: bytes) -> Catalogue:
    """Read a catalogue.

    Raises:
        MarketError: it cannot be understood.
    """
    try:
        return Catalogue.model_validate_json(text)
    except ValidationError as exc:
        raise MarketError(f"the seller's catalogue: {_problem(exc)}") from exc


def parse_quote(text: bytes) -> Quote:
    """Read a quote.

    Raises:
        MarketError: it cannot be understood.
    """
    try:
        return Quote.model_validate_json(text)
    except ValidationError as exc:
        raise MarketError(f"the seller's quote: {_problem(exc)}") from exc


def _problem(exc: ValidationError) -> str:
    problem = exc.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
