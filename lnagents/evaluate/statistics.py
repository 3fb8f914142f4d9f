"""What can be said of scores from few runs: aggregates with intervals, comparisons, profiles.

These are the statistics of Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (NeurIPS 2021). Scores are float64 arrays [..., runs, tasks]: a task is what
runs can be compared within (a family of networks), a run repeats it with another seed. Leading axes
are batches; intervals come from resampling the runs of each task apart (stratified bootstrap).

What was trained has luck of its own, which all its runs share. Where several trainings made the
same runs, scores are [trainings, runs, tasks], and intervals come from resampling trainings, too,
each with all of its runs (two ways at once: Owen, "The pigeonhole bootstrap", Annals of Applied
Statistics 2007). From few trainings such an interval is too narrow, as any bootstrap is: what
trainings add to it is too small by a fifth if there are three, by a tenth if there are five.

All draws come from a seed: the same arguments give the same intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 2_000
"""Resamples behind each interval; the paper's authors (`rliable`) take as many for profiles."""

CONFIDENCE = 0.95

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""

TRIMMED = 0.25
"""What the interquartile mean leaves out at either end."""

Floats: TypeAlias = NDArray[np.float64]
Draws: TypeAlias = NDArray[np.int64]


class Estimate(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's score; (0, 1) if there is nothing to judge by."""
    if count == 0:
        return 0.0, 1.0
    share, squared = successes / count, Z_95 * Z_95
    centre = share + squared / (2 * count)
    spread = Z_95 * math.sqrt(share * (1 - share) / count + squared / (4 * count * count))
    scale = 1 + squared / count
    # The ends are exact where the share is; the formula misses them by rounding.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == count else (centre + spread) / scale
    return low, high


def interquartile_mean(scores: Floats) -> Floats:
    """The mean of the middle half of all scores, [...]; runs and tasks count alike.

    Raises:
        ValueError: there are no scores.
    """
    flat = _flat(scores)
    count = flat.shape[-1]
    cut = int(TRIMMED * count)
    middle = np.partition(flat, (cut, count - cut - 1), axis=-1)[..., cut : count - cut]
    mean: Floats = middle.mean(axis=-1)
    return mean


def mean(scores: Floats) -> Floats:
    """The mean over tasks of the mean over runs, [...].

    Raises:
        ValueError: there are no scores.
    """
    result: Floats = _flat(scores).mean(axis=-1)
    return result


def probability_of_improvement(scores: Floats, others: Floats) -> Floats:
    """How likely a run of `scores` beats one of `others` in the same task, mean over tasks, [...].

    A draw counts as half a win (the Mann-Whitney statistic). The number of runs may differ.

    Raises:
        ValueError: there are no scores, or the tasks are not the same number.
    """
    _flat(scores), _flat(others)
    if scores.shape[-1] != others.shape[-1]:
        raise ValueError(f"{scores.shape[-1]} tasks cannot be compared with {others.shape[-1]}")
    one, other = scores[..., :, None, :], others[..., None, :, :]
    wins = (one > other).mean(axis=(-3, -2)) + 0.5 * (one == other).mean(axis=(-3, -2))
    result: Floats = wins.mean(axis=-1)
    return result


def performance_profile(scores: Floats, thresholds: Floats) -> Floats:
    """The share of runs, over all tasks, that score above each threshold, [..., thresholds].

    Raises:
        ValueError: there are no scores.
    """
    flat = _flat(scores)
    return np.stack([(flat > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)


def pooled(scores: Floats) -> Floats:
    """Scores [trainings, runs, tasks] as [trainings * runs, tasks]; [runs, tasks] as they are.

    Raises:
        ValueError: they are neither.
    """
    if scores.ndim not in (2, 3):
        raise ValueError(f"scores of shape {scores.shape} are not [trainings, runs, tasks]")
    return scores.reshape(-1, scores.shape[-1])


def stratified_resamples(scores: Floats, samples: int, rng: np.random.Generator) -> Floats:
    """`samples` times as many runs of each task, drawn with replacement: [samples, runs, tasks].

    Args:
        scores: [runs, tasks]; or [trainings, runs, tasks], of which trainings are drawn, too, and
            there are trainings * runs in each resample.
        samples: how many.
        rng: where lots are drawn.

    Raises:
        ValueError: there are no scores.
    """
    return _drawn(scores, _runs_drawn(scores, samples, rng), rng)


def _runs_drawn(scores: Floats, samples: int, rng: np.random.Generator) -> Draws:
    """Which runs of each task, [samples, runs, tasks]."""
    _flat(pooled(scores))
    return rng.integers(scores.shape[-2], size=(samples, *scores.shape[-2:]))


def _drawn(scores: Floats, runs: Draws, rng: np.random.Generator) -> Floats:
    """Those `runs` of as many trainings as there are, drawn with replacement."""
    each = scores if scores.ndim == 3 else scores[None]
    count, tasks = each.shape[0], each.shape[-1]
    # Without a choice nothing is drawn, so that further draws are those of plain runs.
    size = (len(runs), count)
    trainings = rng.integers(count, size=size) if count > 1 else np.zeros(size, np.int64)
    picked: Floats = each[trainings[:, :, None, None], runs[:, None], np.arange(tasks)]
    return picked.reshape(len(runs), -1, tasks)


def estimate(
    statistic: Callable[..., Floats],
    *scores: Floats,
    seed: int,
    samples: int = BOOTSTRAP_SAMPLES,
) -> Estimate:
    """`statistic` of `scores`, and the percentile interval of its stratified bootstrap.

    Args:
        statistic: maps arrays [..., runs, tasks] to [...], such as `interquartile_mean`.
        scores: [runs, tasks] or [trainings, runs, tasks] each; several are resampled independently
            of each other.
        seed: of the resamples.
        samples: how many.

    Raises:
        ValueError: there are no scores, or `statistic` cannot compare them.
    """
    low, high = profile_interval(statistic, *scores, seed=seed, samples=samples)
    value = statistic(*(pooled(one) for one in scores))
    return Estimate(float(value), float(low), float(high))


def profile_interval(
    statistic: Callable[..., Floats],
    *scores: Floats,
    seed: int,
    samples: int = BOOTSTRAP_SAMPLES,
) -> tuple[Floats, Floats]:
    """The same interval for a statistic with values of any shape, element by element.

    Raises:
        ValueError: there are no scores, or `statistic` cannot compare them.
    """
    rng = np.random.default_rng(seed)
    resampled = statistic(*(stratified_resamples(one, samples, rng) for one in scores))
    return percentile_interval(resampled)


def paired_difference(
    statistic: Callable[[Floats], Floats],
    scores: Floats,
    others: Floats,
    *,
    seed: int,
    samples: int = BOOTSTRAP_SAMPLES,
) -> Estimate:
    """`statistic` of `scores` less that of `others`, where run r of both had the same seed.

    Both are resampled together, so what one seed makes of both cancels out. Trainings, of which
    they may have different numbers, are no pairs and are resampled apart.

    Raises:
        ValueError: there are no scores, or they are not of the same runs and tasks.
    """
    if scores.shape[-2:] != others.shape[-2:]:
        raise ValueError(f"scores of shape {scores.shape} are no pairs with {others.shape}")
    rng = np.random.default_rng(seed)
    runs = _runs_drawn(scores, samples, rng)
    first, second = (_drawn(one, runs, rng) for one in (scores, others))
    low, high = percentile_interval(statistic(first) - statistic(second))
    value = float(statistic(pooled(scores))) - float(statistic(pooled(others)))
    return Estimate(value, float(low), float(high))


def resample(count: int, seed: int, samples: int = BOOTSTRAP_SAMPLES) -> Draws:
    """Positions [samples, count], with replacement, of a plain bootstrap of `count` things."""
    return np.random.default_rng(seed).integers(count, size=(samples, count))


def percentile_interval(resampled: Floats) -> tuple[Floats, Floats]:
    """Where the middle 95 % of `resampled` [samples, ...] lie; NaN counts as not known.

    Returns:
        Lower and upper ends [...], NaN where nothing is known.
    """
    tail = (1.0 - CONFIDENCE) / 2.0
    known = ~np.isnan(resampled).all(axis=0)
    ends = np.full((2, *resampled.shape[1:]), math.nan)
    if known.any():
        ends[:, known] = np.nanquantile(resampled[:, known], [tail, 1.0 - tail], axis=0)
    return ends[0], ends[1]


def _flat(scores: Floats) -> Floats:
    """Scores [..., runs * tasks].

    Raises:
        ValueError: there are none.
    """
    if scores.ndim < 2 or 0 in scores.shape[-2:]:
        raise ValueError(f"scores of shape {scores.shape} are not [runs, tasks]")
    return scores.reshape(*scores.shape[:-2], -1)
