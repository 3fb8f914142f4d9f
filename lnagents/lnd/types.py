"""What the client takes and gives beyond the types of `lnagents.model`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from lnagents.model.graph import Edge
from lnagents.model.payment import FailureCode
from lnagents.model.units import Msat, NodeKey, PaymentHash, Ppm, ShortChannelId


@dataclass(frozen=True, slots=True)
class LndEndpoint:
    """How to reach one node's gRPC server."""

    address: str
    """`host:port`."""
    tls_certificate: Path
    """LND's `tls.cert`; only a server that proves to have this one is talked to."""
    macaroon: Path | None
    """Binary macaroon file. None sends none: then only `lnrpc.State` answers."""


@dataclass(frozen=True, slots=True)
class ChannelOpening:
    """A channel to open; None leaves the choice to the node."""

    peer: NodeKey
    capacity_sat: int
    push_sat: int = 0
    """Given to the peer at the start."""
    private: bool = False
    base_fee_msat: Msat | None = None
    fee_rate_ppm: Ppm | None = None
    min_htlc_msat: Msat | None = None


@dataclass(frozen=True, slots=True)
class ClosedChannel:
    """A channel of the own node that is no more."""

    scid: ShortChannelId
    channel_point: str
    peer: NodeKey
    capacity_msat: Msat
    settled_balance_msat: Msat
    """What came back to the own wallet when it closed."""
    kind: str
    """`cooperative_close`, `local_force_close`, … as in `lnrpc.ChannelCloseSummary.ClosureType`."""
    closing_txid: str


class InvoiceStatus(str, Enum):
    """Where an own invoice stands."""

    OPEN = "open"
    ACCEPTED = "accepted"
    """HTLCs arrived and are held."""
    SETTLED = "settled"
    CANCELED = "canceled"
    """By the node itself, too, once it expired."""


@dataclass(frozen=True, slots=True)
class InvoiceState:
    """An own invoice and what became of it."""

    payment_hash: PaymentHash
    payment_request: str
    status: InvoiceStatus
    amount_msat: Msat
    """Asked for; 0 if the payer chooses."""
    paid_msat: Msat
    """Received so far."""
    created_at: float
    """Unix seconds, as the next two."""
    expires_at: float
    settled_at: float | None
    description: str
    preimage: bytes
    add_index: int
    """Position among all invoices of the node, from 1."""
    settle_index: int
    """Position among all settled ones, from 1; 0 before."""


@dataclass(frozen=True, slots=True)
class PolicyAnnounced:
    """Gossip told the policy of one direction of a channel, new or not.

    Its `last_update` is 0, LND does not tell it here.
    """

    edge: Edge


@dataclass(frozen=True, slots=True)
class AnnouncedNode:
    """A node as it announces itself."""

    key: NodeKey
    addresses: tuple[str, ...]
    """`HOST:PORT`, IPv6 in brackets; those of Tor are left out."""


@dataclass(frozen=True, slots=True)
class NodeAnnounced:
    """Gossip told about a node."""

    key: NodeKey
    alias: str


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """A public channel was closed on chain."""

    scid: ShortChannelId
    closed_height: int


GraphUpdate: TypeAlias = PolicyAnnounced | NodeAnnounced | ChannelClosed
"""One thing that changed in the node's graph."""


@dataclass(frozen=True, slots=True)
class StreamRestarted:
    """A subscription begins here: what happened before is not in the stream, so look again.

    It is the first thing that every stream gives (`restarts` 0), and comes again after each
    interruption.
    """

    stream: str
    """Which subscription, such as `SubscribeHtlcEvents`."""
    restarts: int
    """How often it was interrupted so far."""
    cause: str = ""
    """Why the one before ended."""


@dataclass(frozen=True, slots=True)
class PairHistory:
    """What the node's mission control remembers of one pair of nodes."""

    source: NodeKey
    target: NodeKey
    failed_at: float
    """Unix seconds, 0 for never."""
    failed_msat: Msat
    """The smallest amount that is known to fail."""
    succeeded_at: float
    succeeded_msat: Msat
    """The largest amount that is known to pass."""


@dataclass(frozen=True, slots=True)
class PairEstimate:
    """What the node thinks of sending an amount from one node to another."""

    probability: float
    """That it passes, 0 to 1."""
    history: PairHistory
    """What it remembers of the pair."""


@dataclass(frozen=True, slots=True)
class HeldHtlc:
    """An HTLC that the node is asked to forward and holds until an interceptor answers.

    Own payments and receipts are not held.
    """

    incoming_scid: ShortChannelId
    incoming_htlc_id: int
    """With `incoming_scid` its name at this node."""
    incoming_amount_msat: Msat
    incoming_expiry: int
    """Block height, as `outgoing_expiry`."""
    payment_hash: PaymentHash
    outgoing_scid: ShortChannelId
    """Where the sender wants it to go on; it need not exist."""
    outgoing_amount_msat: Msat
    outgoing_expiry: int
    custom_records: dict[int, bytes]
    """What the sender wrote to this node, by type (65536 and above; BOLT 4)."""
    auto_fail_height: int
    """Block at which the node fails it by itself."""


@dataclass(frozen=True, slots=True)
class ResumeHtlc:
    """Let the node forward it, or refuse it, as if nobody had asked."""


@dataclass(frozen=True, slots=True)
class SettleHtlc:
    """Take the money: it goes no further."""

    preimage: bytes


INTERCEPTOR_CODES = frozenset(
    {
        FailureCode.TEMPORARY_CHANNEL_FAILURE,
        FailureCode.INVALID_ONION_VERSION,
        FailureCode.INVALID_ONION_HMAC,
        FailureCode.INVALID_ONION_KEY,
    }
)
"""Those with which LND lets an interceptor refuse (`routerrpc`'s `resolveFromClient`)."""


@dataclass(frozen=True, slots=True)
class FailHtlc:
    """Give it back to the sender.

    Raises:
        ValueError: LND refuses with none but `INTERCEPTOR_CODES`.
    """

    code: FailureCode = FailureCode.TEMPORARY_CHANNEL_FAILURE

    def __post_init__(self) -> None:
        if self.code not in INTERCEPTOR_CODES:
            raise ValueError(f"an interceptor cannot refuse with {self.code.name}")


HtlcAnswer: TypeAlias = ResumeHtlc | SettleHtlc | FailHtlc
"""What becomes of a held HTLC."""
