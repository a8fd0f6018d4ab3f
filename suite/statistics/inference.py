"""Intervals, tests and verdicts.

Every interval is two-sided at 95%. Where a sample is too small for a statistic, the bounds of its interval are NaN
and its verdict is `undecided`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import scipy

CONFIDENCE = 0.95
HOLM_LEVEL = 0.05
"""The probability of any false rejection among hypotheses whose p-values `holm` has adjusted."""
MAX_SEEDS = 10_000
"""The largest sample size that `seeds_to_decide` considers."""


class Verdict(StrEnum):
    """The outcome for a claim whose effect has an interval."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Interval:
    """An estimate between two bounds, in the same unit; `n` is the number of independent values."""

    estimate: float
    low: float
    high: float
    n: int

    def map(self, function: Callable[[float], float]) -> "Interval":
        """The interval of an increasing `function` of the quantity."""
        with np.errstate(over="ignore"):  # a bound may be infinite
            return Interval(function(self.estimate), function(self.low), function(self.high), self.n)


def mean_interval(values: Sequence[float], shared_variance: float = 0.0) -> Interval:
    """Mean of independent `values` [n] with Student's t interval; its bounds are NaN where n < 2 or a value is not
    finite.

    `shared_variance` is the known variance of an error that all values have in common. The degrees of freedom are
    then those of Welch and Satterthwaite (Satterthwaite 1946).

    >>> mean_interval([1, 2, 3])
    Interval(estimate=2.0, low=-0.4841377117503298, high=4.48413771175033, n=3)
    """
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2 or not np.isfinite(values).all():
        return Interval(mean, math.nan, math.nan, n)
    error, freedom = _error_of_mean(values, shared_variance)
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    return Interval(mean, float(mean - half), float(mean + half), n)


def _error_of_mean(values: np.ndarray, shared_variance: float) -> tuple[float, float]:
    """Standard error of the mean of `values` [n], n > 1, and its degrees of freedom."""
    variance = float(values.var(ddof=1)) / len(values)
    share = variance / (variance + shared_variance) if shared_variance else 1.0
    freedom = (len(values) - 1) / share**2 if share else math.inf
    return math.sqrt(variance + shared_variance), freedom


def median_interval(values: Sequence[float]) -> Interval:
    """Median of independent `values` [n] with an interval between two order statistics.

    The bounds are the innermost pair that covers the true median with at least 95%: for n = 6 the smallest and the
    largest value, which cover it with 96.9% (Conover, Practical Nonparametric Statistics, section 3.2). They are NaN
    where n < 6, since no pair reaches 95%.

    >>> median_interval([3, 1, 2, 6, 5, 4])
    Interval(estimate=3.5, low=1.0, high=6.0, n=6)
    """
    values = np.sort(np.asarray(values, float))
    n = len(values)
    median = float(np.median(values)) if n else math.nan
    rank = int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)) if n else 0
    if rank == 0:
        return Interval(median, math.nan, math.nan, n)
    return Interval(median, float(values[rank - 1]), float(values[n - rank]), n)


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Mean of `numerators` [n] over mean of `denominators` [n], paired, with Fieller's interval (1954).

    The interval holds every ratio r for which Student's t test does not reject that the mean of
    numerator - r * denominator is zero. Its bounds are infinite where the mean of the denominators does not differ
    significantly from zero, and NaN where n < 2.

    >>> ratio_interval([4, 6, 8], [2, 2, 2]).estimate
    3.0
    """
    pairs = np.stack([np.asarray(numerators, float), np.asarray(denominators, float)])
    n = pairs.shape[1]
    top, bottom = pairs.mean(axis=1)
    estimate = float(top / bottom)
    if n < 2:
        return Interval(estimate, math.nan, math.nan, n)
    allowed = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) ** 2 * np.cov(pairs) / n
    a, b, c = bottom**2 - allowed[1, 1], top * bottom - allowed[0, 1], top**2 - allowed[0, 0]
    if a <= 0:
        return Interval(estimate, -math.inf, math.inf, n)
    half = math.sqrt(max(0.0, b**2 - a * c))
    return Interval(estimate, float((b - half) / a), float((b + half) / a), n)


def ratio_of_estimates(numerator: Interval, denominator: Interval) -> Interval:
    """Ratio of two independent estimates above 0, from their intervals.

    Each bound of the log ratio is as far from the estimate as the root of the sum of the squared distances of the
    bounds that move it there (Zou and Donner 2008). The interval's own n is the smaller of the two.

    >>> ratio_of_estimates(Interval(6.0, 3.0, 12.0, n=9), Interval(2.0, 2.0, 2.0, n=5))
    Interval(estimate=3.0, low=1.5, high=6.0, n=5)
    """
    ratio = numerator.estimate / denominator.estimate
    down = math.hypot(math.log(numerator.estimate / numerator.low), math.log(denominator.high / denominator.estimate))
    up = math.hypot(math.log(numerator.high / numerator.estimate), math.log(denominator.estimate / denominator.low))
    return Interval(ratio, ratio * math.exp(-down), ratio * math.exp(up), min(numerator.n, denominator.n))


def verdict(interval: Interval, null: float) -> Verdict:
    """Return HOLDS when the whole interval lies above `null`, FAILS when it lies below, else UNDECIDED.

    >>> verdict(Interval(2.0, low=1.5, high=2.5, n=30), null=1)
    <Verdict.HOLDS: 'holds'>
    """
    if interval.low > null:
        return Verdict.HOLDS
    if interval.high < null:
        return Verdict.FAILS
    return Verdict.UNDECIDED


def equivalence(interval: Interval, null: float, factor: float) -> Verdict:
    """Return HOLDS when the whole interval of a ratio lies within `factor` of `null`, FAILS when it lies outside,
    else UNDECIDED (the two one-sided tests of Schuirmann 1987, each at 2.5%).

    >>> equivalence(Interval(1.0, low=0.8, high=1.3, n=30), null=1, factor=2)
    <Verdict.HOLDS: 'holds'>
    """
    low, high = null / factor, null * factor
    if interval.low > low and interval.high < high:
        return Verdict.HOLDS
    if interval.high < low or interval.low > high:
        return Verdict.FAILS
    return Verdict.UNDECIDED


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust `p_values` [n] so that the probability of any false rejection stays below the level, HOLM_LEVEL
    throughout the suite (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return adjusted.tolist()


def mean_p_value(values: Sequence[float], shared_variance: float = 0.0) -> float:
    """Two-sided p-value of Student's t test that the mean of `values` [n] is zero, with the `shared_variance` of
    `mean_interval`; 1 where n < 2.

    >>> round(mean_p_value([1, 2, 3]), 3)
    0.074
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return 1.0
    error, freedom = _error_of_mean(values, shared_variance)
    if error == 0:
        return 0.0 if values[0] else 1.0
    return float(2 * scipy.stats.t.sf(abs(values.mean()) / error, freedom))


def seeds_to_decide(values: Sequence[float], shared_variance: float = 0.0, power: float = 0.8) -> float:
    """Sample size at which Student's t test rejects a mean of zero with probability `power`, if the true mean and
    standard deviation are those of `values` [n], which have the `shared_variance` of `mean_interval`.

    From the noncentral t distribution (Cohen, Statistical Power Analysis, 1988, chapter 2). Infinite where it exceeds
    MAX_SEEDS, or where the values have no spread or no effect.

    >>> seeds_to_decide([1, 2, 3])
    5.0
    """
    values = np.asarray(values, float)
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    if not spread > 0 or values.mean() == 0:
        return math.inf

    def is_enough(n: int) -> bool:
        critical = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
        error = math.sqrt(spread**2 / n + shared_variance)
        return scipy.stats.nct.sf(critical, n - 1, abs(values.mean()) / error) >= power

    if not is_enough(MAX_SEEDS):
        return math.inf
    return float(2 + bisect_left(range(2, MAX_SEEDS), True, key=is_enough))


def probability_above_zero(values: Sequence[float]) -> Interval:
    """Probability that a value is above zero, with the exact binomial interval of Clopper and Pearson (1934).

    A value of zero counts as half a value above zero; their total is rounded down.

    >>> probability_above_zero([1, 2, -1, 3]).estimate
    0.75
    """
    values = np.asarray(values, float)
    above = int(np.sum(values > 0) + np.sum(values == 0) // 2)
    exact = scipy.stats.binomtest(above, len(values)).proportion_ci(CONFIDENCE)
    return Interval(above / len(values), float(exact.low), float(exact.high), len(values))
