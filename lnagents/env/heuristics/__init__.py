"""Agents that follow rules, as people's nodes do: what learned agents are measured against.

Each has `act(view) -> NodeDecision`, is made for one node and one episode, and names the source of
its rules. None of them sees more than a `NodeView`; all that is random in them comes from a seed.
Days of the originals are rounds here.
"""

from __future__ import annotations

from collections.abc import Callable

from lnagents.env.heuristics.actor import ChannelPricer, Heuristic, Price
from lnagents.env.heuristics.balance import (
    MatchPeer,
    PassiveRebalance,
    Proportional,
    SteepBalance,
)
from lnagents.env.heuristics.clboss import PriceCards
from lnagents.env.heuristics.fixed import FixedFees, LndDefault, LowFee, RandomFees, Wall
from lnagents.env.heuristics.flow import LndgRules
from lnagents.env.heuristics.search import AdditiveIncrease, ThompsonSampling
from lnagents.model.errors import ConfigError

HEURISTICS: dict[str, Callable[[int], Heuristic]] = {
    "lnd-default": lambda seed: LndDefault(),
    "proportional": lambda seed: Proportional(),
    "steep-balance": lambda seed: SteepBalance(),
    "match-peer": lambda seed: MatchPeer(),
    "lndg": lambda seed: LndgRules(),
    "clboss": lambda seed: PriceCards(seed),
    "thompson": lambda seed: ThompsonSampling(seed),
    "aimd": lambda seed: AdditiveIncrease(),
    "passive-rebalance": lambda seed: PassiveRebalance(),
    "low-fee": lambda seed: LowFee(),
    "wall": lambda seed: Wall(),
    "random": lambda seed: RandomFees(seed),
}
"""All of them by name; each is made from a seed, which only those that draw lots use.
`register_heuristic` adds to them."""


def register_heuristic(name: str, make: Callable[[int], Heuristic]) -> None:
    """From now on experiments may name it; `make` gets a seed and makes one for one node.

    Raises:
        ValueError: the name is taken.
    """
    if name in HEURISTICS:
        raise ValueError(f"there is a heuristic {name!r} already")
    HEURISTICS[name] = make


def make_heuristic(name: str, seed: int = 0) -> Heuristic:
    """A new heuristic agent for one node.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in HEURISTICS:
        raise ConfigError("heuristic", f"{name!r} is none of {', '.join(HEURISTICS)}")
    return HEURISTICS[name](seed)


__all__ = [
    "HEURISTICS",
    "AdditiveIncrease",
    "ChannelPricer",
    "FixedFees",
    "Heuristic",
    "LndDefault",
    "LndgRules",
    "LowFee",
    "MatchPeer",
    "PassiveRebalance",
    "Price",
    "PriceCards",
    "Proportional",
    "RandomFees",
    "SteepBalance",
    "ThompsonSampling",
    "Wall",
    "make_heuristic",
    "register_heuristic",
]
