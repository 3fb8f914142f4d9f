"""A pass on its way: what its holder writes into the onion, and how the seller knows the holder.

A priority pass (`documents.admission`) is a signed document of some 300 bytes, and an onion has
1,300 for all of its hops. So the document stays with buyer and seller; what travels is a custom
record (BOLT 4) in the payload of the hop that sold it: the *id* of the pass, and for a pass that is
bound to a key a signature by that key over this one use of it.

Who could misuse it?

* Routers before the hop and after it: the record is encrypted to the hop alone. They learn the
  payment's hash, later its preimage. Neither is the id, which is the hash of a document with the
  seller's signature that they never saw.
* A router that learned the preimage of the *purchase*: it could collect the document with it if it
  had the macaroon, too, and so learn the id. But who uses a pass that is bound to a key must sign,
  and the key never left the buyer; a pass that is bound to a payment hash is good for the payment
  that its buyer wants to arrive, and for no other.
* Who sees one use, such as the seller's own staff, cannot make another of it: the signature covers
  payment hash, channel and amount.
* The holder itself, by using the pass again: the seller counts (`pass_book`).
* The seller can refuse to honour it, and does not gain by that more than the price. Its buyer finds
  out by the first use, and each refusal lowers what it pays there (`agent.pass_wallet`).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from coincurve import PrivateKey, PublicKey

from lnagents.model.errors import DocumentInvalidError
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId

PASS_RECORD = 1_048_579
"""Type of the custom record: above 65535 as BOLT 1 asks, odd, so that others may ignore it."""

ID_BYTES = 16
MAX_SIGNATURE_BYTES = 72
"""Of an ECDSA signature in DER."""

_VERSION = 1
_TAG = b"lnagents priority pass, one use"
_AMOUNTS = struct.Struct(">QQ")


def pass_id(signed_document: bytes) -> bytes:
    """The name of a pass, which nobody can guess who has not seen the document; `ID_BYTES`."""
    return hashlib.sha256(signed_document).digest()[:ID_BYTES]


@dataclass(frozen=True, slots=True)
class PassUse:
    """What a holder presents."""

    pass_id: bytes
    signature: bytes = b""
    """By the pass's key; empty for a pass that is bound to a payment hash."""

    def to_bytes(self) -> bytes:
        """The record's content."""
        return bytes([_VERSION]) + self.pass_id + self.signature

    @classmethod
    def from_bytes(cls, data: bytes) -> PassUse:
        """Read a record's content.

        Raises:
            DocumentInvalidError: it is damaged, or of another version.
        """
        if not 1 + ID_BYTES <= len(data) <= 1 + ID_BYTES + MAX_SIGNATURE_BYTES:
            raise DocumentInvalidError(f"{len(data)} bytes present no pass")
        if data[0] != _VERSION:
            raise DocumentInvalidError(f"a pass is presented by version {data[0]}, not {_VERSION}")
        return cls(data[1 : 1 + ID_BYTES], data[1 + ID_BYTES :])


@dataclass(frozen=True, slots=True)
class Passage:
    """One HTLC, as its sender and the hop that forwards it both see it."""

    payment_hash: PaymentHash
    scid: ShortChannelId
    """Over which the hop sends it on."""
    amount_msat: Msat
    """What is sent on."""


def present(key: bytes, identity: bytes, passage: Passage) -> PassUse:
    """Use the pass `identity` for `passage`; `key` is its private key, empty if it has none."""
    if not key:
        return PassUse(identity)
    return PassUse(identity, PrivateKey(key).sign(_digest(identity, passage), None))


def is_presented_by(key: NodeKey, use: PassUse, passage: Passage) -> bool:
    """Whether `key` signed for this use of the pass; takes about 0.1 ms."""
    digest = _digest(use.pass_id, passage)
    try:
        return PublicKey(bytes.fromhex(key)).verify(use.signature, digest, None)
    except ValueError:  # no signature, or no point of the curve
        return False


def public_key(key: bytes) -> NodeKey:
    """What belongs to a private key of 32 bytes."""
    return PrivateKey(key).public_key.format().hex()


def _digest(identity: bytes, passage: Passage) -> bytes:
    amounts = _AMOUNTS.pack(passage.scid, passage.amount_msat)
    data = _TAG + identity + bytes.fromhex(passage.payment_hash) + amounts
    return hashlib.sha256(data).digest()
