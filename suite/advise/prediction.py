"""From trainings at a few batch sizes to the updates of every batch size, with an interval.

The noise scale along a training at a small batch size, the anchor, says how updates to the target fall with the
batch size: S(B) = S_min (1 + b / B), with b the `b_eff` of `suite.instruments.noise_scale`. No training follows this
hyperbola exactly. So log S is taken for it plus an error that wanders from the anchor as a random walk over log B,
and whatever else was trained binds the walk where it was trained (a Gaussian process: Rasmussen, Williams 2006,
chapter 2). How far it wanders is learnt from how far the hyperbola of the anchor misses the next training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from suite.advise.measured import Trained
from suite.statistics import CONFIDENCE, Interval, ratio_interval

MODEL_ERROR = 0.1
"""Standard deviation of what the hyperbola is taken to miss in log S, a factor e in B away from the anchor, before
anything else is trained; it then counts as one look. On digits it missed by 5 to 20% from 1 to 1,437 examples."""
UNDETERMINED = 2.0
"""Standard deviation of log b where its interval reaches below zero or has no bounds: a factor of 7 either way."""
VAGUE = 100.0
"""Variance of log S at the anchor before it was trained."""


def rate_choice_variance(factor: float = 2.0) -> float:
    """Variance of log S that a rate from a grid brings, its distance from the best one being a matter of chance: an
    update at r times the best rate is worth 2 r - r^2 of one at the best (McCandlish et al. 2018, equation 2.6)."""
    ratios = factor ** np.linspace(-0.5, 0.5, 1001)
    return float(np.log(2 * ratios - ratios**2).var())


@dataclass(frozen=True)
class Curve:
    """Updates to the target over the batch size, from an `anchor`, trained with looks at its noise scale, and
    whatever `others` were trained."""

    anchor: Trained
    others: tuple[Trained, ...] = ()

    @cached_property
    def noise_scale(self) -> Interval:
        """b_eff at the anchor with Fieller's interval over its replicas."""
        along = self.anchor.along
        return ratio_interval([one.least_examples for one in along], [one.least_updates for one in along])

    @property
    def determined(self) -> bool:
        """Whether the noise scale is known to be above zero, and not boundless."""
        return self.noise_scale.low > 0 and math.isfinite(self.noise_scale.high)

    @cached_property
    def b(self) -> float:
        """The noise scale that shapes the curve: as measured, or the anchor's batch size where that is no number
        above zero."""
        estimate = self.noise_scale.estimate
        return estimate if math.isfinite(estimate) and estimate > 0 else float(self.anchor.batch_size)

    @property
    def trained(self) -> tuple[Trained, ...]:
        return (self.anchor, *self.others)

    @cached_property
    def freedom(self) -> int:
        """Degrees of freedom of the variance from seed to seed."""
        return sum(len(trained.updates) - 1 for trained in self.trained)

    @cached_property
    def seed_variance(self) -> float:
        """Variance of log S from seed to seed, pooled over the batch sizes; nan from one seed."""
        squares = sum(((trained.logs - trained.logs.mean()) ** 2).sum() for trained in self.trained)
        return squares / self.freedom if self.freedom else math.nan

    def hyperbola(self, batch_size: float) -> float:
        """The anchor's updates, carried to `batch_size` by its noise scale alone."""
        return self.anchor.typical_updates * (1 + self.b / batch_size) / (1 + self.b / self.anchor.batch_size)

    @cached_property
    def noise_scale_variance(self) -> float:
        """Variance of log b."""
        if not self.determined:
            return UNDETERMINED**2
        quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(self.anchor.along) - 1)
        return (math.log(self.noise_scale.high / self.noise_scale.low) / (2 * quantile)) ** 2

    def slope(self, batch_size: float) -> float:
        """Derivative of the log of `hyperbola` by log b: its share of noise there less that at the anchor."""
        at = self.b / (self.b + np.asarray(batch_size, float))
        return at - self.b / (self.b + self.anchor.batch_size)

    def away(self, batch_size: float) -> np.ndarray:
        """How many factors of e above (or, below zero, below) the anchor."""
        return np.log(np.asarray(batch_size, float) / self.anchor.batch_size)

    @cached_property
    def wander(self) -> float:
        """Variance of the error, a factor e in B away: MODEL_ERROR, and what the hyperbola misses the first at
        another batch size by, beyond what seeds, rates and noise scale account for; each counts half."""
        elsewhere = [trained for trained in self.others if trained.batch_size != self.anchor.batch_size]
        if not elsewhere:
            return MODEL_ERROR**2
        first = elsewhere[0]
        missed = first.logs.mean() - math.log(self.hyperbola(first.batch_size))
        chance = self.noise_scale_variance * float(self.slope(first.batch_size)) ** 2
        chance += sum(self._spread(trained) for trained in (self.anchor, first))
        learnt = max(0.0, missed**2 - chance) / abs(float(self.away(first.batch_size)))
        return (MODEL_ERROR**2 + learnt) / 2

    def _spread(self, trained: Trained) -> float:
        """Variance of the mean log S of what was trained, by seeds and rate."""
        seeds = 0.0 if math.isnan(self.seed_variance) else self.seed_variance
        return seeds / len(trained.updates) + rate_choice_variance()

    def _covariance(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Of log S at batch sizes `one` [n] and `other` [m], before anything was trained: [n, m]."""
        first, second = self.away(one)[:, None], self.away(other)[None, :]
        walk = np.where(first * second > 0, np.minimum(np.abs(first), np.abs(second)), 0)
        shape = self.slope(one)[:, None] * self.slope(other)[None, :]
        return VAGUE + self.wander * walk + self.noise_scale_variance * shape

    def log_updates(self, batch_sizes: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance [n] of the mean log S at `batch_sizes` [n], given all that was trained."""
        wanted = np.asarray(batch_sizes, float)
        known = np.array([trained.batch_size for trained in self.trained], float)
        seen = np.array([trained.logs.mean() for trained in self.trained])
        error = np.diag([self._spread(trained) for trained in self.trained])
        weights = np.linalg.solve(self._covariance(known, known) + error, self._covariance(known, wanted))
        mean = np.log(self.hyperbola(wanted)) + weights.T @ (seen - np.log(self.hyperbola(known)))
        variance = np.diag(self._covariance(wanted, wanted) - weights.T @ self._covariance(known, wanted))
        return mean, np.maximum(variance, 0)

    def updates(self, batch_size: int, trainings: int = 1, time_variance: float = 0.0) -> Interval:
        """S(B) with the interval of the geometric mean of so many further `trainings`, at one rate with other seeds:
        Student's t on log S, with the variance of the curve there, of seeds, and of the rate's choice; and
        `time_variance` where it is to be one of its time over the time of an update. Without bounds from one seed."""
        (mean,), (variance,) = self.log_updates([batch_size])
        total = variance + self.seed_variance / trainings + rate_choice_variance() + time_variance
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom) * math.sqrt(total) if self.freedom else math.nan
        return Interval(*(float(np.exp(mean + side)) for side in (0, -half, half)), n=self.freedom + 1)


def one_more(trained: Trained, time_variance: float = 0.0) -> Interval:
    """Geometric mean of the updates, with the interval of one further training, from these replicas alone; and
    `time_variance` where it is to be one of its time over the time of an update. No training takes less than one."""
    n, logs = len(trained.updates), trained.logs
    if n < 2:
        return Interval(trained.typical_updates, math.nan, math.nan, n)
    total = logs.var(ddof=1) * (1 + 1 / n) + time_variance
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * math.sqrt(total)
    estimate, low, high = (float(np.exp(logs.mean() + side)) for side in (0, -half, half))
    return Interval(estimate, max(low, min(1.0, estimate)), high, n)


def rate_rule(curve: Curve, batch_size: int) -> float:
    """The rate to try: eps_max / (1 + b / B) through the anchor's, up to the highest that was best where one was
    trained with a batch larger than the anchor's (McCandlish et al. 2018, equation 2.6; stability caps it)."""
    anchor = curve.anchor
    rate = anchor.learning_rate * (1 + curve.b / anchor.batch_size) / (1 + curve.b / batch_size)
    larger = [trained.learning_rate for trained in curve.others if trained.batch_size > anchor.batch_size]
    return min([rate, *([max(larger)] if larger else [])])
