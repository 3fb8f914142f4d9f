"""What a seller offers, as its free catalogue tells it in JSON."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lnagents.model.errors import MarketError
from lnagents.model.units import (
    MSAT_PER_SAT,
    Msat,
    NodeKey,
    ShortChannelId,
    format_short_channel_id,
)

LIQUIDITY = "liquidity"


class Offer(BaseModel):
    """One product about one channel. Keys that a newer seller adds are passed over."""

    model_config = ConfigDict(frozen=True)

    product: str
    channel: str
    """`block x tx x output`."""
    peer: NodeKey
    """The channel's other end."""
    price_sat: Annotated[int, Field(ge=1)]


class Catalogue(BaseModel):
    """All offers of one seller, at the prices of this moment."""

    model_config = ConfigDict(frozen=True)

    seller: NodeKey
    bands: Annotated[int, Field(ge=1)]
    """Into how many equal parts a channel's capacity is divided: answers tell no more."""
    valid_seconds: Annotated[float, Field(gt=0)]
    """How long a hint holds."""
    offers: tuple[Offer, ...]

    def price_msat(self, product: str, scid: ShortChannelId) -> Msat | None:
        """What `product` about channel `scid` costs now, in msat; None: not offered."""
        channel = format_short_channel_id(scid)
        for offer in self.offers:
            if (offer.product, offer.channel) == (product, channel):
                return offer.price_sat * MSAT_PER_SAT
        return None


def parse_catalogue(text: bytes) -> Catalogue:
    """Read a catalogue.

    Raises:
        MarketError: it cannot be understood.
    """
    try:
        return Catalogue.model_validate_json(text)
    except ValidationError as exc:
        problem = exc.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise MarketError(f"the seller's catalogue: {key}: {problem['msg']}") from exc
