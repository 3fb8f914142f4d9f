"""A forward whose next channels the forwarder chooses: what its sender writes to it.

The route of such an HTLC ends, for LND, at the forwarder: its last hop asks for a channel that does
not exist. What the forwarder needs to go on lies in a custom record of its hop (BOLT 4), which only
it can read. It pays the same hash onward and settles with the preimage that this brings, so nobody
on the way has to be trusted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lnagents.model.units import Msat, NodeKey, ShortChannelId

DELEGATION_RECORD = 1_048_577
"""Type of the custom record: above 65535 as BOLT 1 asks, odd, so that others may ignore it."""

NOWHERE: ShortChannelId = 1 << 40
"""Output 0 of the first transaction of block 1, which created coins: never a channel."""

MAX_HOPS = 20
"""As many fit into an onion (BOLT 4), so no hop limit is higher."""

MAX_PASSED = MAX_HOPS
"""Forwarders that may have chosen before; each takes 33 bytes of the onion."""

SEAL_BYTES = 16

_HEAD = struct.Struct(">B33s32sQQHBB")
_QUOTE = struct.Struct(f">I{SEAL_BYTES}s")
_VERSION = 2
_KEY_BYTES = 33
_MAX_MSAT = 21_000_000 * 100_000_000 * 1_000


@dataclass(frozen=True, slots=True)
class QuoteSeal:
    """By which a forwarder knows a fee that it has quoted, without remembering quotes."""

    expires_at: int
    """Unix seconds."""
    seal: bytes
    """`SEAL_BYTES` that only the forwarder can make; they cover what was quoted."""


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a forwarder is told."""

    destination: NodeKey
    payment_addr: bytes
    """The invoice's payment secret, 32 bytes."""
    amount_msat: Msat
    """What `destination` has to receive, in one part."""
    final_cltv_delta: int
    """Blocks that the invoice asks for."""
    passed: tuple[NodeKey, ...] = ()
    """Forwarders that chose before; nobody is passed twice."""
    fee_budget_msat: Msat = 0
    """What the sender has sent along beyond the amount: for the rest of the way, and for whoever
    finds it."""
    hop_limit: int = MAX_HOPS
    """Over so many channels at most the payment may still go, also if it is left to others."""
    quote: QuoteSeal | None = None
    """If the forwarder has quoted the budget as its fee."""

    def to_bytes(self) -> bytes:
        """The record's content."""
        head = _HEAD.pack(
            _VERSION,
            bytes.fromhex(self.destination),
            self.payment_addr,
            self.amount_msat,
            self.fee_budget_msat,
            self.final_cltv_delta,
            self.hop_limit,
            self.quote is not None,
        )
        quote = b"" if self.quote is None else _QUOTE.pack(self.quote.expires_at, self.quote.seal)
        return head + quote + b"".join(map(bytes.fromhex, self.passed))

    @classmethod
    def from_bytes(cls, data: bytes) -> Delegation:
        """Read a record's content.

        Raises:
            ValueError: it is damaged, out of range, or of another version.
        """
        if not data or data[0] != _VERSION:
            raise ValueError(f"a delegation of version {data[0] if data else None} is not known")
        if len(data) < _HEAD.size:
            raise ValueError(f"a delegation has no {len(data)} bytes")
        _, destination, addr, amount, budget, delta, limit, quoted = _HEAD.unpack_from(data)
        rest = data[_HEAD.size :]
        quote = None
        if quoted:
            if quoted != 1 or len(rest) < _QUOTE.size:
                raise ValueError("a delegation with a damaged quote")
            quote = QuoteSeal(*_QUOTE.unpack_from(rest))
            rest = rest[_QUOTE.size :]
        if len(rest) % _KEY_BYTES or len(rest) > MAX_PASSED * _KEY_BYTES:
            raise ValueError(f"a delegation has no {len(data)} bytes")
        if not 0 < amount <= _MAX_MSAT or budget > _MAX_MSAT or not 0 < limit <= MAX_HOPS:
            raise ValueError("a delegation with an amount or a hop limit out of range")
        keys = [
            destination,
            *(rest[at : at + _KEY_BYTES] for at in range(0, len(rest), _KEY_BYTES)),
        ]
        if any(key[0] not in (2, 3) for key in keys):
            raise ValueError("a delegation with something else than compressed keys")
        return cls(
            destination=destination.hex(),
            payment_addr=addr,
            amount_msat=amount,
            final_cltv_delta=delta,
            passed=tuple(key.hex() for key in keys[1:]),
            fee_budget_msat=budget,
            hop_limit=limit,
            quote=quote,
        )
