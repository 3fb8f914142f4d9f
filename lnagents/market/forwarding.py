"""Delegated forwarding on offer: its terms, and quotes for a destination and an amount.

Nothing of it is bought over L402. The sender pays by the HTLC itself, whose fee budget is the
price: either the amount arrives and the forwarder keeps what it did not spend, or it goes back and
nobody has paid. So there is no token that could be worth nothing, and no seller to be trusted.

A quote is free, signed, and holds: until it expires the forwarder asks for no more than its fee.
What travels in the HTLC is the quote's *seal* (`seals`), by which the forwarder knows its quotes
without remembering any. A quote promises the price and not that there will be liquidity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from lnagents.market.documents import ForwardQuote, MessageSigner, open_document
from lnagents.market.paths import MAX_AMOUNT_MSAT, QUOTES_PREFIX, QuoteMark
from lnagents.market.seals import Seals
from lnagents.model.delegation import MAX_HOPS, QuoteSeal
from lnagents.model.errors import DocumentInvalidError, MarketError, NotForSaleError
from lnagents.model.units import Msat, NodeKey

FORWARD_QUOTES_PREFIX = QUOTES_PREFIX + "/v1/forwards"
"""Below the prefix that Aperture lets through for free."""

MAX_CLTV_DELTA = 2_016

_PATH = re.compile(
    FORWARD_QUOTES_PREFIX + r"/(0[23][0-9a-f]{64})/([1-9][0-9]{0,18})/(0|[1-9][0-9]{0,3})"
)


class Terms(BaseModel):
    """What a forwarder asks for beyond what the rest of a way costs."""

    model_config = ConfigDict(frozen=True)

    base_fee_msat: Annotated[int, Field(ge=0)]
    fee_rate_ppm: Annotated[int, Field(ge=0)]
    max_amount_msat: Annotated[int, Field(gt=0)]
    max_hops: Annotated[int, Field(ge=1, le=MAX_HOPS)]
    """Over so many channels at most it looks for a way."""
    time_lock_delta: Annotated[int, Field(ge=1)]
    """Blocks between the HTLC that it gets and the one that it sends."""
    quote_seconds: Annotated[int, Field(ge=1)]
    """How long a quoted fee holds."""

    def margin_msat(self, amount_msat: Msat) -> Msat:
        """The least that the forwarder wants to earn with `amount_msat`, rounded up."""
        return self.base_fee_msat + -(-amount_msat * self.fee_rate_ppm // 1_000_000)


@dataclass(frozen=True, slots=True)
class ForwardRequest:
    """Asks what it costs to bring `amount_msat` from the forwarder to `destination`."""

    destination: NodeKey
    amount_msat: Msat
    final_cltv_delta: int
    """Blocks that the destination's invoice asks for."""

    def path(self) -> str:
        """The path that asks for this; the same for equal requests."""
        where = f"{self.destination}/{self.amount_msat}/{self.final_cltv_delta}"
        return f"{FORWARD_QUOTES_PREFIX}/{where}"


def parse_forward_path(path: str) -> ForwardRequest:
    """The request that `path` stands for; every request has one spelling only.

    Raises:
        NotForSaleError: nothing is quoted under this path.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise NotForSaleError(f"nothing is quoted under {path!r}")
    request = ForwardRequest(match[1], int(match[2]), int(match[3]))
    if request.amount_msat > MAX_AMOUNT_MSAT or request.final_cltv_delta > MAX_CLTV_DELTA:
        raise NotForSaleError(f"{path!r} asks for more than there is")
    return request


class ForwardDesk(Protocol):
    """Who forwards; `lnagents.agent.quoting.ForwardQuotes`."""

    @property
    def terms(self) -> Terms:
        """What is asked for now."""

    async def quote(self, request: ForwardRequest) -> bytes:
        """A signed `ForwardQuote`.

        Raises:
            NotForSaleError: no way is known, or it is too much.
            SellerBusyError: too many quotes were asked for lately.
            LndError: the node did not answer.
        """


class QuoteSeals:
    """Seals of one forwarder's quotes."""

    def __init__(self, signer: MessageSigner) -> None:
        self._seals = Seals(signer)

    async def seal(self, request: ForwardRequest, fee_msat: Msat, expires_at: int) -> QuoteSeal:
        """What makes `fee_msat` hold for `request` until `expires_at` (Unix seconds).

        Raises:
            LndError: the node did not sign.
        """
        # No path that is sold begins like this one: a seal of one kind is none of the other.
        mark = await self._seals.mark(request.path(), fee_msat, expires_at)
        return QuoteSeal(expires_at, bytes.fromhex(mark.seal))

    async def is_own(self, request: ForwardRequest, fee_msat: Msat, quote: QuoteSeal) -> bool:
        """Whether `quote` was made here for just this; it may have expired.

        Raises:
            LndError: the node did not sign.
        """
        mark = QuoteMark(fee_msat, quote.expires_at, quote.seal.hex())
        return await self._seals.is_own(request.path(), mark)


def check_forward_quote(
    data: bytes, *, forwarder: NodeKey, request: ForwardRequest, clock: Callable[[], float]
) -> ForwardQuote:
    """The quote in `data`, if `forwarder` signed it for `request`, and it holds.

    Raises:
        MarketError: one of these is not so.
    """
    try:
        quote = open_document(data)
    except DocumentInvalidError as exc:
        raise MarketError(f"the forwarder's quote: {exc}") from exc
    if not isinstance(quote, ForwardQuote) or quote.issuer != forwarder:
        raise MarketError("the forwarder's quote is of another node, or for something else")
    asked = request.destination, request.amount_msat, request.final_cltv_delta
    if (quote.destination, quote.amount_msat, quote.final_cltv_delta) != asked:
        raise MarketError("the forwarder's quote answers another question")
    if not quote.holds_at(clock()):
        raise MarketError("the forwarder's quote does not hold now")
    return quote
