"""What to ask a seller before a payment, and what the answer is worth. Pure: neither I/O nor time.

The rule: take the candidate that would be chosen without learning. If a hint about one of its hops
says no, the payment changes to the best candidate that avoids this hop. Without the hint it would
come to that, too, but only after an attempt that fails for certain; and this hop fails with
probability 1 - p. So a hint is worth (1 - p) × attempt cost, if it is right, however good the
second best is; but nothing where every candidate takes this hop, as there is nothing to change to.
Of the hops one of whose ends is a known seller, the one whose hint is worth most decides. How far
it can be relied on is learned from what became of the seller's hints before
(`lnagents.market.scores`): its skill is 1 if they were always right, 0 if they told no more than
was believed anyway. A hint is bought if worth × skill is more than its price; so a seller whose
information does not help is dropped.

A no that is believed is never found out, as nobody goes that way; and a no that is put to the
test, because the payment goes as it would have gone without, saves nothing. So noes are believed
until what may have been lost by that (the prices, and what the ways around cost more) has come to
what a test costs, which is an attempt (`Noes`). Each test triples what is needed for the next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from lnagents.agent.candidates import Candidate
from lnagents.agent.liquidity import Liquidity
from lnagents.env import AttemptCost, expected_cost_msat
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
    detour_msat: Msat
    """By how much the best way around is expected to be dearer than this one, if it passes."""

    def worth_msat(self, cost: AttemptCost, skill: float) -> Msat:
        """What the answer is worth in msat, from a seller of this `skill`."""
        return round((1.0 - self.chance) * cost.of(self.amount_msat) * skill)


def decisive_question(
    candidates: Sequence[Candidate],
    sellers: Collection[NodeKey],
    liquidity: Liquidity,
    cost: AttemptCost,
    now: float,
) -> Question | None:
    """The question whose answer decides which route is taken; None: there is none worth asking.

    Args:
        candidates: the one that would be taken first.
        sellers: those that would be bought from.
        liquidity: what is believed; edges with a hint that holds are not asked about.
        cost: of an attempt that fails.
        now: Unix seconds.
    """
    best: Question | None = None
    first, others = candidates[0], candidates[1:]
    for (edge, amount), estimate in list(zip(first.edges, first.estimates, strict=True))[1:]:
        seller = next((end for end in (edge.source, edge.target) if end in sellers), None)
        chance = estimate.probability
        if seller is None or not CERTAIN < chance < 1.0 - CERTAIN:
            continue
        around = next((other for other in others if _avoids(other, edge)), None)
        if around is None or liquidity.has_hint(edge, now):
            continue
        if best is None or chance < best.chance:
            passes = replace(first.candidate, probability=first.candidate.probability / chance)
            detour = expected_cost_msat(around.candidate, cost) - expected_cost_msat(passes, cost)
            best = Question(edge, amount, chance, seller, max(0, round(detour)))
    return best


def _avoids(candidate: Candidate, edge: Edge) -> bool:
    taken = ((one.scid, one.source) for one, _ in candidate.edges)
    return (edge.scid, edge.source) not in taken


@dataclass(slots=True)
class Noes:
    """What one seller said no to."""

    at_stake_msat: Msat = 0
    """What may have been lost since the last test by believing them."""
    tests: int = 0

    def puts_to_test(self, stake_msat: Msat, test_msat: Msat) -> bool:
        """Whether one more is tried instead of believed.

        Args:
            stake_msat: what is lost with it if it is wrong: its price, and the detour.
            test_msat: what it costs to try if it is right, an attempt cost.
        """
        self.at_stake_msat += stake_msat
        if self.at_stake_msat < test_msat * 3**self.tests:
            return False
        self.at_stake_msat = 0
        self.tests += 1
        return True


def is_no(probability: float) -> bool:
    """Whether a hint says that an amount will rather not pass."""
    return probability < 0.5
