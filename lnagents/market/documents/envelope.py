"""The envelope of all documents: which kind, the exact bytes, and the issuer's signature."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from lnagents.market.documents.admission import PRIORITY_PASS
from lnagents.market.documents.codec import CLOCK_SKEW_SECONDS, Codec, Document, MessageSigner
from lnagents.market.documents.commitment import FEE_COMMITMENT
from lnagents.market.documents.forward import FORWARD_QUOTE
from lnagents.market.documents.hint import LIQUIDITY_HINT
from lnagents.market.documents.route import ROUTE_QUOTE
from lnagents.market.documents.signature import signed_by
from lnagents.market.paths import Request
from lnagents.market.stubs import hint_pb2
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.units import NodeKey

MAX_DOCUMENT_BYTES = 4_096
"""A signed hint has about 310, a route of 20 hops about 1,400."""

_CODECS: tuple[Codec[Any, Any], ...] = (
    LIQUIDITY_HINT,
    FEE_COMMITMENT,
    ROUTE_QUOTE,
    PRIORITY_PASS,
    FORWARD_QUOTE,
)
_BY_KIND = {codec.kind: codec for codec in _CODECS}
_BY_TYPE = {codec.document: codec for codec in _CODECS}


def kind_of(document: Document) -> str:
    """Full name of the document's message, which its signature covers."""
    return _BY_TYPE[type(document)].kind


def encode_document(document: Document) -> bytes:
    """The payload that is signed."""
    return _BY_TYPE[type(document)].encode(document)


def decode_document(kind: str, payload: bytes) -> Document:
    """Read a payload; says nothing about who signed it.

    Raises:
        DocumentInvalidError: it is no document of this kind, or a wrong one.
    """
    codec = _BY_KIND.get(kind)
    if codec is None:
        raise DocumentInvalidError(f"documents of kind {kind!r} are not known here")
    document: Document = codec.decode(payload)
    return document


async def sign_document(signer: MessageSigner, document: Document) -> bytes:
    """The signed document; `signer` must be the node `document.issuer`.

    Raises:
        LndError: the node did not sign.
    """
    kind, payload = kind_of(document), encode_document(document)
    signature = await signer.sign_message(_signed_message(kind, payload))
    return hint_pb2.SignedDocument(
        kind=kind, payload=payload, signature=signature
    ).SerializeToString(deterministic=True)


def open_document(data: bytes) -> Document:
    """The document in `data`, if its issuer signed it; whether it still holds is not asked.

    Raises:
        DocumentInvalidError: it is damaged, forged, or of an unknown kind.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentInvalidError(f"{len(data)} bytes are too long for a document")
    try:
        signed = hint_pb2.SignedDocument.FromString(data)
    except DecodeError as exc:
        raise DocumentInvalidError("not a signed document") from exc
    document = decode_document(signed.kind, signed.payload)
    canonical = hint_pb2.SignedDocument(
        kind=signed.kind, payload=signed.payload, signature=signed.signature
    )
    if canonical.SerializeToString(deterministic=True) != data:
        raise DocumentInvalidError("the envelope is not in its canonical form")
    signer = signed_by(_signed_message(signed.kind, signed.payload), signed.signature)
    if signer is None:
        raise DocumentInvalidError("the signature is malformed")
    if signer != document.issuer:
        raise DocumentInvalidError(f"signed by {signer}, not by {document.issuer}")
    return document


def verify_document(data: bytes, *, issuer: NodeKey, request: Request, now: float) -> Document:
    """The document in `data`, if `issuer` signed it, it answers `request`, and it holds at `now`.

    Raises:
        DocumentInvalidError: one of these is not so.
    """
    document = open_document(data)
    if document.issuer != issuer:
        raise DocumentInvalidError(f"issued by {document.issuer}, not by {issuer}")
    if not document.answers(request):
        raise DocumentInvalidError("the document answers another question")
    if document.issued_at > now + CLOCK_SKEW_SECONDS:
        raise DocumentInvalidError(f"issued {document.issued_at - now:.1f} s in the future")
    if document.expires_at <= now:
        raise DocumentInvalidError(f"expired {now - document.expires_at:.1f} s ago")
    return document


def _signed_message(kind: str, payload: bytes) -> bytes:
    # The kind keeps a signature under one kind of document from vouching for another.
    return kind.encode() + b"\0" + payload
