"""Amounts and identifiers.

Amounts are plain `int` in millisatoshi everywhere; the names below say which integer is meant.
"""

from __future__ import annotations

from typing import TypeAlias

Msat: TypeAlias = int
"""An amount in millisatoshi."""

Ppm: TypeAlias = int
"""A proportional fee in parts per million."""

NodeKey: TypeAlias = str
"""A node's 33-byte compressed public key, lower-case hex."""

ShortChannelId: TypeAlias = int
"""Block (24 bits), transaction (24 bits) and output (16 bits) of a channel's funding (BOLT 7)."""

PaymentHash: TypeAlias = str
"""SHA-256 of the preimage, lower-case hex."""

MSAT_PER_SAT = 1_000


def format_short_channel_id(scid: ShortChannelId) -> str:
    """The `block x tx x output` form, e.g. `103x1x0` (BOLT 7)."""
    return f"{scid >> 40}x{(scid >> 16) & 0xFFFFFF}x{scid & 0xFFFF}"


def parse_short_channel_id(text: str) -> ShortChannelId:
    """The inverse of `format_short_channel_id`; also takes the plain integer.

    Raises:
        ValueError: the text is neither.
    """
    if text.isascii() and text.isdigit():
        scid = int(text)
        if scid >= 1 << 64:
            raise ValueError(f"short channel id {text} does not fit in 64 bits")
        return scid
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not a short channel id such as 103x1x0")
    block, transaction, output = map(int, parts)
    if block >= 1 << 24 or transaction >= 1 << 24 or output >= 1 << 16:
        raise ValueError(f"{text!r} is out of range for a short channel id")
    return block << 40 | transaction << 16 | output


def format_msat(amount: Msat) -> str:
    """An amount for people, in satoshi: `1,234.567 sat`."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), MSAT_PER_SAT)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{sign}{whole:,}{fraction} sat"
