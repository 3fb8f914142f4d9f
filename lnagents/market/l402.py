"""L402 as Aperture speaks it: the challenge of a 402 answer, and the token that pays for it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lnagents.model.errors import ChallengeError, TokenError
from lnagents.model.units import PaymentHash

MAX_HEADER_LENGTH = 8_192
"""Characters of one header value; Aperture's challenges have about 900."""

_SCHEMES = ("L402", "LSAT")
"""The current name of the scheme and its first one, in the order in which we prefer them."""
_PARAMETER = re.compile(r"([\w!#$%&'*+.^`|~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))")
_SCHEME = re.compile(r"[\w!#$%&'*+.^`|~-]+(?=\s|$)")
_SEPARATORS = re.compile(r"[\s,]*")
_INVOICE = re.compile(r"ln[a-z0-9]+")
_AUTHORIZATION = re.compile(r"(?:L402|LSAT) ([A-Za-z0-9+/=]+):([0-9a-f]{64})")

# Identifier in Aperture's macaroons: version (2 bytes), payment hash (32), token id (32).
_IDENTIFIER_LENGTH = 66
# Of the binary macaroon format: version byte, and the types of its packets.
_MACAROON_V2 = 2
_LOCATION = 1
_IDENTIFIER = 2


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a 402 answer asks for."""

    macaroon: str
    """Base64."""
    payment_request: str
    """A BOLT 11 invoice."""


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    """Which token, and the payment that makes it valid."""

    payment_hash: PaymentHash
    token_id: str
    """Lower-case hex of 32 bytes."""


def parse_challenge(values: Iterable[str]) -> Challenge:
    """The L402 challenge among the values of all `WWW-Authenticate` headers.

    Aperture sends one value for `LSAT` and one for `L402`, with the macaroon as `macaroon`; newer
    servers call it `token` and add `version`. Other schemes are passed over.

    Raises:
        ChallengeError: there is none, or it lacks something.
    """
    found: dict[str, dict[str, str]] = {}
    for value in values:
        for scheme, parameters in _challenges(value):
            found.setdefault(scheme.upper(), parameters)
    for scheme in _SCHEMES:
        if scheme in found:
            return _challenge(found[scheme])
    raise ChallengeError("the 402 answer carries no L402 challenge")


def _challenge(parameters: dict[str, str]) -> Challenge:
    macaroon = parameters.get("macaroon") or parameters.get("token", "")
    invoice = parameters.get("invoice", "").lower()
    if not macaroon:
        raise ChallengeError("the L402 challenge has no macaroon")
    if not _INVOICE.fullmatch(invoice):
        raise ChallengeError("the L402 challenge has no invoice")
    return Challenge(macaroon, invoice)


def _challenges(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Schemes and their parameters (RFC 9110, section 11); the names in lower case."""
    if len(value) > MAX_HEADER_LENGTH:
        raise ChallengeError(f"a challenge of {len(value)} characters is too long")
    scheme = ""
    parameters: dict[str, str] = {}
    position = 0
    while position < len(value):
        if match := _PARAMETER.match(value, position):
            name, quoted, plain = match.groups()
            text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), text)
        elif match := _SCHEME.match(value, position):
            if scheme:
                yield scheme, parameters
            scheme, parameters = match.group(), {}
        else:
            match = _SEPARATORS.match(value, position)
            if match is None or not match.group():
                raise ChallengeError("the WWW-Authenticate header cannot be read")
        position = match.end()
    if scheme:
        yield scheme, parameters


def authorization(macaroon: str, preimage: bytes) -> str:
    """The `Authorization` header that presents a paid token."""
    return f"L402 {macaroon}:{preimage.hex()}"


def parse_authorization(values: Iterable[str]) -> TokenIdentity:
    """The paid token among the values of all `Authorization` headers; its preimage is checked.

    Aperture hands the token that it accepted on in two values, one for each name of the scheme.

    Raises:
        TokenError: there is none, it is malformed, or its preimage is not that of its payment.
    """
    tokens = {_presented(value) for value in values}
    if not tokens:
        raise TokenError("the request carries no token")
    if len(tokens) > 1:
        raise TokenError("the request carries several tokens")
    return tokens.pop()


def _presented(value: str) -> TokenIdentity:
    match = _AUTHORIZATION.fullmatch(value) if len(value) <= MAX_HEADER_LENGTH else None
    if match is None:
        raise TokenError("the Authorization header does not hold an L402 token")
    identity = parse_macaroon(match.group(1))
    if hashlib.sha256(bytes.fromhex(match.group(2))).hexdigest() != identity.payment_hash:
        raise TokenError("the preimage is not that of the token's payment")
    return identity


def parse_macaroon(text: str) -> TokenIdentity:
    """What the identifier of one of Aperture's macaroons, in base64, says.

    The signature is not checked: only the Aperture that minted it has the secret.

    Raises:
        TokenError: it is not such a macaroon.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise TokenError("the macaroon is not base64") from exc
    identifier = _identifier(data)
    if len(identifier) != _IDENTIFIER_LENGTH or identifier[:2] != b"\0\0":
        raise TokenError("the macaroon's identifier is not that of an L402 token")
    return TokenIdentity(identifier[2:34].hex(), identifier[34:].hex())


def _identifier(data: bytes) -> bytes:
    if data[:1] != bytes([_MACAROON_V2]):
        raise TokenError("not a binary macaroon of version 2")
    kind, content, position = _packet(data, 1)
    if kind == _LOCATION:
        kind, content, position = _packet(data, position)
    if kind != _IDENTIFIER:
        raise TokenError("the macaroon has no identifier")
    return content


def _packet(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Type, content and end of the packet at `position`."""
    kind, position = _varint(data, position)
    length, position = _varint(data, position)
    end = position + length
    if end > len(data):
        raise TokenError("the macaroon is cut off")
    return kind, data[position:end], end


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of at most two bytes, as no length here needs more, and where it ends."""
    number = 0
    for index, byte in enumerate(data[position : position + 2]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position + index + 1
    raise TokenError("the macaroon is malformed")
