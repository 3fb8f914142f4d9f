"""What to ask a seller before a payment, and what the answer is worth. Pure: neither I/O nor time.

The rule: take the candidate that would be chosen without learning. Its most uncertain hop, of those
one of whose ends is a known seller, decides. If the hint says no, another candidate is taken and a
failed attempt is saved, which happens with probability 1 - p. So a hint is worth
(1 - p) × attempt cost, if it is right. How far it can be relied on is learned from what became of
the seller's hints before (`lnagents.market.scores`): its skill is 1 if they were always right, 0 if
they told no more than was believed anyway. A hint is bought if worth × skill is more than its
price; so a seller whose information does not help is dropped.

A no that is believed is never found out, as nobody goes that way. So the first, third, ninth, …
no of a seller is put to the test: the payment goes as it would have gone without.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lnagents.agent.candidates import Candidate
from lnagents.agent.liquidity import Liquidity
from lnagents.env import AttemptCost
from lnagents.model.graph import Edge
from lnagents.model.units import Msat, NodeKey

CERTAIN = 0.05
"""Hops whose chance is within this of 0 or 1 are not asked about."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether an amount passes an edge, put to one of its ends."""

    edge: Edge
    amount_msat: Msat
    chance: float
    """What is believed before."""
    seller: NodeKey

    def worth_msat(self, cost: AttemptCost, skill: float) -> Msat:
        """What the answer is worth in msat, from a seller of this `skill`."""
        return round((1.0 - self.chance) * cost.of(self.amount_msat) * skill)


def decisive_question(
    candidates: Sequence[Candidate],
    sellers: Collection[NodeKey],
    liquidity: Liquidity,
    now: float,
) -> Question | None:
    """The question whose answer decides which route is taken; None: there is none worth asking.

    Args:
        candidates: the one that would be taken first.
        sellers: those that would be bought from.
        liquidity: what is believed; edges with a hint that holds are not asked about.
        now: Unix seconds.
    """
    if len(candidates) < 2:
        return None  # with nothing to choose from no answer would change anything
    best: Question | None = None
    first = candidates[0]
    for (edge, amount), estimate in list(zip(first.edges, first.estimates, strict=True))[1:]:
        seller = next((end for end in (edge.source, edge.target) if end in sellers), None)
        chance = estimate.probability
        if seller is None or not CERTAIN < chance < 1.0 - CERTAIN:
            continue
        if liquidity.has_hint(edge, now):
            continue
        if best is None or abs(chance - 0.5) < abs(best.chance - 0.5):
            best = Question(edge, amount, chance, seller)
    return best


def puts_to_test(noes: int) -> bool:
    """Whether the last of `noes` from one seller, one or more, is tried instead of believed."""
    while noes % 3 == 0:
        noes //= 3
    return noes == 1


def is_no(probability: float) -> bool:
    """Whether a hint says that an amount will rather not pass."""
    return probability < 0.5
