"""Liquidity hints: what they say, how they are signed, and when a buyer may believe one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from lnagents.market.paths import LiquidityRequest
from lnagents.market.stubs import hint_pb2
from lnagents.model.errors import HintInvalidError
from lnagents.model.units import Msat, NodeKey, ShortChannelId

KIND: str = hint_pb2.LiquidityHint.DESCRIPTOR.full_name
VERSION = 1
MAX_DOCUMENT_BYTES = 1_024
"""A signed hint has about 310."""
CLOCK_SKEW_SECONDS = 5.0
"""How far the issuer's clock may be ahead of the reader's."""

_PPM = 1_000_000
_SIGNATURE = re.compile(r"[ybndrfg8ejkmcpqxot1uwisza345h769]{104}")
"""zbase32 of the 65 bytes of a recoverable signature, as LND's SignMessage writes it."""


class MessageSigner(Protocol):
    """What signing needs of a node."""

    async def sign_message(self, message: bytes) -> str:
        """Sign with the node's key (LND's SignMessage)."""


class MessageVerifier(Protocol):
    """What verifying needs of a node: any node, not the one that signed."""

    async def verify_message(self, message: bytes, signature: str) -> tuple[bool, NodeKey]:
        """Whether a node of the known graph signed, and the key that did (VerifyMessage)."""


@dataclass(frozen=True, slots=True)
class LiquidityHint:
    """`issuer` states how probable it is that `amount_msat` passes `scid`, sent by `source`."""

    issuer: NodeKey
    scid: ShortChannelId
    source: NodeKey
    amount_msat: Msat
    probability: float
    """When it was issued; kept in parts per million."""
    issued_at: float
    """Unix seconds, kept to the millisecond."""
    expires_at: float
    """Unix seconds; from then on the hint says nothing."""
    sequence: int
    """Grows with every document of this issuer."""

    def covers(self, request: LiquidityRequest) -> bool:
        """Whether this answers `request`."""
        return (self.scid, self.source, self.amount_msat) == (
            request.scid,
            request.source,
            request.amount_msat,
        )


def encode_hint(hint: LiquidityHint) -> bytes:
    """The payload that is signed."""
    message = hint_pb2.LiquidityHint(
        version=VERSION,
        issuer=bytes.fromhex(hint.issuer),
        short_channel_id=hint.scid,
        source=bytes.fromhex(hint.source),
        amount_msat=hint.amount_msat,
        probability_ppm=round(hint.probability * _PPM),
        issued_at_ms=round(hint.issued_at * 1_000),
        expires_at_ms=round(hint.expires_at * 1_000),
        sequence=hint.sequence,
    )
    return message.SerializeToString(deterministic=True)


def decode_hint(payload: bytes) -> LiquidityHint:
    """Read a payload; says nothing about who signed it.

    Raises:
        HintInvalidError: it is not a hint of this version, or its fields are out of range.
    """
    try:
        message = hint_pb2.LiquidityHint.FromString(payload)
    except DecodeError as exc:
        raise HintInvalidError("the payload is not a liquidity hint") from exc
    if message.version != VERSION:
        raise HintInvalidError(f"a hint of version {message.version}, not {VERSION}")
    if len(message.issuer) != 33 or len(message.source) != 33:
        raise HintInvalidError("a key in the hint does not have 33 bytes")
    if message.probability_ppm > _PPM:
        raise HintInvalidError(f"a probability of {message.probability_ppm} ppm")
    if message.expires_at_ms <= message.issued_at_ms:
        raise HintInvalidError("the hint expires before it is issued")
    return LiquidityHint(
        issuer=message.issuer.hex(),
        scid=message.short_channel_id,
        source=message.source.hex(),
        amount_msat=message.amount_msat,
        probability=message.probability_ppm / _PPM,
        issued_at=message.issued_at_ms / 1_000,
        expires_at=message.expires_at_ms / 1_000,
        sequence=message.sequence,
    )


async def sign_hint(signer: MessageSigner, hint: LiquidityHint) -> bytes:
    """The signed document; `signer` must be the node `hint.issuer`.

    Raises:
        LndError: the node did not sign.
    """
    payload = encode_hint(hint)
    signature = await signer.sign_message(_signed_message(KIND, payload))
    return hint_pb2.SignedDocument(
        kind=KIND, payload=payload, signature=signature
    ).SerializeToString(deterministic=True)


async def verify_hint(
    verifier: MessageVerifier,
    document: bytes,
    *,
    issuer: NodeKey,
    request: LiquidityRequest,
    now: float,
) -> LiquidityHint:
    """The hint in `document`, if `issuer` signed it, it answers `request`, and it holds at `now`.

    Raises:
        HintInvalidError: one of these is not so.
        LndError: the own node could not check the signature.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise HintInvalidError(f"a document of {len(document)} bytes is too long for a hint")
    try:
        signed = hint_pb2.SignedDocument.FromString(document)
    except DecodeError as exc:
        raise HintInvalidError("not a signed document") from exc
    if signed.kind != KIND:
        raise HintInvalidError(f"a document of kind {signed.kind!r} is not a liquidity hint")
    hint = decode_hint(signed.payload)
    if hint.issuer != issuer:
        raise HintInvalidError(f"issued by {hint.issuer}, not by {issuer}")
    if not hint.covers(request):
        raise HintInvalidError("the hint answers another question")
    if hint.issued_at > now + CLOCK_SKEW_SECONDS:
        raise HintInvalidError(f"issued {hint.issued_at - now:.1f} s in the future")
    if hint.expires_at <= now:
        raise HintInvalidError(f"expired {now - hint.expires_at:.1f} s ago")
    if not _SIGNATURE.fullmatch(signed.signature):
        raise HintInvalidError("the signature is malformed")
    # The key that the signature yields is proof enough. LND's own verdict also asks whether that
    # node has channels in the verifier's graph, which is late to know about some.
    _, signed_by = await verifier.verify_message(
        _signed_message(signed.kind, signed.payload), signed.signature
    )
    if signed_by != issuer:
        raise HintInvalidError(f"signed by {signed_by or 'nobody'}, not by {issuer}")
    return hint


def _signed_message(kind: str, payload: bytes) -> bytes:
    # The kind keeps a signature under one kind of document from vouching for another.
    return kind.encode() + b"\0" + payload
