"""A forward whose next channel the forwarder chooses: what its sender writes to it.

The route of such an HTLC ends, for LND, at the forwarder: its last hop asks for a channel that does
not exist. What the forwarder needs to go on lies in a custom record of its hop (BOLT 4), which only
it can read. It pays the same hash onward and settles with the preimage that this brings, so nobody
on the way has to be trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, replace

from lnagents.model.payment import HOP_BY_HOP_SLACK, Hop, Route
from lnagents.model.units import Msat, NodeKey, ShortChannelId

DELEGATION_RECORD = 1_048_577
"""Type of the custom record: above 65535 as BOLT 1 asks, odd, so that others may ignore it."""

NOWHERE: ShortChannelId = 1 << 40
"""Output 0 of the first transaction of block 1, which created coins: never a channel."""

BLOCK_PADDING = 3
"""Blocks beyond what an invoice asks for, for those mined meanwhile (LND's
`routing.BlockPadding`)."""

_HEAD = struct.Struct(">B33s32sQH")
_VERSION = 1
_KEY_BYTES = 33


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a forwarder is told."""

    destination: NodeKey
    payment_addr: bytes
    """The invoice's payment secret, 32 bytes."""
    amount_msat: Msat
    """What `destination` has to receive."""
    final_cltv_delta: int
    """Blocks that the invoice asks for."""
    passed: tuple[NodeKey, ...]
    """Forwarders that chose before; nobody is passed twice."""

    def to_bytes(self) -> bytes:
        """The record's content."""
        head = _HEAD.pack(
            _VERSION,
            bytes.fromhex(self.destination),
            self.payment_addr,
            self.amount_msat,
            self.final_cltv_delta,
        )
        return head + b"".join(map(bytes.fromhex, self.passed))

    @classmethod
    def from_bytes(cls, data: bytes) -> Delegation:
        """Read a record's content.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        if len(data) < _HEAD.size or (len(data) - _HEAD.size) % _KEY_BYTES:
            raise ValueError(f"a delegation has no {len(data)} bytes")
        version, destination, payment_addr, amount, delta = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise ValueError(f"a delegation of version {version} is not known")
        rest = data[_HEAD.size :]
        return cls(
            destination=destination.hex(),
            payment_addr=payment_addr,
            amount_msat=amount,
            final_cltv_delta=delta,
            passed=tuple(
                rest[at : at + _KEY_BYTES].hex() for at in range(0, len(rest), _KEY_BYTES)
            ),
        )


def delegate(
    route: Route,
    agents: Collection[NodeKey],
    delegation: Delegation,
    slack: int = HOP_BY_HOP_SLACK,
) -> Route:
    """`route` as far as the first of `agents` on it, which is told to go on as it likes.

    That agent is handed what the rest of the route would have cost, and `slack` blocks more. If
    there is no such agent it is the whole route, which carries the payment secret to its end.
    """
    for place, hop in enumerate(route.hops[:-1]):
        if hop.target in agents and hop.target not in delegation.passed:
            return _cut(route, place, delegation, slack)
    return replace(
        route,
        payment_addr=delegation.payment_addr,
        payment_total_msat=delegation.amount_msat,
    )


def _cut(route: Route, place: int, delegation: Delegation, slack: int) -> Route:
    chooser = route.hops[place]
    hops = [replace(hop, expiry=hop.expiry + slack) for hop in route.hops[:place]]
    records = {DELEGATION_RECORD: delegation.to_bytes()}
    # Its "next node" is itself: what LND learns of this hop says nothing about any other pair.
    nowhere = Hop(NOWHERE, chooser.target, chooser.amount_msat, 0, chooser.expiry)
    return Route(
        hops=(*hops, replace(chooser, custom_records=records), nowhere),
        total_amount_msat=route.total_amount_msat,
        total_time_lock=route.total_time_lock + slack,
    )
