"""Bootstrap intervals of medians over seeds, where a seed that never reaches its target counts as infinite, and where
the learning rate was chosen by trials with seeds of their own.

Efron, Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. Draws are those of a generator that always
starts alike, so that the same values have the same interval.
"""

from collections.abc import Sequence

import numpy as np

from suite.statistics.inference import CONFIDENCE, Interval

DRAWS = 2000
MIN_VALUES = 5
"""Fewer values cannot show how much their median varies."""


def median_draws(values: Sequence[Sequence[float]], draws: int = DRAWS) -> np.ndarray:
    """Medians [draws, k] of `values` [n, k] over n rows drawn with replacement, the same rows for each column."""
    values = np.asarray(values, float)
    chosen = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    return np.median(values[chosen], axis=1)


def choice_draws(costs: Sequence[Sequence[float]], draws: int = DRAWS) -> np.ndarray:
    """The mean cost of the rate that other trial seeds would have chosen, over that of the rate chosen: factors
    [draws], 1 or more.

    `costs` [k, n] holds those of k rates with the same n trial seeds; the rate with the lowest mean is chosen. The
    seeds are drawn with replacement, and each draw chooses anew.
    """
    costs = np.asarray(costs, float)
    means = costs.mean(axis=1)
    chosen = np.random.default_rng(1).integers(costs.shape[1], size=(draws, costs.shape[1]))
    choices = costs[:, chosen].mean(axis=2).argmin(axis=0)
    return means[choices] / means.min()


def percentile_interval(estimate: float, draws: Sequence[float], n: int) -> Interval:
    """The interval between percentiles of bootstrap `draws` of an `estimate` from `n` values.

    Its bounds are NaN where n < MIN_VALUES.
    """
    if n < MIN_VALUES:
        return Interval(estimate, np.nan, np.nan, n)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.asarray(draws, float), [tail, 1 - tail], method="inverted_cdf")
    return Interval(estimate, float(low), float(high), n)
