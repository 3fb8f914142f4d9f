"""How good a seller's information was: hints against what happened, promises against gossip.

Hints are scored by Brier (1950): the mean square of probability minus outcome, 0 at best. What
counts is the skill, by how much that beats what the buyer believed before it asked: 1 for a seller
that is always right, 0 for one that adds nothing, less for one that misleads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lnagents.market.paths import Product
from lnagents.model.units import NodeKey

TRUST_OUTCOMES = 3.0
"""For as many outcomes a new seller is taken to be always right, against ..."""
TRUST_BRIER = 0.25
"""... a buyer that knows nothing: a probability of one half each time."""


@dataclass(frozen=True, slots=True)
class HintOutcome:
    """One hint that was put to the test."""

    seller: NodeKey
    probability: float
    """What the hint said."""
    prior: float
    """What the buyer believed before."""
    passed: bool


@dataclass(slots=True)
class SellerScore:
    """What became of one seller's statements, of one product."""

    seller: NodeKey
    product: Product = Product.LIQUIDITY
    outcomes: int = 0
    squares: float = 0.0
    """Sum over outcomes of (what the hint said - what happened)²."""
    prior_squares: float = 0.0
    """The same for what the buyer believed before."""
    broken_promises: int = 0
    """Of any product: who breaks its word once, has no credit for anything."""
    kept_promises: int = 0
    """That ended, and that nothing contradicted."""

    def add(self, outcome: HintOutcome) -> None:
        """Count one hint."""
        self.outcomes += 1
        self.squares += (outcome.probability - outcome.passed) ** 2
        self.prior_squares += (outcome.prior - outcome.passed) ** 2

    @property
    def brier(self) -> float | None:
        """Mean square of the hints; None: none was tested."""
        return self.squares / self.outcomes if self.outcomes else None

    @property
    def prior_brier(self) -> float | None:
        """The same of what the buyer believed before."""
        return self.prior_squares / self.outcomes if self.outcomes else None

    @property
    def skill(self) -> float:
        """Share of the buyer's own error that the hints remove, at most 1.

        A seller that broke a promise has none.
        """
        if self.broken_promises:
            return 0.0
        own = self.prior_squares + TRUST_OUTCOMES * TRUST_BRIER
        return 1.0 - self.squares / own

    @property
    def helps(self) -> bool:
        """Whether something may still be bought from this seller."""
        return self.skill > 0.0


def score_sellers(
    outcomes: Iterable[HintOutcome], broken: Iterable[NodeKey] = ()
) -> dict[NodeKey, SellerScore]:
    """Scores of all sellers that occur; `broken` has a seller once for each broken promise."""
    scores: dict[NodeKey, SellerScore] = {}
    for outcome in outcomes:
        scores.setdefault(outcome.seller, SellerScore(outcome.seller)).add(outcome)
    for seller in broken:
        scores.setdefault(seller, SellerScore(seller)).broken_promises += 1
    return scores
