"""Signatures of nodes, checked without a node: LND's SignMessage, and gossip's (BOLT 7)."""

from __future__ import annotations

import hashlib

from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact

from lnagents.model.units import NodeKey

_PREFIX = b"Lightning Signed Message:"
"""What LND puts before every message that it signs for a user (rpcserver.go)."""
_ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"
"""Of zbase32: each character stands for 5 bits."""
_CHARACTERS = 104
"""65 bytes: a recoverable signature."""
_COMPRESSED_HEADER = 31
"""First byte of one for a compressed key: this plus which of four keys is meant (btcec)."""


def signed_by(message: bytes, signature: str) -> NodeKey | None:
    """Whose key made `signature` over `message` by LND's SignMessage; None if it is no signature.

    For any well-formed signature there is some key, so compare it with the one you expect.
    """
    if len(signature) != _CHARACTERS or not set(signature) <= set(_ALPHABET):
        return None
    number = 0
    for character in signature:
        number = number << 5 | _ALPHABET.index(character)
    data = number.to_bytes(65)
    recovery = data[0] - _COMPRESSED_HEADER
    if not 0 <= recovery <= 3:
        return None
    digest = double_sha256(_PREFIX + message)
    try:
        key = PublicKey.from_signature_and_message(data[1:] + bytes([recovery]), digest, None)
    except Exception:  # coincurve raises bare ones where r and s are no signature
        return None
    return key.format().hex()


def is_gossip_signature(signature: bytes, data: bytes, key: NodeKey) -> bool:
    """Whether `key` signed `data`, what follows the signature in a gossip message (BOLT 7)."""
    try:
        encoded = cdata_to_der(deserialize_compact(signature))
        return PublicKey(bytes.fromhex(key)).verify(encoded, double_sha256(data), None)
    except Exception:  # coincurve raises bare ones where bytes are no signature or no key
        return False


def double_sha256(data: bytes) -> bytes:
    """What Bitcoin and Lightning sign."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
