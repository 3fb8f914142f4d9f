"""Priority passes: admission to the liquidity of a channel that is kept for those who have one.

How one is used is in `lnagents.market.passes`, how much of it is left in `pass_book`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnagents.market.documents.codec import HASH_BYTES, Codec, Document, read_amount, read_key
from lnagents.market.paths import PassRequest, Request
from lnagents.market.stubs import documents_pb2
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityPass(Document):
    """Until it expires, its holder may send up to `amount_msat` on over `scid`, before others.

    Exactly one of `payment_hash` and `buyer_key` is given, so that nobody can use it who merely saw
    it, or learned a preimage. One HTLC at a time may be under way with it.
    """

    scid: ShortChannelId
    amount_msat: Msat
    payment_hash: PaymentHash | None = None
    """It is for the payment of this hash."""
    buyer_key: NodeKey | None = None
    """It is for whoever proves to have this key."""

    def answers(self, request: Request) -> bool:
        """Whether this is what `request` asks for, for at least as long."""
        return (
            isinstance(request, PassRequest)
            and (self.scid, self.amount_msat) == (request.scid, request.amount_msat)
            and (self.payment_hash, self.buyer_key) == (request.payment_hash, request.buyer_key)
            # Times are kept to the millisecond.
            and self.expires_at - self.issued_at >= request.seconds - 0.001
        )


def _write(admission: PriorityPass) -> documents_pb2.PriorityPass:
    message = documents_pb2.PriorityPass(
        short_channel_id=admission.scid, amount_msat=admission.amount_msat
    )
    if admission.payment_hash is not None:
        message.payment_hash = bytes.fromhex(admission.payment_hash)
    if admission.buyer_key is not None:
        message.buyer_key = bytes.fromhex(admission.buyer_key)
    return message


def _read(message: documents_pb2.PriorityPass) -> dict[str, Any]:
    payment_hash = buyer_key = None
    holder = message.WhichOneof("holder")
    if holder == "payment_hash":
        if len(message.payment_hash) != HASH_BYTES:
            raise DocumentInvalidError(f"payment_hash: not {HASH_BYTES} bytes")
        payment_hash = message.payment_hash.hex()
    elif holder == "buyer_key":
        buyer_key = read_key(message.buyer_key, "buyer_key")
    else:
        raise DocumentInvalidError("the pass is for nobody")
    return {
        "scid": message.short_channel_id,
        "amount_msat": read_amount(message.amount_msat, "amount_msat"),
        "payment_hash": payment_hash,
        "buyer_key": buyer_key,
    }


PRIORITY_PASS = Codec("priority pass", PriorityPass, documents_pb2.PriorityPass, _write, _read)
