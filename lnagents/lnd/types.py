"""What the client takes and gives beyond the types of `lnagents.model`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from lnagents.model.graph import Edge
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
