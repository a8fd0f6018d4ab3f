"""Intervals, paired comparisons and verdicts.

Every interval is two-sided at 95%. A statistic that its sample cannot support is given as an interval
without bounds (nan), from which no verdict but `undecided` follows.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate between two bounds, in the same unit; `n` is the number of independent values."""

    estimate: float
    low: float
    high: float
    n: int

    def map(self, function) -> "Interval":
        """The interval of an increasing `function` of the quantity."""
        return Interval(function(self.estimate), function(self.low), function(self.high), self.n)


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent `values` [n] with Student's t interval; without bounds where n < 2."""
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Interval(mean, float(mean - half), float(mean + half), n)


def median_interval(values: Sequence[float]) -> Interval:
    """Median of independent `values` [n] between two of its order statistics.

    The innermost pair that covers the true median with at least 95%: for n = 6 the least and the greatest
    value, which cover it with 96.9% (Conover, Practical Nonparametric Statistics, section 3.2). Without
    bounds where n < 6, since not even these reach 95%.
    """
    values = np.sort(np.asarray(values, float))
    n = len(values)
    median = float(np.median(values)) if n else math.nan
    rank = int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)) if n else 0
    if rank == 0:
        return Interval(median, math.nan, math.nan, n)
    return Interval(median, float(values[rank - 1]), float(values[n - rank]), n)


def verdict(interval: Interval, null: float) -> str:
    """`holds` when the whole interval lies above `null`, `fails` when below, else `undecided`."""
    if interval.low > null:
        return "holds"
    if interval.high < null:
        return "fails"
    return "undecided"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that any false rejection among all of them stays below the level (Holm 1979)."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return adjusted.tolist()


def mean_p_value(values: Sequence[float]) -> float:
    """Two-sided p-value of Student's t test that the mean of `values` [n] is zero; 1 where n < 2."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return 1.0
    if np.ptp(values) == 0:
        return 0.0 if values[0] else 1.0
    return float(scipy.stats.ttest_1samp(values, 0).pvalue)


MOST_WANTED = 10_000


def seeds_to_settle(values: Sequence[float], power: float = 0.8) -> float:
    """How many fresh values a new experiment needs so that Student's t test rejects a mean of zero with probability
    `power`, if mean and spread are those of `values` [n]: by the noncentral t distribution, infinite beyond
    MOST_WANTED (Cohen, Statistical Power Analysis, 1988, chapter 2)."""
    values = np.asarray(values, float)
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    if not spread > 0 or values.mean() == 0:
        return math.inf

    def reached(n: int) -> bool:
        critical = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
        return scipy.stats.nct.sf(critical, n - 1, abs(values.mean()) / spread * math.sqrt(n)) >= power

    if not reached(MOST_WANTED):
        return math.inf
    return float(2 + bisect_left(range(2, MOST_WANTED), True, key=reached))


def probability_above_zero(values: Sequence[float]) -> Interval:
    """Probability that a value is above zero (a tie counts half, rounded down), with the exact binomial
    interval of Clopper and Pearson (1934)."""
    values = np.asarray(values, float)
    above = int(np.sum(values > 0) + np.sum(values == 0) // 2)
    exact = scipy.stats.binomtest(above, len(values)).proportion_ci(CONFIDENCE)
    return Interval(above / len(values), float(exact.low), float(exact.high), len(values))


def affine_fit(batch_sizes: Sequence[float], times_s: Sequence[float]) -> tuple[float, float]:
    """a (seconds) and b (seconds per example) of t(B) = a + b B, both at least 0, by least squares of the
    relative error: a time of 0.1 ms and one of 1 s weigh the same."""
    batch_sizes, times_s = np.asarray(batch_sizes, float), np.asarray(times_s, float)
    design = np.stack([np.ones_like(batch_sizes), batch_sizes], axis=1) / times_s[:, None]
    (a, b), _ = scipy.optimize.nnls(design, np.ones_like(times_s))
    return float(a), float(b)


def half_performance_batch(batch_sizes: Sequence[float], times_s: Sequence[float]) -> float:
    """a / b of t(B) = a + b B: the batch size at which half of the peak throughput 1 / b is reached
    (Hockney's n-half); infinite where no growth with B is seen."""
    a, b = affine_fit(batch_sizes, times_s)
    return a / b if b > 0 else math.inf


def same_time_batch(batch_sizes: Sequence[float], times_s: Sequence[float], factor: float = 1.5) -> float:
    """B_same: where the isotonic-smoothed log t(B) first crosses `factor` times t at the smallest batch.

    Interpolated linearly in log B and log t. Infinite where it never crosses.
    """
    log_sizes = np.log(np.asarray(batch_sizes, float))
    smooth = scipy.optimize.isotonic_regression(np.log(np.asarray(times_s, float))).x
    level = smooth[0] + math.log(factor)
    above = np.flatnonzero(smooth >= level)
    if len(above) == 0:
        return math.inf
    after = above[0]
    share = (level - smooth[after - 1]) / (smooth[after] - smooth[after - 1])
    return float(math.exp(log_sizes[after - 1] + share * (log_sizes[after] - log_sizes[after - 1])))


def power_law_exponent(batch_sizes: Sequence[float], times_s: Sequence[float]) -> float:
    """p of t ~ B^p, by least squares of log t on log B."""
    return float(np.polyfit(np.log(batch_sizes), np.log(times_s), 1)[0])


def critical_batch(batch_sizes: Sequence[float], updates: Sequence[float]) -> tuple[float, float]:
    """S_min and B_crit of S(B) = S_min (1 + B_crit / B), updates to a target over the batch size, by least squares of
    log S (McCandlish 2018, equation 2.11 with E = B S)."""
    sizes, logs = np.asarray(batch_sizes, float), np.log(np.asarray(updates, float))

    def off(logs_of_both: np.ndarray) -> np.ndarray:
        return logs_of_both[0] + np.log1p(np.exp(logs_of_both[1]) / sizes) - logs

    start = [logs.min(), float(np.median(np.log(sizes)))]
    bounds = ([-np.inf, math.log(sizes.min()) - 10], [np.inf, math.log(sizes.max()) + 10])
    least, critical = np.exp(scipy.optimize.least_squares(off, start, bounds=bounds).x)
    return float(least), float(critical)


def value_at_crossing(losses: Sequence[float], values: Sequence[float], target: float) -> float:
    """`values` [n] where the log of `losses` [n] first comes down to the log of `target`, interpolated
    between the two looks around it; nan where it never does. A loss of 0 counts as the least positive number."""
    losses = np.asarray(losses, float)
    reached = np.flatnonzero(losses <= target)
    if len(reached) == 0:
        return math.nan
    after = reached[0]
    if after == 0:
        return float(values[0])
    before_log, after_log = np.log(losses[after - 1]), np.log(max(losses[after], np.finfo(float).tiny))
    share = (before_log - math.log(target)) / (before_log - after_log)
    return float(values[after - 1] + share * (values[after] - values[after - 1]))


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Mean of `numerators` [n] over mean of `denominators` [n], paired values, with Fieller's interval (1954).

    It holds every ratio r for which Student's t test does not reject that the mean of numerator - r * denominator is
    zero; without bounds, infinite, where the denominator cannot be told from zero; nan where n < 2.
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
