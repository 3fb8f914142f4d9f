"""What is measured of runs: pure functions of arrays, such as the columns of a table of results.

Amounts are in msat, fee rates in ppm. The last axis is what is measured over, the ones before it
are batches.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnagents.evaluate.statistics import Floats


def gini(incomes: ArrayLike) -> Floats:
    """How unequal incomes [..., n] are: 0 if all have the same, 1 - 1/n if one has it all.

    Where nobody has anything, all have the same.

    Raises:
        ValueError: there is nobody, or an income is negative: the coefficient then has no bounds.
    """
    values = np.sort(np.asarray(incomes, dtype=np.float64), axis=-1)
    count = values.shape[-1]
    if not count or (values < 0.0).any():
        raise ValueError("incomes: there must be one, and none may be negative")
    ranks = 2.0 * np.arange(1, count + 1) - count - 1.0
    total = values.sum(axis=-1)
    return ratio((ranks * values).sum(axis=-1), count * total, nothing=0.0)


def share(parts: ArrayLike, mine: NDArray[np.bool_]) -> Floats:
    """Which share of `parts` [..., n] belongs to those in `mine` [..., n]; NaN if all is 0.

    Of forwards and of fees alike: who forwards most need not earn most.
    """
    values = np.asarray(parts, dtype=np.float64)
    return ratio(np.where(mine, values, 0.0).sum(axis=-1), values.sum(axis=-1))


def fee_churn(rates_ppm: ArrayLike) -> Floats:
    """How restless fee rates [..., moments, edges] are: mean |Δ ln(1 + ppm)| per step and edge.

    0 is never changed; 0.69 is doubled or halved at every step. [...]; 0 if there are no steps.
    """
    levels = np.log1p(np.asarray(rates_ppm, dtype=np.float64))
    steps = np.abs(np.diff(levels, axis=-2))
    if 0 in steps.shape[-2:]:
        return np.zeros(steps.shape[:-2])
    churn: Floats = steps.mean(axis=(-2, -1))
    return churn


def fraction_of_bound(settled_msat: ArrayLike, bound_msat: ArrayLike) -> Floats:
    """Settled volume as a part of what perfect knowledge could have settled; NaN if that is 0."""
    return ratio(settled_msat, bound_msat)


def kept(disturbed: ArrayLike, calm: ArrayLike, begin: int) -> Floats:
    """What is left of an amount [..., rounds] from round `begin` on, where something went wrong.

    As a part of what the same rounds brought without it; NaN if that is nothing.
    """
    parts = (np.asarray(one, np.float64)[..., begin:].sum(axis=-1) for one in (disturbed, calm))
    return ratio(*parts)


def recovery_rounds(
    disturbed: ArrayLike, calm: ArrayLike, begin: int, *, enough: float = 0.9, window: int = 3
) -> Floats:
    """After how many rounds an amount [..., rounds] is again what it is without the disturbance.

    That is: at least `enough` of it in the sum over `window` rounds, from that round on. The number
    of rounds from `begin` to the end if it is not.
    """
    sums = [
        np.lib.stride_tricks.sliding_window_view(
            np.asarray(one, np.float64)[..., begin:], window, axis=-1
        ).sum(axis=-1)
        for one in (disturbed, calm)
    ]
    fine = sums[0] >= enough * sums[1]
    # Of each round, whether it and all after it are fine.
    lasting = np.logical_and.accumulate(fine[..., ::-1], axis=-1)[..., ::-1]
    whole = np.asarray(disturbed).shape[-1] - begin
    rounds: Floats = np.where(
        lasting.any(axis=-1), lasting.argmax(axis=-1).astype(np.float64), float(whole)
    )
    return rounds


def price_over_best_response(incomes: ArrayLike, factors: ArrayLike) -> Floats:
    """How far prices are above the best response to the others, [...].

    1: nobody could earn more by charging another multiple of its own fees; above 1: it would pay to
    undercut the others, which is what a cartel has to keep its members from; below 1: to raise.

    Args:
        incomes: [..., factors], what one seat earned with each multiple, all others as they are.
        factors: [factors], the multiples; the best is the largest income's.

    Raises:
        ValueError: there is no factor, or one is not positive.
    """
    multiples = np.asarray(factors, np.float64)
    if not len(multiples) or (multiples <= 0.0).any():
        raise ValueError("factors: there must be one, and all must be positive")
    best: Floats = 1.0 / multiples[np.argmax(np.asarray(incomes, np.float64), axis=-1)]
    return best


def price_ppm(fees_msat: ArrayLike, settled_msat: ArrayLike) -> Floats:
    """What senders paid per volume that arrived; NaN if nothing did."""
    return 1e6 * ratio(fees_msat, settled_msat)


def ratio(above: ArrayLike, below: ArrayLike, *, nothing: float = math.nan) -> Floats:
    """Element by element; `nothing` where there is nothing to divide by."""
    upper, lower = np.broadcast_arrays(
        np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    )
    result = np.full(upper.shape, nothing)
    np.divide(upper, lower, out=result, where=lower > 0)
    return result
