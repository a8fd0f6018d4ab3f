"""Intervals for statistics of medians, by resampling independent values with replacement (Efron 1979)."""

import math
from collections.abc import Sequence

import numpy as np

from suite.statistics.inference import CONFIDENCE, Interval

RESAMPLES = 1000
MIN_VALUES = 6
"""The smallest sample whose interval has bounds; the median of fewer values has none either."""


def resampled_medians(samples: Sequence[Sequence[float]]) -> np.ndarray:
    """Medians [RESAMPLES, n] of `samples` (n of them, of any length), each resampled independently of the others.

    The same samples always give the same medians.
    """
    generator = np.random.default_rng(0)
    draws = [generator.choice(np.asarray(sample, float), (RESAMPLES, len(sample))) for sample in samples]
    return np.stack([np.median(draw, axis=1) for draw in draws], axis=1)


def percentile_interval(estimate: float, resampled: np.ndarray, n: int) -> Interval:
    """The `estimate` between the central 95% of its `resampled` values [m], which may be infinite.

    Efron's percentile interval; `n` is the size of the smallest sample, and the bounds are NaN where it is below
    MIN_VALUES.
    """
    if n < MIN_VALUES:
        return Interval(estimate, math.nan, math.nan, n)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf")
    return Interval(estimate, float(low), float(high), n)


def median_ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Median of `numerators` over median of `denominators`, two independent samples, with a percentile interval.

    >>> median_ratio_interval([4, 4, 4, 4, 4, 4], [2, 2, 2, 2, 2, 2])
    Interval(estimate=2.0, low=2.0, high=2.0, n=6)
    """
    above, below = resampled_medians([numerators, denominators]).T
    estimate = float(np.median(numerators) / np.median(denominators))
    return percentile_interval(estimate, above / below, min(len(numerators), len(denominators)))


def paired_medians(values: Sequence[Sequence[float]]) -> np.ndarray:
    """Medians [RESAMPLES, k] of the columns of `values` [n, k], whose rows are resampled: the same for each column.

    An infinite value counts as larger than any other. The same values always give the same medians.
    """
    values = np.asarray(values, float)
    rows = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return np.median(values[rows], axis=1)


def resampled_choices(costs: Sequence[Sequence[float]]) -> np.ndarray:
    """What a choice by few trials may cost: factors [RESAMPLES], 1 or more, by which the option that resampled trials
    choose costs more than the option that all trials choose.

    `costs` [k, n] holds n trials of each of k options, paired; the option with the lowest mean is chosen. Where every
    mean is infinite, no choice is better than another.
    """
    costs = np.asarray(costs, float)
    means = costs.mean(axis=1)
    if np.isinf(means).all():
        return np.ones(RESAMPLES)
    trials = np.random.default_rng(1).integers(costs.shape[1], size=(RESAMPLES, costs.shape[1]))
    choices = costs[:, trials].mean(axis=2).argmin(axis=0)
    return means[choices] / means.min()
