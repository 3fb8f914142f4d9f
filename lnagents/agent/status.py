"""What an agent says of itself and of its payments, as plain types."""

from __future__ import annotations

from dataclasses import dataclass, field

from lnagents.agent.actor import LearnerStats
from lnagents.agent.delegation_ledger import DelegationTotals
from lnagents.agent.forwarder import ForwarderStatus
from lnagents.agent.ledger import PaymentState
from lnagents.model.units import Msat, NodeKey, PaymentHash, Ppm, ShortChannelId
from lnagents.model.view import RewardTerms


@dataclass(frozen=True, slots=True)
class PaymentReport:
    """One payment of an agent."""

    payment_hash: PaymentHash
    destination: NodeKey
    amount_msat: Msat
    fee_msat: Msat
    state: PaymentState
    preimage: bytes
    reason: str
    """Why it failed, or why it is not known yet; empty if it settled."""
    attempts: int
    failed_attempts: int
    purpose: str
    """`payment`, `hint`, or `forward` for one that was left to this agent."""
    requested_at: float
    """Unix seconds, as the one below."""
    resolved_at: float | None

    @property
    def settled(self) -> bool:
        """Whether the receiver was paid."""
        return self.state is PaymentState.SETTLED


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One own channel."""

    scid: ShortChannelId
    peer: NodeKey
    peer_alias: str
    capacity_msat: Msat
    local_balance_msat: Msat
    remote_balance_msat: Msat
    active: bool
    fee_rate_ppm: Ppm
    base_fee_msat: Msat
    inbound_fee_rate_ppm: Ppm


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """An agent now; sums are over its whole life."""

    name: str
    node: NodeKey
    network: str
    dry_run: bool
    paused: bool
    round: int
    channels: tuple[ChannelStatus, ...]
    fees_earned_msat: Msat
    fees_paid_msat: Msat
    forwards: int
    payments_settled: int
    payments_failed: int
    payments_in_flight: int
    attempts: int
    failed_attempts: int
    policy_updates: int
    hints_bought: int
    hint_costs_msat: Msat
    hints_sold: int
    hint_income_msat: Msat
    reward_terms: RewardTerms | None
    """Of the last round that ended, as the one below; None before the first."""
    last_reward: float | None
    """Their weighted sum in msat."""
    learner: LearnerStats
    htlc_events: int
    """Handled by this process."""
    forwarding: ForwarderStatus = field(default_factory=ForwarderStatus)
    """What this process decided on what its node was asked to forward."""
    delegation: DelegationTotals = field(default_factory=DelegationTotals)
    """What came of payments whose way was left to this agent."""
    pass_key: NodeKey = ""
    """To which passes that it is to present can be bound; empty if it buys nothing."""


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """What a saved checkpoint is."""

    round: int
    bytes: int
    """0: the actor has nothing to save."""


@dataclass(frozen=True, slots=True)
class PurchaseReport:
    """A document that was asked for."""

    nonce: str
    """Identifies the purchase in the agent's store."""
    price_msat: Msat
    document: bytes
    """Signed, as it was delivered; verified."""
    paid_now: bool
    """False: it was bought before, and still holds or has come only now."""
