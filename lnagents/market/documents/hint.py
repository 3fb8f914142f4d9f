"""Liquidity hints: whether an amount passes a channel in one direction, stated by its end."""

from __future__ import annotations

from dataclasses import dataclass
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
from lnagents.market.paths import LiquidityRequest, Request
from lnagents.market.stubs import hint_pb2
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.units import Msat, NodeKey, ShortChannelId


@dataclass(frozen=True, slots=True, kw_only=True)
class LiquidityHint(Document):
    """How probable it is that `amount_msat` passes `scid`, sent by `source`."""

    scid: ShortChannelId
    source: NodeKey
    amount_msat: Msat
    probability: float
    """When it was issued; kept in parts per million."""
    band: tuple[Msat, Msat] | None = None
    """What could pass lies at or above the first and below the second; None: not told."""

    def answers(self, request: Request) -> bool:
        """Whether this is what `request` asks for."""
        return isinstance(request, LiquidityRequest) and (
            self.scid,
            self.source,
            self.amount_msat,
        ) == (request.scid, request.source, request.amount_msat)


def _write(hint: LiquidityHint) -> hint_pb2.LiquidityHint:
    low, high = hint.band or (0, 0)
    return hint_pb2.LiquidityHint(
        short_channel_id=hint.scid,
        source=bytes.fromhex(hint.source),
        amount_msat=hint.amount_msat,
        probability_ppm=round(hint.probability * PPM),
        band_low_msat=low,
        band_high_msat=high,
    )


def _read(message: hint_pb2.LiquidityHint) -> dict[str, Any]:
    amount = read_amount(message.amount_msat, "amount_msat")
    probability = read_probability(message.probability_ppm)
    band = None
    if message.band_low_msat or message.band_high_msat:
        band = low, high = message.band_low_msat, message.band_high_msat
        if not low < high <= MAX_MSAT:
            raise DocumentInvalidError(f"a band from {low} to {high} msat")
        if (amount <= low and probability < 1) or (amount >= high and probability > 0):
            raise DocumentInvalidError("the hint's probability and its band contradict each other")
    return {
        "scid": message.short_channel_id,
        "source": read_key(message.source, "source"),
        "amount_msat": amount,
        "probability": probability,
        "band": band,
    }


LIQUIDITY_HINT = Codec("liquidity hint", LiquidityHint, hint_pb2.LiquidityHint, _write, _read)
