"""Payments: routes, attempts, outcomes, and the events a node sees of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId

HOP_BY_HOP_SLACK = 160
"""Blocks by which the HTLC to an agent that chooses the next channel expires later than the route
needs that was found, so that the agent may choose a longer one: two hops of LND's default
(`bitcoin.timelockdelta`)."""


class FailureCode(IntEnum):
    """Why a hop refused, as LND numbers it in `lnrpc.Failure.FailureCode` (BOLT 4 names)."""

    RESERVED = 0
    INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS = 1
    INCORRECT_PAYMENT_AMOUNT = 2
    FINAL_INCORRECT_CLTV_EXPIRY = 3
    FINAL_INCORRECT_HTLC_AMOUNT = 4
    FINAL_EXPIRY_TOO_SOON = 5
    INVALID_REALM = 6
    EXPIRY_TOO_SOON = 7
    INVALID_ONION_VERSION = 8
    INVALID_ONION_HMAC = 9
    INVALID_ONION_KEY = 10
    AMOUNT_BELOW_MINIMUM = 11
    FEE_INSUFFICIENT = 12
    INCORRECT_CLTV_EXPIRY = 13
    CHANNEL_DISABLED = 14
    TEMPORARY_CHANNEL_FAILURE = 15
    REQUIRED_NODE_FEATURE_MISSING = 16
    REQUIRED_CHANNEL_FEATURE_MISSING = 17
    UNKNOWN_NEXT_PEER = 18
    TEMPORARY_NODE_FAILURE = 19
    PERMANENT_NODE_FAILURE = 20
    PERMANENT_CHANNEL_FAILURE = 21
    EXPIRY_TOO_FAR = 22
    MPP_TIMEOUT = 23
    INVALID_ONION_PAYLOAD = 24
    INVALID_ONION_BLINDING = 25
    INTERNAL_FAILURE = 997
    UNKNOWN_FAILURE = 998
    UNREADABLE_FAILURE = 999


class AttemptStatus(str, Enum):
    """Where an attempt stands."""

    IN_FLIGHT = "in_flight"
    SETTLED = "settled"
    FAILED = "failed"


class PaymentStatus(str, Enum):
    """Where a payment stands."""

    IN_FLIGHT = "in_flight"
    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop: forward `amount_msat` over `scid` to `target`."""

    scid: ShortChannelId
    target: NodeKey
    amount_msat: Msat
    """What `target` is asked to forward, or receives if it is the last."""
    fee_msat: Msat
    """What `target` keeps for forwarding; 0 at the last hop."""
    expiry: int
    """Absolute block height of the HTLC that `target` sends on (its own, at the last hop)."""
    custom_records: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """A whole path from the own node; hop 0 is the own channel."""

    hops: tuple[Hop, ...]
    total_amount_msat: Msat
    """What leaves the sender: amount plus fees."""
    total_time_lock: int
    payment_addr: bytes = b""
    """The invoice's payment secret, carried to the last hop (BOLT 4 `payment_data`)."""
    payment_total_msat: Msat = 0
    """The whole payment's amount in `payment_data`; this route may carry a part of it."""

    @property
    def amount_msat(self) -> Msat:
        """What the last hop receives."""
        return self.hops[-1].amount_msat

    @property
    def fee_msat(self) -> Msat:
        """What the forwarders keep in sum."""
        return self.total_amount_msat - self.amount_msat

    @property
    def scids(self) -> tuple[ShortChannelId, ...]:
        """The channels in order."""
        return tuple(hop.scid for hop in self.hops)


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Where and why an attempt failed."""

    code: FailureCode
    source_index: int
    """Index on the route of the node that refused: 0 is the sender, 1 the first hop's target."""
    policy_scid: ShortChannelId = 0
    """The channel of the policy that came along with the failure, 0 if none did."""
    policy_update: bytes = field(default=b"", repr=False, compare=False)
    """That policy's whole `channel_update` (BOLT 7) without the message's type, as its node signed
    it; empty if none came along. It is evidence of what the node announced."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to bring (a part of) a payment along one route."""

    attempt_id: int
    route: Route
    status: AttemptStatus
    attempted_at: float
    """Unix seconds."""
    resolved_at: float | None = None
    failure: AttemptFailure | None = None
    preimage: bytes = b""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as LND's own ledger knows it."""

    payment_hash: PaymentHash
    status: PaymentStatus
    amount_msat: Msat
    fee_msat: Msat
    attempts: tuple[Attempt, ...]
    preimage: bytes = b""
    failure_reason: str = ""
    created_at: float = 0.0
    payment_index: int = 0

    @property
    def failed_attempts(self) -> int:
        """How many attempts failed, also of a payment that settled in the end."""
        return sum(attempt.status is AttemptStatus.FAILED for attempt in self.attempts)


@dataclass(frozen=True, slots=True)
class PaymentOutcome:
    """What became of one payment of a workload, the same for both worlds and all senders."""

    index: int
    """Position in the workload."""
    source: str
    destination: str
    amount_msat: Msat
    settled: bool
    fee_msat: Msat
    attempts: int
    failed_attempts: int
    started_at: float
    """Seconds since the workload began."""
    seconds: float
    """From the request to the final answer."""
    reason: str = ""
    """Why it failed; empty if it settled."""
    payment_hash: PaymentHash = ""


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a payer needs to know of an invoice (BOLT 11)."""

    payment_request: str
    payment_hash: PaymentHash
    destination: NodeKey
    amount_msat: Msat
    """0: the payer chooses."""
    expires_at: float
    """Unix seconds."""
    final_cltv_delta: int
    payment_addr: bytes
    description: str = ""
    has_route_hints: bool = False


class HtlcEventKind(str, Enum):
    """What happened to an HTLC at the own node."""

    FORWARD = "forward"
    FORWARD_FAIL = "forward_fail"
    LINK_FAIL = "link_fail"
    SETTLE = "settle"
    FINAL = "final"


class HtlcRole(str, Enum):
    """What the own node was to an HTLC."""

    SEND = "send"
    RECEIVE = "receive"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class HtlcEvent:
    """One event of `SubscribeHtlcEvents`. LND does not replay them: keep an own ledger."""

    kind: HtlcEventKind
    role: HtlcRole
    timestamp_ns: int
    incoming_scid: ShortChannelId
    incoming_htlc_id: int
    outgoing_scid: ShortChannelId
    outgoing_htlc_id: int
    incoming_amount_msat: Msat = 0
    """Known in FORWARD and LINK_FAIL events only, as the three below."""
    outgoing_amount_msat: Msat = 0
    incoming_expiry: int = 0
    outgoing_expiry: int = 0
    failure_detail: str = ""
    preimage: bytes = b""

    @property
    def fee_msat(self) -> Msat:
        """What the node earns if this forward settles; 0 for other events."""
        if self.role is HtlcRole.FORWARD and self.incoming_amount_msat:
            return self.incoming_amount_msat - self.outgoing_amount_msat
        return 0


@dataclass(frozen=True, slots=True)
class Forward:
    """One settled forward of `ForwardingHistory`; LND writes it up to 15 s late."""

    timestamp_ns: int
    incoming_scid: ShortChannelId
    outgoing_scid: ShortChannelId
    incoming_amount_msat: Msat
    outgoing_amount_msat: Msat
    fee_msat: Msat
