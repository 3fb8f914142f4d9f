"""Our statistics are those of rliable, the package of the paper that they are from."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnagents.evaluate.statistics import (
    Z_95,
    Floats,
    estimate,
    interquartile_mean,
    mean,
    paired_difference,
    percentile_interval,
    performance_profile,
    pooled,
    probability_of_improvement,
    profile_interval,
    stratified_resamples,
    wilson,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what rliable imports
    from rliable import library, metrics

SAMPLES = 4_000
WIDTH_TOLERANCE = 0.06
"""Two bootstraps of different lots differ in their ends by this part of the interval's width."""


def scores(runs: int = 10, tasks: int = 4, seed: int = 0, shift: float = 0.0) -> Floats:
    rng = np.random.default_rng(seed)
    drawn: Floats = rng.normal(shift, 1.0, (runs, tasks)) + np.arange(tasks)
    return drawn


matrices = st.tuples(st.integers(1, 9), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-5, 5).map(float))
)
"""With many draws among the scores."""


@given(matrices)
def test_the_interquartile_mean_is_theirs(one: Floats) -> None:
    assert math.isclose(interquartile_mean(one), metrics.aggregate_iqm(one), abs_tol=1e-12)
    assert math.isclose(mean(one), metrics.aggregate_mean(one), abs_tol=1e-12)


@given(st.integers(1, 4).flatmap(
    lambda tasks: st.tuples(*(
        st.integers(1, 7).flatmap(
            lambda runs: arrays(np.float64, (runs, tasks), elements=st.integers(-3, 3).map(float))
        )
        for _ in range(2)
    ))
))  # fmt: skip
def test_the_probability_of_improvement_is_theirs(pair: tuple[Floats, Floats]) -> None:
    one, other = pair
    ours = float(probability_of_improvement(one, other))
    assert math.isclose(ours, metrics.probability_of_improvement(one, other), abs_tol=1e-12)
    assert math.isclose(ours + float(probability_of_improvement(other, one)), 1.0)


@given(matrices)
def test_the_profile_is_theirs(one: Floats) -> None:
    thresholds = np.linspace(-6.0, 6.0, 25)
    theirs = [library.run_score_deviation(one, threshold) for threshold in thresholds]
    assert np.allclose(performance_profile(one, thresholds), theirs, atol=1e-12)


def theirs_of(
    statistic: Callable[..., Any], *data: Floats, samples: int = SAMPLES
) -> tuple[Any, Any]:
    """Point and interval estimate by rliable, which draws from numpy's global generator."""
    np.random.seed(7)
    key = "given"
    given_scores = {key: list(data)} if len(data) > 1 else {key: data[0]}
    points, intervals = library.get_interval_estimates(given_scores, statistic, reps=samples)
    return points[key], intervals[key]


@pytest.mark.parametrize("shape", [(5, 3), (12, 6)])
def test_the_interval_of_the_interquartile_mean_is_theirs(shape: tuple[int, int]) -> None:
    data = scores(*shape)
    point, interval = theirs_of(lambda x: np.array([metrics.aggregate_iqm(x)]), data)
    ours = estimate(interquartile_mean, data, seed=1, samples=SAMPLES)
    assert math.isclose(ours.value, point[0])
    width = interval[1, 0] - interval[0, 0]
    assert abs(ours.low - interval[0, 0]) < WIDTH_TOLERANCE * width
    assert abs(ours.high - interval[1, 0]) < WIDTH_TOLERANCE * width


def test_the_interval_of_the_probability_of_improvement_is_theirs() -> None:
    one, other = scores(10, 3, shift=0.5), scores(8, 3, seed=1)
    point, interval = theirs_of(
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]), one, other, samples=500
    )
    ours = estimate(probability_of_improvement, one, other, seed=1, samples=SAMPLES)
    assert math.isclose(ours.value, point[0])
    low, high = interval[:, 0]
    assert abs(ours.low - low) < 2 * WIDTH_TOLERANCE * (high - low)
    assert abs(ours.high - high) < 2 * WIDTH_TOLERANCE * (high - low)


def test_the_interval_of_a_profile_is_theirs() -> None:
    data, thresholds = scores(10, 5), np.linspace(-1.0, 5.0, 7)
    np.random.seed(7)
    _, theirs = library.create_performance_profile({"given": data}, thresholds, reps=SAMPLES)
    low, high = profile_interval(
        lambda x: performance_profile(x, thresholds), data, seed=1, samples=SAMPLES
    )
    # Shares are multiples of one run's.
    assert np.allclose([low, high], theirs["given"], atol=1.01 / data.size)


def test_runs_are_resampled_within_their_task() -> None:
    data = np.arange(12.0).reshape(4, 3)
    drawn = stratified_resamples(data, 50, np.random.default_rng(0))
    assert drawn.shape == (50, 4, 3)
    for task in range(3):
        assert set(np.unique(drawn[:, :, task])) == set(data[:, task])
    # Each task draws lots of its own.
    assert not np.array_equal(drawn[:, :, 0], drawn[:, :, 1] - 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    data = scores()
    assert estimate(interquartile_mean, data, seed=3) == estimate(interquartile_mean, data, seed=3)
    assert estimate(interquartile_mean, data, seed=3) != estimate(interquartile_mean, data, seed=4)


def test_pairs_cancel_what_they_share() -> None:
    data = scores(10, 3)
    difference = paired_difference(mean, data + 0.25, data, seed=1)
    assert all(math.isclose(part, 0.25) for part in difference)
    apart = estimate(lambda x, y: mean(x) - mean(y), data + 0.25, data, seed=1)
    assert apart.low < 0.0 < apart.high


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(200):
        drawn = np.random.default_rng(seed).normal(0.0, 1.0, (20, 5))
        found = estimate(mean, drawn, seed=seed, samples=500)
        covered += found.low <= 0.0 <= found.high
    # Percentile intervals of few runs are a little too narrow.
    assert 0.88 <= covered / 200 <= 0.99


def test_trainings_are_drawn_with_all_their_runs() -> None:
    shift = np.array([0.0, 100.0, 200.0])
    data = shift[:, None, None] + np.arange(8.0).reshape(4, 2)
    drawn = stratified_resamples(data, 200, np.random.default_rng(0)).reshape(200, 3, 4, 2)
    trainings, runs = drawn // 100.0, drawn % 100.0
    assert (trainings == trainings[:, :, :1, :1]).all()
    assert set(np.unique(trainings)) == {0.0, 1.0, 2.0}
    # All trainings made the same runs, so the same ones are drawn of each.
    assert (runs == runs[:, :1]).all()
    assert (runs[..., 0] % 2.0 == 0.0).all()
    assert (runs[..., 1] % 2.0 == 1.0).all()


def test_one_training_is_as_none() -> None:
    data, other = scores(10, 3), scores(10, 3, seed=1)
    for statistic in (interquartile_mean, mean):
        assert estimate(statistic, data[None], seed=1) == estimate(statistic, data, seed=1)
        assert paired_difference(statistic, data[None], other, seed=1) == paired_difference(
            statistic, data, other[None], seed=1
        )


def test_luck_in_training_widens_the_interval_and_is_covered() -> None:
    """With runs alone resampled, an interval of five trainings would cover the truth too seldom."""
    wide = narrow = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        luck = rng.normal(0.0, 1.0, (5, 1, 1))
        drawn = luck + rng.normal(0.0, 1.0, (1, 20, 3)) + rng.normal(0.0, 0.5, (5, 20, 3))
        found = estimate(mean, drawn, seed=seed, samples=400)
        wide += found.low <= 0.0 <= found.high
        found = estimate(mean, pooled(drawn), seed=seed, samples=400)
        narrow += found.low <= 0.0 <= found.high
    assert wide / 100 >= 0.78  # too narrow still: the percentiles of five
    assert narrow / 100 < 0.55


def test_trainings_are_no_pairs() -> None:
    """Runs cancel out where both made them, but trainings of two contestants are apart."""
    rng = np.random.default_rng(3)
    runs = 10.0 * rng.normal(0.0, 1.0, (1, 12, 3))
    luck = np.array([-1.0, 0.0, 1.0])[:, None, None]
    found = paired_difference(mean, runs + luck + 5.0, runs + luck, seed=1)
    assert math.isclose(found.value, 5.0)
    assert 3.0 <= found.low < 4.5 < 5.5 < found.high <= 7.0
    rule = paired_difference(mean, runs + luck + 5.0, runs, seed=1)
    assert 4.0 <= rule.low < 4.5
    assert found.high - found.low > rule.high - rule.low


def test_what_is_not_known_is_left_out() -> None:
    resampled = np.array([[1.0, math.nan], [math.nan, math.nan], [3.0, math.nan]])
    low, high = percentile_interval(resampled)
    assert math.isclose(low[0], 1.05)
    assert math.isclose(high[0], 2.95)
    assert math.isnan(low[1])
    assert math.isnan(high[1])


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 0)])
def test_no_scores_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="runs, tasks"):
        interquartile_mean(np.zeros(shape))


def test_different_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="2 tasks cannot be compared with 3"):
        probability_of_improvement(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="trainings, runs, tasks"):
        estimate(mean, np.zeros((2, 2, 4, 2)), seed=0)
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference(mean, np.zeros((4, 2)), np.zeros((3, 2)), seed=0)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals(successes: int, count: int, low: float, high: float) -> None:
    assert wilson(successes, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 500), st.integers(1, 500))
def test_intervals_hold_the_share_and_are_symmetric(successes: int, more: int) -> None:
    count = successes + more
    low, high = wilson(successes, count)
    assert 0.0 <= low <= successes / count <= high <= 1.0
    mirrored = wilson(count - successes, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    # The defining equation: the ends are where the share is Z_95 standard errors away.
    for end in (low, high):
        if 0.0 < end < 1.0:
            error = math.sqrt(end * (1 - end) / count)
            assert abs(successes / count - end) == pytest.approx(Z_95 * error, rel=1e-6, abs=1e-12)


def test_no_trials_say_nothing_of_a_share() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
