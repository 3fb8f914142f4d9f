"""One round's reward: fees earned, what was paid, failures, and the good of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lnagents.env.encoding import NodeFacts, facts_of_channel, facts_of_node
from lnagents.model.units import Msat
from lnagents.model.view import NodeView, RewardTerms

Number = TypeVar("Number", float, NDArray[np.float64])


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
    forwarded_ppm: float = 0.0
    """What carrying payments is worth beside the fees for it, in parts per million of what was
    forwarded. A forwarder never hears of payments that found it too dear, so this is what it can
    know of how many succeed because of it."""


def network_share(even: Msat, capacity: Msat, settled: int, failed: int) -> float:
    """How well a node serves the network, 0 (worst) to 1 (best).

    The mean of two parts: how even its channels' balances are, weighted by capacity (a one-sided
    channel carries payments in one direction only), and the share of forwards and own payments
    that settled. A part about which nothing is known is left out; without any it is 0.

    Args:
        even: sum of capacity * (1 - |2 local share - 1|) over the node's channels.
        capacity: sum of capacities.
        settled: forwards and own payments that settled in the round.
        failed: and that failed.
    """
    total, parts = 0.0, 0
    if capacity > 0:
        total += even / capacity
        parts += 1
    if settled + failed > 0:
        total += settled / (settled + failed)
        parts += 1
    return min(1.0, total / parts) if parts > 0 else 0.0


def terms_of(facts: NodeFacts) -> RewardTerms:
    """The terms of the round that `facts` tell of."""
    return RewardTerms(
        fees_earned_msat=facts.fees_earned,
        fees_paid_msat=facts.fees_paid,
        hint_costs_msat=facts.hint_costs,
        hint_income_msat=facts.hint_income,
        failed_attempts=facts.failed_attempts,
        network_term=network_share(
            facts.even_capacity,
            facts.capacity,
            facts.payments_settled + facts.forwards,
            facts.payments_failed + facts.failed_forwards,
        ),
        forwarded_msat=facts.forwarded_out,
    )


def reward_terms(view: NodeView) -> RewardTerms:
    """The terms of the round that `view` ends."""
    return terms_of(facts_of_node(view, [facts_of_channel(channel) for channel in view.channels]))


def network_term(view: NodeView) -> float:
    """`network_share` of the round that `view` ends, from what the node knows itself."""
    return reward_terms(view).network_term


def reward(terms: RewardTerms, weights: RewardWeights) -> float:
    """The weighted sum of `terms`, in msat."""
    return weighted(
        weights,
        terms.fees_earned_msat,
        terms.fees_paid_msat,
        terms.hint_costs_msat,
        terms.hint_income_msat,
        terms.failed_attempts,
        terms.network_term,
        terms.forwarded_msat,
    )


def weighted(
    weights: RewardWeights,
    fees_earned: Number,
    fees_paid: Number,
    hint_costs: Number,
    hint_income: Number,
    failed_attempts: Number,
    network: Number,
    forwarded: Number,
) -> Number:
    """The weighted sum of terms in msat: numbers, or arrays of one shape."""
    return (
        weights.fees_earned * fees_earned
        - weights.fees_paid * fees_paid
        - weights.hint_costs * hint_costs
        + weights.hint_income * hint_income
        - weights.failed_attempt_msat * failed_attempts
        + weights.network_term_msat * network
        + 1e-6 * weights.forwarded_ppm * forwarded
    )


@dataclass(frozen=True, slots=True, eq=False)
class TermArrays:
    """`RewardTerms` of many agents at once, arrays of one shape with agents last."""

    fees_earned_msat: NDArray[np.float64]
    fees_paid_msat: NDArray[np.float64]
    hint_costs_msat: NDArray[np.float64]
    hint_income_msat: NDArray[np.float64]
    failed_attempts: NDArray[np.float64]
    network_term: NDArray[np.float64]
    forwarded_msat: NDArray[np.float64]


RewardFunction: TypeAlias = Callable[[TermArrays, RewardWeights], NDArray[np.float64]]
"""From the terms of a round to each agent's own reward in msat, an array of the same shape."""


def weighted_terms(terms: TermArrays, weights: RewardWeights) -> NDArray[np.float64]:
    """The weighted sum, as a `RewardFunction`."""
    return weighted(weights, *(getattr(terms, field.name) for field in fields(terms)))


WEIGHTED = "weighted"

REWARDS: dict[str, RewardFunction] = {WEIGHTED: weighted_terms}
"""By the name that configurations use; `register_reward` adds to them."""


def register_reward(name: str, function: RewardFunction) -> None:
    """From now on configurations may name it.

    Raises:
        ValueError: the name is taken.
    """
    if name in REWARDS:
        raise ValueError(f"there is a reward {name!r} already")
    REWARDS[name] = function


def known_reward(name: str) -> str:
    """The same name.

    Raises:
        ValueError: there is no such reward.
    """
    if name not in REWARDS:
        raise ValueError(f"{name!r} is none of {', '.join(REWARDS)}")
    return name


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
    weight = mean_weight(mode, mix)
    return (1.0 - weight) * own + weight * (math.fsum(everyone) / len(everyone))


def mean_weight(mode: RewardMode, mix: float) -> float:
    """How much of an agent's reward is the mean over all agents, 0 to 1.

    Raises:
        ValueError: `mix` is not between 0 and 1.
    """
    if not 0.0 <= mix <= 1.0:
        raise ValueError(f"mix {mix} is not between 0 and 1")
    if mode is RewardMode.MIXED:
        return mix
    return 1.0 if mode is RewardMode.COOPERATIVE else 0.0
