"""Forward quotes: for which fee a node finds the rest of a way (`lnagents.market.forwarding`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnagents.market.documents.codec import MAX_MSAT, Codec, Document, read_amount, read_key
from lnagents.market.paths import Request
from lnagents.market.stubs import documents_pb2
from lnagents.model.delegation import SEAL_BYTES, QuoteSeal
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.units import Msat, NodeKey

_MAX_BLOCKS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardQuote(Document):
    """Until it expires, the issuer asks for no more than this to bring an amount somewhere."""

    destination: NodeKey
    amount_msat: Msat
    """What arrives there."""
    final_cltv_delta: int
    """Blocks that the destination's invoice asks for."""
    fee_msat: Msat
    """What the issuer must receive beyond the amount, for the rest of the way and for itself."""
    time_lock: int
    """Blocks after which the HTLC to the issuer must not expire before."""
    seal: bytes
    """Goes with the HTLC, so that the issuer knows its quote."""

    @property
    def quote_seal(self) -> QuoteSeal:
        """What goes with the HTLC."""
        return QuoteSeal(int(self.expires_at), self.seal)

    def answers(self, request: Request) -> bool:
        """Never: no request that is paid for asks for it."""
        return False


def _write(quote: ForwardQuote) -> documents_pb2.ForwardQuote:
    return documents_pb2.ForwardQuote(
        destination=bytes.fromhex(quote.destination),
        amount_msat=quote.amount_msat,
        final_cltv_delta=quote.final_cltv_delta,
        fee_msat=quote.fee_msat,
        time_lock=quote.time_lock,
        seal=quote.seal,
    )


def _read(message: documents_pb2.ForwardQuote) -> dict[str, Any]:
    if message.fee_msat > MAX_MSAT:
        raise DocumentInvalidError(f"a fee of {message.fee_msat} msat")
    if max(message.final_cltv_delta, message.time_lock) >= _MAX_BLOCKS:
        raise DocumentInvalidError("a time lock that no HTLC can have")
    if len(message.seal) != SEAL_BYTES:
        raise DocumentInvalidError(f"seal: not {SEAL_BYTES} bytes")
    return {
        "destination": read_key(message.destination, "destination"),
        "amount_msat": read_amount(message.amount_msat, "amount_msat"),
        "final_cltv_delta": message.final_cltv_delta,
        "fee_msat": message.fee_msat,
        "time_lock": message.time_lock,
        "seal": message.seal,
    }


FORWARD_QUOTE = Codec("forward quote", ForwardQuote, documents_pb2.ForwardQuote, _write, _read)
