"""The candidate routes of one payment as an array, one row per candidate.

The last column, `ROUTE_PRIOR`, is what a sensible sender would go by without having learned
anything: the expected cost, as LND's own path finding weighs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lnagents.env.features import Feature, FloatArray, log_scale, money_scale, rate_scale, rows
from lnagents.model.payment import Route
from lnagents.model.units import Msat, Ppm

MIN_PROBABILITY = 0.001
"""Estimates below this count as this, so that costs stay finite."""

PRIOR_SHARPNESS = 5.0
"""Log odds of preferring a route that is expected to be cheaper by one attempt cost."""

MIN_PRIOR = -50.0
"""Candidates cannot be worse than this in log odds; e^-50 is never chosen anyway."""


@dataclass(frozen=True, slots=True)
class AttemptCost:
    """What one more attempt costs the sender in time and trouble, put as money.

    The defaults are LND's (`routerrpc.attemptcost`, `routerrpc.attemptcostppm`).
    """

    base_msat: Msat = 100_000
    rate_ppm: Ppm = 1_000

    def of(self, amount_msat: Msat) -> Msat:
        """The cost in msat for a payment of `amount_msat`."""
        return self.base_msat + amount_msat * self.rate_ppm // 1_000_000


@dataclass(frozen=True, slots=True)
class RouteCandidate:
    """One way to make a payment, with what the sender believes of it."""

    route: Route
    probability: float
    """Estimated chance that an attempt settles, 0 to 1."""
    information_age_seconds: float | None
    """Age of the newest observation behind that estimate; None: nothing was observed."""
    hinted: bool
    """Whether a bought hint went into the estimate."""
    local_share_after: float
    """Share of the first channel's balance left on the own side afterwards, 0 to 1."""


def expected_cost_msat(candidate: RouteCandidate, cost: AttemptCost) -> float:
    """Fee plus attempt cost / probability, in msat (the weight of LND's path finding)."""
    chance = min(1.0, max(MIN_PROBABILITY, candidate.probability))
    return candidate.route.fee_msat + cost.of(candidate.route.amount_msat) / chance


def _forwarders_time_lock(candidate: RouteCandidate) -> int:
    return candidate.route.total_time_lock - candidate.route.hops[-1].expiry


ROUTE_FEATURES: tuple[Feature[RouteCandidate], ...] = (
    Feature(
        "fee",
        "total fee, log scale, 0 for none, 1 for 1,000 sat",
        lambda c: money_scale(c.route.fee_msat),
    ),
    Feature(
        "fee_rate",
        "total fee against the amount, log scale, 0 for 0 ppm, 1 for 10,000 ppm",
        lambda c: rate_scale(1_000_000 * c.route.fee_msat // max(1, c.route.amount_msat)),
    ),
    Feature(
        "log_probability",
        "log10 of the estimated chance, divided by 3: -1 (0.001 or less)..0 (certain)",
        lambda c: math.log10(min(1.0, max(MIN_PROBABILITY, c.probability))) / 3.0,
    ),
    Feature("hops", "channels on the route, divided by 5", lambda c: len(c.route.hops) / 5.0),
    Feature(
        "time_lock",
        "blocks that the forwarders take together, divided by 1,008 (a week)",
        lambda c: _forwarders_time_lock(c) / 1_008.0,
    ),
    Feature(
        "observed",
        "1 if something was ever observed about the route, else 0",
        lambda c: float(c.information_age_seconds is not None),
    ),
    Feature(
        "information_age",
        "age of the newest observation, log scale, 0 for now, 1 for a day or for none",
        lambda c: (
            1.0
            if c.information_age_seconds is None
            else min(1.0, log_scale(c.information_age_seconds, 86_400))
        ),
    ),
    Feature(
        "hinted", "1 if a bought hint went into the estimate, else 0", lambda c: float(c.hinted)
    ),
    Feature(
        "local_share_after",
        "share of the first channel's balance left on the own side afterwards, 0..1",
        lambda c: c.local_share_after,
    ),
)

ROUTE_PRIOR = "prior"
"""Log odds from the expected cost: best candidate 0, others below."""

ROUTE_FEATURE_NAMES = (*(feature.name for feature in ROUTE_FEATURES), ROUTE_PRIOR)


def encode_routes(
    candidates: Sequence[RouteCandidate], cost: AttemptCost | None = None
) -> FloatArray:
    """[candidates, `ROUTE_FEATURE_NAMES`]; `cost` defaults to LND's attempt cost.

    Raises:
        ValueError: there are no candidates.
    """
    if not candidates:
        raise ValueError("there are no candidate routes")
    cost = cost or AttemptCost()
    columns = (*ROUTE_FEATURES, _prior(candidates, cost))
    return rows(columns, candidates)


def _prior(candidates: Sequence[RouteCandidate], cost: AttemptCost) -> Feature[RouteCandidate]:
    cheapest = min(expected_cost_msat(candidate, cost) for candidate in candidates)

    def log_odds(candidate: RouteCandidate) -> float:
        attempt = max(1, cost.of(candidate.route.amount_msat))
        extra = (expected_cost_msat(candidate, cost) - cheapest) / attempt
        return max(MIN_PRIOR, -PRIOR_SHARPNESS * extra)

    return Feature(ROUTE_PRIOR, "log odds from the expected cost, best 0, others below", log_odds)
