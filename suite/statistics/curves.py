"""Fits of times and updates over the batch size, and where a loss curve crosses its target."""

import math
from collections.abc import Sequence

import numpy as np
import scipy


def affine_fit(batch_sizes: Sequence[float], times_s: Sequence[float]) -> tuple[float, float]:
    """Fit t(B) = a + b B to `times_s` [n] and return a (seconds) and b (seconds per example), both at least 0.

    Least squares of the relative error: a time of 0.1 ms and one of 1 s weigh the same.

    >>> a, b = affine_fit([1, 2, 4], [3.0, 5.0, 9.0])
    >>> round(a, 6), round(b, 6)
    (1.0, 2.0)
    """
    batch_sizes, times_s = np.asarray(batch_sizes, float), np.asarray(times_s, float)
    design = np.stack([np.ones_like(batch_sizes), batch_sizes], axis=1) / times_s[:, None]
    (a, b), _ = scipy.optimize.nnls(design, np.ones_like(times_s))
    return float(a), float(b)


def half_performance_batch(batch_sizes: Sequence[float], times_s: Sequence[float]) -> float:
    """The batch size that reaches half of the peak throughput: a / b of t(B) = a + b B (Hockney's n-half).

    Infinite where the time does not grow with B.

    >>> round(half_performance_batch([1, 2, 4], [3.0, 4.0, 6.0]), 6)
    2.0
    """
    a, b = affine_fit(batch_sizes, times_s)
    return a / b if b > 0 else math.inf


def flat_batch_size(batch_sizes: Sequence[float], times_s: np.ndarray, factor: float = 1.5) -> np.ndarray:
    """The batch size [...] at which an update takes `factor` times as long as at the smallest batch size; infinite
    where there is none.

    Of curves `times_s` [..., n] over `batch_sizes` [n]. The first time stands as it is, since smoothing would pull it
    below the later ones; the logs of the others are made increasing. Between two batch sizes t is taken as a + b B
    with an a and b of their own, so that the crossing of t(B) = a + b B is exact whatever the distance between them.

    >>> float(flat_batch_size([1, 4, 16], [1.0, 1.0, 2.2]))
    9.0
    """
    batch_sizes, times_s = np.asarray(batch_sizes, float), np.asarray(times_s, float)
    if len(batch_sizes) < 2:
        return np.full(times_s.shape[:-1], np.inf)
    first, others = times_s[..., :1], times_s[..., 1:]
    level = factor * first
    rising = np.concatenate([first, np.exp(isotonic_fit(np.log(others)))], axis=-1)
    is_above = rising >= level
    after = np.maximum(is_above.argmax(axis=-1, keepdims=True), 1)
    time_before, time_after = (np.take_along_axis(rising, index, axis=-1) for index in (after - 1, after))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (level - time_before) / (time_after - time_before)
    crossing = batch_sizes[after - 1] + share * (batch_sizes[after] - batch_sizes[after - 1])
    return np.where(is_above.any(axis=-1), crossing[..., 0], np.inf)


def isotonic_fit(values: np.ndarray) -> np.ndarray:
    """Least squares fit to each row of `values` [..., n] that never falls along it.

    >>> isotonic_fit(np.array([1.0, 3.0, 2.0])).tolist()
    [1.0, 2.5, 2.5]
    """
    return np.apply_along_axis(lambda row: scipy.optimize.isotonic_regression(row).x, -1, values)


def power_law_exponent(batch_sizes: Sequence[float], times_s: Sequence[float]) -> float:
    """Fit t ∝ B^p by least squares of log t on log B, and return p.

    >>> round(power_law_exponent([1, 2, 4], [3.0, 6.0, 12.0]), 6)
    1.0
    """
    return float(np.polyfit(np.log(batch_sizes), np.log(times_s), 1)[0])


def critical_batch_size(batch_sizes: Sequence[float], updates: Sequence[float]) -> tuple[float, float]:
    """Fit S(B) = S_min (1 + B_crit / B) to the `updates` [n] that each batch size takes to a target, and return S_min
    (updates) and the critical batch size B_crit (examples).

    Least squares of log S (McCandlish 2018, equation 2.11 with E = B S).

    >>> s_min, b_crit = critical_batch_size([1, 10, 100], [1100, 200, 110])
    >>> round(s_min), round(b_crit)
    (100, 10)
    """
    sizes, logs = np.asarray(batch_sizes, float), np.log(np.asarray(updates, float))

    def residuals(log_parameters: np.ndarray) -> np.ndarray:
        log_s_min, log_b_crit = log_parameters
        return log_s_min + np.log1p(np.exp(log_b_crit) / sizes) - logs

    start = [logs.min(), float(np.median(np.log(sizes)))]
    bounds = ([-np.inf, math.log(sizes.min()) - 10], [np.inf, math.log(sizes.max()) + 10])
    s_min, b_crit = np.exp(scipy.optimize.least_squares(residuals, start, bounds=bounds).x)
    return float(s_min), float(b_crit)


def value_at_crossing(losses: Sequence[float], values: Sequence[float], target: float) -> float:
    """The value, out of `values` [n], where `losses` [n] first fall to `target`; NaN where they never do.

    Interpolated in the log of the loss between the two evaluations around the crossing, or in the loss where the
    second is not positive.

    >>> value_at_crossing([1.0, 0.25], values=[0, 10], target=0.5)
    5.0
    """
    losses = np.asarray(losses, float)
    reached = np.flatnonzero(losses <= target)
    if len(reached) == 0:
        return math.nan
    after = reached[0]
    if after == 0:
        return float(values[0])
    scale = math.log if losses[after] > 0 else float
    before_loss, target_loss, after_loss = scale(losses[after - 1]), scale(target), scale(losses[after])
    share = (before_loss - target_loss) / (before_loss - after_loss)
    return float(values[after - 1] + share * (values[after] - values[after - 1]))
