"""What all documents have in common, and how they become bytes: one codec, strict when reading.

A product adds a dataclass, a protobuf message, and two functions between the fields of the two that
are its own. Its message has version, issuer, times and sequence under the same names as all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from lnagents.market.paths import Request
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.units import NodeKey

VERSION = 1
PPM = 1_000_000
CLOCK_SKEW_SECONDS = 5.0
"""How far the issuer's clock may be ahead of the reader's."""
KEY_BYTES = 33
HASH_BYTES = 32
MAX_TIME_MS = 1 << 43
"""In the year 2248; anything later is no time that a node meant."""
MAX_MSAT = 21_000_000 * 100_000_000 * 1_000
"""All bitcoin there will be."""


class MessageSigner(Protocol):
    """What signing needs of a node."""

    async def sign_message(self, message: bytes) -> str:
        """Sign with the node's key (LND's SignMessage)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A statement of one node that holds for some time."""

    issuer: NodeKey
    issued_at: float
    """Unix seconds, kept to the millisecond."""
    expires_at: float
    """Unix seconds; from then on the document says nothing."""
    sequence: int
    """Grows with every document of this issuer."""

    def answers(self, request: Request) -> bool:
        """Whether this is what `request` asks for."""
        raise NotImplementedError

    def holds_at(self, now: float) -> bool:
        """Whether it says something about the moment `now`."""
        return self.issued_at <= now + CLOCK_SKEW_SECONDS and now < self.expires_at


class _Header(Protocol):
    """What every document's message has."""

    version: int
    issuer: bytes
    issued_at_ms: int
    expires_at_ms: int
    sequence: int


DocumentT = TypeVar("DocumentT", bound=Document)
MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class Codec(Generic[DocumentT, MessageT]):
    """Between one product's documents and their bytes."""

    name: str
    """What people call such a document."""
    document: type[DocumentT]
    message: type[MessageT]
    write: Callable[[DocumentT], MessageT]
    """The message with the product's own fields."""
    read: Callable[[MessageT], dict[str, Any]]
    """The product's own fields, for the dataclass; raises DocumentInvalidError."""

    @property
    def kind(self) -> str:
        """Name of the message, which the envelope carries."""
        return str(self.message.DESCRIPTOR.full_name)

    def encode(self, document: DocumentT) -> bytes:
        """The bytes that are signed; the same for equal documents."""
        message = self.write(document)
        header = cast("_Header", message)
        header.version = VERSION
        header.issuer = bytes.fromhex(document.issuer)
        header.issued_at_ms = round(document.issued_at * 1_000)
        header.expires_at_ms = round(document.expires_at * 1_000)
        header.sequence = document.sequence
        return message.SerializeToString(deterministic=True)

    def decode(self, payload: bytes) -> DocumentT:
        """Read a payload; says nothing about who signed it.

        Raises:
            DocumentInvalidError: it is no such document, its fields are out of range, or these
                are not the bytes that this codec writes: unknown fields or another spelling.
        """
        try:
            message = self.message.FromString(payload)
        except DecodeError as exc:
            raise DocumentInvalidError(f"the payload is not a {self.name}") from exc
        header = cast("_Header", message)
        if header.version != VERSION:
            raise DocumentInvalidError(f"a {self.name} of version {header.version}, not {VERSION}")
        issued, expires = header.issued_at_ms, header.expires_at_ms
        if not 0 <= issued < MAX_TIME_MS or not 0 <= expires < MAX_TIME_MS:
            raise DocumentInvalidError(f"the {self.name} has a time out of range")
        if expires <= issued:
            raise DocumentInvalidError(f"the {self.name} expires before it is issued")
        document = self.document(
            issuer=read_key(header.issuer, "issuer"),
            issued_at=issued / 1_000,
            expires_at=expires / 1_000,
            sequence=header.sequence,
            **self.read(message),
        )
        if self.encode(document) != payload:
            raise DocumentInvalidError(f"the {self.name} is not in its canonical form")
        return document


def read_key(data: bytes, what: str) -> NodeKey:
    """A compressed public key in hex.

    Raises:
        DocumentInvalidError: it does not look like one.
    """
    if len(data) != KEY_BYTES or data[0] not in (2, 3):
        raise DocumentInvalidError(f"{what}: not a compressed key of {KEY_BYTES} bytes")
    return data.hex()


def read_amount(msat: int, what: str) -> int:
    """An amount of at least 1 msat.

    Raises:
        DocumentInvalidError: it is none.
    """
    if not 0 < msat <= MAX_MSAT:
        raise DocumentInvalidError(f"{what}: {msat} is not an amount in msat")
    return msat


def read_probability(ppm: int) -> float:
    """A probability from parts per million.

    Raises:
        DocumentInvalidError: it is above 1.
    """
    if ppm > PPM:
        raise DocumentInvalidError(f"a probability of {ppm} ppm")
    return ppm / PPM
