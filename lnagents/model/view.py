"""What an agent sees, decides and is rewarded for: the same in both worlds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lnagents.model.graph import ChannelPolicy, NetworkGraph
from lnagents.model.units import Msat, NodeKey, Ppm, ShortChannelId


@dataclass(frozen=True, slots=True)
class ChannelFlow:
    """What passed one own channel in one round, from HTLC events."""

    forwarded_in_msat: Msat = 0
    """Settled forwards that came in over this channel."""
    forwarded_out_msat: Msat = 0
    """Settled forwards that left over this channel."""
    fees_earned_msat: Msat = 0
    """Fees of the settled forwards that left over this channel."""
    forwards: int = 0
    failed_forwards: int = 0
    """Forwards that this node refused or that failed further on, leaving over this channel."""
    sent_msat: Msat = 0
    """Own payments that left over this channel."""
    received_msat: Msat = 0
    """Own receipts that came in over this channel."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One own channel as its node knows it."""

    scid: ShortChannelId
    peer: NodeKey
    capacity_msat: Msat
    local_balance_msat: Msat
    remote_balance_msat: Msat
    active: bool
    policy: ChannelPolicy
    """The own policy: what this node charges to send out over the channel."""
    peer_policy: ChannelPolicy | None
    competing_ppm: Ppm
    """Median fee rate of the *other* edges into the same peer, as gossip shows; -1 if none."""
    flow: ChannelFlow = field(default_factory=ChannelFlow)
    """Since the round before."""
    found_policy: ChannelPolicy | None = None
    """The own policy when the agent took the channel over: actions are levels around it. It has to
    outlive restarts. None: there is none on record, `policy` stands in."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """All that one node can really know at the end of a round."""

    node: NodeKey
    round: int
    time: float
    """Unix seconds (live) or virtual seconds (twin)."""
    channels: tuple[ChannelView, ...]
    graph: NetworkGraph
    fees_paid_msat: Msat = 0
    """For own payments that settled in this round."""
    payments_settled: int = 0
    payments_failed: int = 0
    failed_attempts: int = 0
    hint_costs_msat: Msat = 0
    hint_income_msat: Msat = 0


@dataclass(frozen=True, slots=True)
class ChannelDecision:
    """What changes on one own channel; None keeps what is set."""

    fee_rate_ppm: Ppm | None = None
    base_fee_msat: Msat | None = None
    inbound_fee_rate_ppm: Ppm | None = None
    max_htlc_msat: Msat | None = None
    preference: float | None = None
    """For payments that are routed hop by hop: the higher, the sooner they leave over this channel;
    0 at first."""
    reserved_share: float | None = None
    """Share of the own liquidity and of the HTLC slots that only priority payments may use, 0 (at
    first) to 1."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeDecision:
    """What one agent does in one round."""

    channels: Mapping[ShortChannelId, ChannelDecision] = field(default_factory=dict)
    prices_sat: Mapping[str, int] = field(default_factory=dict)
    """What a unit of each product that the node sells costs from now on, by the product's name
    (`lnagents.market.Product`). What is missing is priced as configured, or learned from demand."""


@dataclass(frozen=True, slots=True)
class RewardTerms:
    """One round's reward, term by term, all in msat except where named."""

    fees_earned_msat: Msat = 0
    fees_paid_msat: Msat = 0
    hint_costs_msat: Msat = 0
    hint_income_msat: Msat = 0
    failed_attempts: int = 0
    network_term: float = 0.0
    """Indirect term for efficiency and stability, 0 (worst) to 1 (best)."""
    forwarded_msat: Msat = 0
    """What it carried for others, as it left; only what settled."""
