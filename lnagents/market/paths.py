"""The path of what is bought: product, scope and the buyer's nonce.

Aperture binds a token to this path by caveats in which `:` and `,` separate fields: it sells tokens
for paths with these characters, and never accepts them again. So paths are only ever made here, and
whatever this module would not write, sellers and pricers refuse before money moves.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from lnagents.model.errors import NotForSaleError
from lnagents.model.units import (
    Msat,
    NodeKey,
    ShortChannelId,
    format_short_channel_id,
    parse_short_channel_id,
)

CATALOGUE_PATH = "/v1/catalogue"
LIQUIDITY_PREFIX = "/v1/hints/liquidity/"
MAX_PATH_LENGTH = 256
"""Characters; the longest liquidity path has 170."""
MAX_AMOUNT_MSAT = 21_000_000 * 100_000_000 * 1_000
"""All bitcoin there will be."""

_NODE_KEY = re.compile(r"0[23][0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_AMOUNT = re.compile(r"[1-9][0-9]{0,18}")


def new_nonce() -> str:
    """128 random bits in hex: nobody can ask for another's purchase by guessing its path."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class LiquidityRequest:
    """Asks whether `amount_msat` passes channel `scid` now, sent by its end `source`."""

    scid: ShortChannelId
    source: NodeKey
    amount_msat: Msat
    nonce: str

    def path(self) -> str:
        """The path that asks for this; the same for equal requests.

        Raises:
            NotForSaleError: a field is out of range.
        """
        path = (
            f"{LIQUIDITY_PREFIX}{format_short_channel_id(self.scid)}"
            f"/{self.source}/{self.amount_msat}/{self.nonce}"
        )
        if parse_path(path) != self:
            raise NotForSaleError(f"{self} cannot be asked for")
        return path


def parse_path(path: str) -> LiquidityRequest:
    """The request that `path` stands for; every request has one spelling only.

    Raises:
        NotForSaleError: nothing is sold under this path.
    """
    if len(path) > MAX_PATH_LENGTH:
        raise NotForSaleError(f"a path of {len(path)} characters is longer than {MAX_PATH_LENGTH}")
    fields = path.removeprefix(LIQUIDITY_PREFIX).split("/")
    if not path.startswith(LIQUIDITY_PREFIX) or len(fields) != 4:
        raise NotForSaleError(f"nothing is sold under {path!r}")
    channel, source, amount, nonce = fields
    try:
        scid = parse_short_channel_id(channel)
    except ValueError as exc:
        raise NotForSaleError(str(exc)) from exc
    if format_short_channel_id(scid) != channel:
        raise NotForSaleError(f"{channel!r} is not a short channel id such as 103x1x0")
    if not _NODE_KEY.fullmatch(source):
        raise NotForSaleError(f"{source!r} is not a node's key")
    if not _AMOUNT.fullmatch(amount) or int(amount) > MAX_AMOUNT_MSAT:
        raise NotForSaleError(f"{amount!r} is not an amount in msat")
    if not _NONCE.fullmatch(nonce):
        raise NotForSaleError(f"{nonce!r} is not a nonce of 32 hex digits")
    return LiquidityRequest(scid, source, int(amount), nonce)
