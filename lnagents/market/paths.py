"""The path of what is bought: product, scope and the buyer's nonce, and a quote if there is one.

Aperture binds a token to this path by caveats in which `:` and `,` separate fields: it sells tokens
for paths with these characters, and never accepts them again. So paths are only ever made here, and
whatever this module would not write, sellers and pricers refuse before money moves.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lnagents.model.errors import NotForSaleError
from lnagents.model.units import (
    Msat,
    NodeKey,
    PaymentHash,
    ShortChannelId,
    format_short_channel_id,
    parse_short_channel_id,
)

CATALOGUE_PATH = "/v1/catalogue"
QUOTES_PREFIX = "/v1/quotes"
"""Before a path, it asks for a quote, for free."""
PASSES_PREFIX = "/v1/passes/"
PAID_PREFIXES = ("/v1/hints/", "/v1/commitments/", "/v1/routes/", PASSES_PREFIX)
"""Of all that costs money; Aperture's configuration has the same (`testbed.settings`)."""
MAX_PATH_LENGTH = 300
"""Characters; the longest path, a quoted pass, has 254."""
MAX_AMOUNT_MSAT = 21_000_000 * 100_000_000 * 1_000
"""All bitcoin there will be."""
MAX_SECONDS = 30 * 86_400
"""No promise is made for longer."""

PASS_UNIT_MSAT = 10_000_000
PASS_UNIT_SECONDS = 60
"""A pass has a unit for every so much and so long that it has begun; the price is for one."""

_KEY = re.compile(r"0[23][0-9a-f]{64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_QUOTE_FIELDS = 3


class Product(str, Enum):
    """What is sold, in the words of catalogues and commands."""

    LIQUIDITY = "liquidity"
    COMMITMENT = "commitment"
    ROUTE = "route"
    PASS = "pass"  # noqa: S105


def new_nonce() -> str:
    """128 random bits in hex: nobody can ask for another's purchase by guessing its path."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(ABC):
    """One question, asked by whoever knows `nonce`."""

    nonce: str

    @property
    @abstractmethod
    def product(self) -> Product:
        """What is asked for."""

    @property
    def channel(self) -> ShortChannelId | None:
        """The seller's channel that this is about; None: it is about no certain one."""
        return None

    @property
    def units(self) -> int:
        """How many times the product's price this costs."""
        return 1

    @abstractmethod
    def scope(self) -> str:
        """The path without the nonce."""

    def path(self) -> str:
        """The path that asks for this; the same for equal requests.

        Raises:
            NotForSaleError: a field is out of range.
        """
        path = f"{self.scope()}/{self.nonce}"
        if parse_path(path) != self:
            raise NotForSaleError(f"{self} cannot be asked for")
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class LiquidityRequest(Request):
    """Asks whether `amount_msat` passes channel `scid` now, sent by its end `source`."""

    scid: ShortChannelId
    source: NodeKey
    amount_msat: Msat

    @property
    def product(self) -> Product:
        """A liquidity hint."""
        return Product.LIQUIDITY

    @property
    def channel(self) -> ShortChannelId:
        """The channel."""
        return self.scid

    def scope(self) -> str:
        """The path without the nonce."""
        channel = format_short_channel_id(self.scid)
        return f"/v1/hints/liquidity/{channel}/{self.source}/{self.amount_msat}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRequest(Request):
    """Asks the seller not to raise its fee on channel `scid` for `seconds`."""

    scid: ShortChannelId
    seconds: int

    @property
    def product(self) -> Product:
        """A fee commitment."""
        return Product.COMMITMENT

    @property
    def channel(self) -> ShortChannelId:
        """The channel."""
        return self.scid

    def scope(self) -> str:
        """The path without the nonce."""
        return f"/v1/commitments/fee/{format_short_channel_id(self.scid)}/{self.seconds}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest(Request):
    """Asks for a route of `amount_msat` from the seller to `destination`."""

    destination: NodeKey
    amount_msat: Msat

    @property
    def product(self) -> Product:
        """A route quote."""
        return Product.ROUTE

    def scope(self) -> str:
        """The path without the nonce."""
        return f"/v1/routes/{self.destination}/{self.amount_msat}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRequest(Request):
    """Asks for priority for `amount_msat` over channel `scid` for `seconds`.

    It is for the payment of `payment_hash` or for the owner of `buyer_key`; exactly one is given.
    """

    scid: ShortChannelId
    amount_msat: Msat
    seconds: int
    payment_hash: PaymentHash | None = None
    buyer_key: NodeKey | None = None

    @property
    def product(self) -> Product:
        """A priority pass."""
        return Product.PASS

    @property
    def channel(self) -> ShortChannelId:
        """The channel."""
        return self.scid

    @property
    def units(self) -> int:
        """As much is kept for the holder, and as long."""
        return -(-self.amount_msat // PASS_UNIT_MSAT) * -(-self.seconds // PASS_UNIT_SECONDS)

    def scope(self) -> str:
        """The path without the nonce."""
        holder = (
            f"key/{self.buyer_key}" if self.payment_hash is None else f"hash/{self.payment_hash}"
        )
        channel = format_short_channel_id(self.scid)
        return f"/v1/passes/{channel}/{self.amount_msat}/{self.seconds}/{holder}"


@dataclass(frozen=True, slots=True)
class QuoteMark:
    """What a quote adds to the path of its request, so that nobody has to remember quotes."""

    price_sat: int
    expires_at: int
    """Unix seconds."""
    seal: str
    """The seller's, by which it knows its own quotes: 128 bits in hex."""


def quoted_path(path: str, mark: QuoteMark) -> str:
    """The path that buys what `path` asks for at the quoted price."""
    return f"{path}/{mark.price_sat}/{mark.expires_at}/{mark.seal}"


def parse_quoted(path: str) -> tuple[Request, str, QuoteMark | None]:
    """The request of a path that may carry a quote, its path without it, and the quote.

    Raises:
        NotForSaleError: nothing is sold under this path.
    """
    try:
        return parse_path(path), path, None
    except NotForSaleError:
        plain, *fields = path.rsplit("/", _QUOTE_FIELDS)
        if len(fields) != _QUOTE_FIELDS or not _NONCE.fullmatch(fields[2]):
            raise
    request = parse_path(plain)
    price, expires = (_number(field, what) for field, what in zip(fields, _MARK, strict=False))
    return request, plain, QuoteMark(price, expires, fields[2])


_MARK = ("price in satoshi", "time in Unix seconds")


_PREFIXES = {
    Product.LIQUIDITY.value: "/v1/hints/liquidity",
    Product.COMMITMENT.value: "/v1/commitments/fee",
    Product.ROUTE.value: "/v1/routes",
    Product.PASS.value: "/v1/passes",
}


def ask(words: Sequence[str], nonce: str) -> Request:
    """The request for a product and its scope in the order of the path, as people write it.

    Raises:
        NotForSaleError: there is no such product, or its scope is something else.
    """
    prefix = _PREFIXES.get(words[0]) if words else None
    if prefix is None:
        raise NotForSaleError(f"the first word is none of {', '.join(_PREFIXES)}")
    return parse_path("/".join((prefix, *words[1:], nonce)))


def parse_path(path: str) -> Request:
    """The request that `path` stands for; every request has one spelling only.

    Raises:
        NotForSaleError: nothing is sold under this path.
    """
    if len(path) > MAX_PATH_LENGTH:
        raise NotForSaleError(f"a path of {len(path)} characters is longer than {MAX_PATH_LENGTH}")
    match path.split("/"):
        case ["", "v1", "hints", "liquidity", channel, source, amount, nonce]:
            return LiquidityRequest(
                scid=_channel(channel),
                source=_key(source),
                amount_msat=_amount(amount),
                nonce=_nonce(nonce),
            )
        case ["", "v1", "commitments", "fee", channel, seconds, nonce]:
            return CommitmentRequest(
                scid=_channel(channel), seconds=_seconds(seconds), nonce=_nonce(nonce)
            )
        case ["", "v1", "routes", destination, amount, nonce]:
            return RouteRequest(
                destination=_key(destination), amount_msat=_amount(amount), nonce=_nonce(nonce)
            )
        case ["", "v1", "passes", channel, amount, seconds, "hash" | "key" as kind, holder, nonce]:
            by_hash = kind == "hash"
            return PassRequest(
                scid=_channel(channel),
                amount_msat=_amount(amount),
                seconds=_seconds(seconds),
                payment_hash=_matching(_HASH, holder, "payment hash") if by_hash else None,
                buyer_key=None if by_hash else _key(holder),
                nonce=_nonce(nonce),
            )
    raise NotForSaleError(f"nothing is sold under {path!r}")


def _channel(text: str) -> ShortChannelId:
    try:
        scid = parse_short_channel_id(text)
    except ValueError as exc:
        raise NotForSaleError(str(exc)) from exc
    if format_short_channel_id(scid) != text:
        raise NotForSaleError(f"{text!r} is not a short channel id such as 103x1x0")
    return scid


def _key(text: str) -> NodeKey:
    return _matching(_KEY, text, "node's key")


def _nonce(text: str) -> str:
    return _matching(_NONCE, text, "nonce of 32 hex digits")


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise NotForSaleError(f"{text!r} is not a {what}")
    return text


def _number(text: str, what: str) -> int:
    return int(_matching(_NUMBER, text, what))


def _amount(text: str) -> Msat:
    amount = _number(text, "amount in msat")
    if amount > MAX_AMOUNT_MSAT:
        raise NotForSaleError(f"{text!r} is not an amount in msat")
    return amount


def _seconds(text: str) -> int:
    seconds = _number(text, "number of seconds")
    if seconds > MAX_SECONDS:
        raise NotForSaleError(f"{seconds} s are more than the {MAX_SECONDS} s of any promise")
    return seconds
