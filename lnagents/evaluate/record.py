"""What one run of a workload leaves behind: outcomes, samples, forwards, agents' books."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from lnagents.evaluate.trades import MarketRecord
from lnagents.model.payment import PaymentOutcome
from lnagents.model.units import Msat, Ppm, ShortChannelId


@dataclass(frozen=True, slots=True)
class EdgeSample:
    """One own channel of one node at one moment."""

    scid: ShortChannelId
    peer: str
    local_balance_msat: Msat
    capacity_msat: Msat
    fee_rate_ppm: Ppm
    base_fee_msat: Msat

    @property
    def local_share(self) -> float:
        """Share of the capacity on the own side, 0 to 1."""
        return self.local_balance_msat / self.capacity_msat


@dataclass(frozen=True, slots=True)
class NetworkSample:
    """All nodes at one moment."""

    at_seconds: float
    """Since the run began."""
    edges: dict[str, tuple[EdgeSample, ...]]
    """By the name of the node that owns the edge."""


@dataclass(frozen=True, slots=True)
class ForwardSample:
    """One settled forward, from the node's own ledger."""

    node: str
    at_seconds: float
    fee_msat: Msat
    amount_msat: Msat


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """What one agent's own books say at the end of a run."""

    name: str
    rounds: int
    policy_updates: int
    fees_earned_msat: Msat
    fees_paid_msat: Msat
    payments_settled: int
    payments_failed: int
    failed_attempts: int
    hints_bought: int
    hint_costs_msat: Msat
    hints_sold: int
    hint_income_msat: Msat
    reward_total: float
    rewards: tuple[float, ...] = ()
    """One per round, in msat."""


@dataclass(slots=True)
class RunRecord:
    """One run, filled while it goes on."""

    name: str
    title: str
    began_at: float = field(default_factory=time.time)
    """Unix seconds."""
    seconds: float = 0.0
    outcomes: list[PaymentOutcome] = field(default_factory=list)
    samples: list[NetworkSample] = field(default_factory=list)
    forwards: list[ForwardSample] = field(default_factory=list)
    agents: list[AgentSummary] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    """What the testbed's audit said after the run."""
    market: MarketRecord = field(default_factory=MarketRecord)
    """What agents traded."""
