"""How the money of channels is split when nobody says: drawn from a stated distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnagents.model.generate import Split
from lnagents.model.topology import OPENER_COSTS_SAT, RESERVE_FRACTION
from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.twin.network import FloatArray, Int8Array, Int64Array


@dataclass(frozen=True, slots=True)
class BalanceSettings:
    """Which distribution balances are drawn from.

    Raises:
        ValueError: a parameter is not positive.
    """

    split: Split = Split.UNIFORM
    bimodal_scale_msat: Msat = 300_000_000
    """Of `bimodal`, msat over which the density falls by e (LND's `bimodal.scale`)."""
    beta: float = 0.5
    """Of `beta`, both of its parameters: below 1 favours the ends, above 1 the middle."""

    def __post_init__(self) -> None:
        if self.bimodal_scale_msat <= 0:
            raise ValueError(f"bimodal_scale_msat: {self.bimodal_scale_msat} is not positive")
        if self.beta <= 0:
            raise ValueError(f"beta: {self.beta} is not positive")


def draw_balances(
    capacity: Int64Array, opener: Int8Array, settings: BalanceSettings, rng: np.random.Generator
) -> Int64Array:
    """Balances [channels, 2] in msat of channels with `capacity` msat, as LND would let them be.

    Whole satoshi. The opener keeps at least its reserve and what the commitment transaction costs
    it (or all of a channel that has less than that), since LND opens no other channel.
    """
    share = _draw_share(capacity, settings, rng)
    sat = capacity // MSAT_PER_SAT
    part = np.rint(sat * share).astype(np.int64) * MSAT_PER_SAT
    least_sat = np.rint(sat * RESERVE_FRACTION).astype(np.int64) + OPENER_COSTS_SAT
    least = np.minimum(least_sat * MSAT_PER_SAT, capacity)
    opened_by_first = opener == 0
    low = np.where(opened_by_first, least, 0)
    high = np.where(opened_by_first, capacity, capacity - least)
    part = np.clip(part, low, high)
    return np.stack([part, capacity - part], axis=1)


def _draw_share(
    capacity: Int64Array, settings: BalanceSettings, rng: np.random.Generator
) -> FloatArray:
    count = len(capacity)
    if settings.split is Split.EVEN:
        return np.full(count, 0.5)
    if settings.split is Split.UNIFORM:
        return rng.random(count)
    if settings.split is Split.BETA:
        return rng.beta(settings.beta, settings.beta, count)
    # An exponential cut off at the capacity, by inversion, from either end.
    scale = settings.bimodal_scale_msat / np.maximum(capacity, 1)
    share = -scale * np.log1p(rng.random(count) * np.expm1(-1.0 / scale))
    return np.where(rng.random(count) < 0.5, share, 1.0 - share)
