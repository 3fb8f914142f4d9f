"""Measures on cases that can be worked out by hand, and what must hold for all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.evaluate.measures import fee_churn, fraction_of_bound, gini, price_ppm, ratio, share

incomes = st.lists(st.integers(0, 10**9), min_size=1, max_size=12)


def test_gini_of_known_incomes() -> None:
    assert gini([5, 5, 5]) == 0.0
    assert gini([0, 0]) == 0.0
    assert math.isclose(gini([0, 0, 0, 8]), 0.75)
    assert math.isclose(gini([1, 3]), 0.25)
    assert np.allclose(gini([[1, 3], [2, 2]]), [0.25, 0.0])


@given(incomes)
def test_gini_is_half_the_mean_difference_over_the_mean(values: list[int]) -> None:
    found = float(gini(values))
    assert -1e-12 <= found <= 1.0 - 1.0 / len(values) + 1e-12
    if sum(values):
        differences = np.abs(np.subtract.outer(values, values)).mean()
        assert math.isclose(found, differences / (2.0 * np.mean(values)), abs_tol=1e-9)


@given(incomes, st.integers(1, 1_000))
def test_gini_knows_neither_units_nor_names(values: list[int], unit: int) -> None:
    mixed = values[::-1]
    assert math.isclose(gini(values), gini([unit * value for value in mixed]), abs_tol=1e-12)


@pytest.mark.parametrize("values", [[], [1, -1]])
def test_gini_refuses_what_it_is_not_defined_for(values: list[int]) -> None:
    with pytest.raises(ValueError, match="incomes"):
        gini(values)


def test_shares_of_forwards_and_of_fees_may_differ() -> None:
    mine = np.array([True, True, False])
    assert math.isclose(share([72, 0, 28], mine), 0.72)
    assert math.isclose(share([30, 10, 60], mine), 0.40)
    assert math.isnan(share([0, 0, 0], mine))


def test_churn_is_the_mean_step_of_the_logarithm() -> None:
    assert fee_churn([[100, 7], [100, 7], [100, 7]]) == 0.0
    assert math.isclose(fee_churn([[99, 7], [199, 7]]), math.log(2.0) / 2.0)
    # Up and down again counts twice, from and to a fee of nothing, too.
    assert math.isclose(fee_churn([[0], [1], [0]]), math.log(2.0))
    assert fee_churn([[100, 7]]) == 0.0


def test_fractions_of_nothing_are_not_known() -> None:
    assert fraction_of_bound(900, 1_000) == 0.9
    assert math.isnan(fraction_of_bound(0, 0))
    assert math.isnan(price_ppm(0, 0))
    assert price_ppm(1_000, 1_000_000) == 1_000.0
    assert np.allclose(ratio([1, 2], [2, 0], nothing=7.0), [0.5, 7.0])
