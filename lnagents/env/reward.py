"""One round's reward: fees earned, what was paid, failures, and the good of the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lnagents.env.encoding import local_share
from lnagents.model.view import NodeView, RewardTerms


class RewardMode(str, Enum):
    """Whose gain an agent works for."""

    COMPETITIVE = "competitive"
    COOPERATIVE = "cooperative"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """How much each term counts. The defaults count money as money."""

    fees_earned: float = 1.0
    fees_paid: float = 1.0
    hint_costs: float = 1.0
    hint_income: float = 1.0
    failed_attempt_msat: float = 100.0
    """What one failed attempt of an own payment costs, in msat."""
    network_term_msat: float = 1_000.0
    """What the best network term of 1 is worth, in msat a round."""


def network_term(view: NodeView) -> float:
    """How well this node serves the network, 0 (worst) to 1 (best), from what it knows itself.

    The mean of two parts: how even its channels' balances are, weighted by capacity (a one-sided
    channel carries payments in one direction only), and the share of forwards and own payments
    that settled. A part about which the round says nothing is left out; without any it is 0.
    """
    parts = []
    capacity = sum(channel.capacity_msat for channel in view.channels)
    if capacity:
        even = math.fsum(
            channel.capacity_msat * (1.0 - abs(2.0 * local_share(channel) - 1.0))
            for channel in view.channels
        )
        parts.append(even / capacity)
    settled = view.payments_settled + sum(c.flow.forwards for c in view.channels)
    failed = view.payments_failed + sum(c.flow.failed_forwards for c in view.channels)
    if settled + failed:
        parts.append(settled / (settled + failed))
    return min(1.0, sum(parts) / len(parts)) if parts else 0.0


def reward_terms(view: NodeView) -> RewardTerms:
    """The terms of the round that `view` ends."""
    return RewardTerms(
        fees_earned_msat=sum(channel.flow.fees_earned_msat for channel in view.channels),
        fees_paid_msat=view.fees_paid_msat,
        hint_costs_msat=view.hint_costs_msat,
        hint_income_msat=view.hint_income_msat,
        failed_attempts=view.failed_attempts,
        network_term=network_term(view),
    )


def reward(terms: RewardTerms, weights: RewardWeights) -> float:
    """The weighted sum of `terms`, in msat."""
    return (
        weights.fees_earned * terms.fees_earned_msat
        - weights.fees_paid * terms.fees_paid_msat
        - weights.hint_costs * terms.hint_costs_msat
        + weights.hint_income * terms.hint_income_msat
        - weights.failed_attempt_msat * terms.failed_attempts
        + weights.network_term_msat * terms.network_term
    )


def combine(own: float, everyone: Sequence[float], mode: RewardMode, mix: float = 0.5) -> float:
    """What an agent is rewarded with, given all agents' rewards (`own` is among `everyone`).

    Args:
        own: the agent's own reward.
        everyone: the rewards of all agents; needed unless the mode is competitive.
        mode: competitive (own), cooperative (mean over all) or mixed.
        mix: of mixed: the weight of the mean, 0 (competitive) to 1 (cooperative).

    Raises:
        ValueError: nobody's reward is given, or `mix` is not between 0 and 1.
    """
    if mode is RewardMode.COMPETITIVE:
        return own
    if not everyone:
        raise ValueError("a shared reward needs the rewards of all agents")
    mean = math.fsum(everyone) / len(everyone)
    if mode is RewardMode.COOPERATIVE:
        return mean
    if not 0.0 <= mix <= 1.0:
        raise ValueError(f"mix {mix} is not between 0 and 1")
    return (1.0 - mix) * own + mix * mean
