"""Predict the updates to the target at every batch size, with intervals, from trainings at a few.

The gradient noise scale along the pilot run, a training at a small batch size, predicts how the updates to the target
fall with the batch size: S(B) = S_min (1 + B_crit / B), with B_crit the `b_eff` of `suite.instruments.noise_scale`.
No training follows this hyperbola exactly. Therefore log S is modelled as the log of the hyperbola plus an error, a
random walk over log B that starts at the pilot run's batch size; every further run conditions the walk at its own
batch size (a Gaussian process: Rasmussen, Williams 2006, chapter 2). The variance of the walk is estimated from the
distance between the second run and the pilot run's hyperbola.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy

from suite.advise.measurements import TrainingRun
from suite.statistics import CONFIDENCE, Interval, ratio_interval

MODEL_DEVIATION = 0.1
"""Prior standard deviation of the hyperbola's error in log S, a factor of e in B from the pilot run. It counts as one
observation. On digits the hyperbola misses by 5 to 20% between 1 and 1,437 examples."""
UNDETERMINED_DEVIATION = 2.0
"""Standard deviation of log B_crit, a factor of 7, where its interval reaches below zero or has no bounds."""
PRIOR_VARIANCE = 100.0
"""Variance of log S at the pilot run's batch size before the pilot run."""


def rate_choice_variance(factor: float = 2.0) -> float:
    """Variance of log S from the distance between a grid's best rate and the best rate of all.

    An update at r times the best rate is worth 2 r - r² updates at the best (McCandlish et al. 2018, equation 2.6);
    log r is uniform between the midpoints to the neighbours in a grid with this `factor`.
    """
    ratios = factor ** np.linspace(-0.5, 0.5, 1001)
    return float(np.log(2 * ratios - ratios**2).var())


@dataclass(frozen=True)
class Prediction:
    """Updates to the target at every batch size, from a pilot run with gradient noise and from further runs."""

    pilot: TrainingRun
    further_runs: tuple[TrainingRun, ...] = ()

    @property
    def runs(self) -> tuple[TrainingRun, ...]:
        return (self.pilot, *self.further_runs)

    def with_runs(self, runs: Sequence[TrainingRun]) -> Prediction:
        """The prediction from those of `runs` too that reached the target."""
        return replace(self, further_runs=(*self.further_runs, *(run for run in runs if run.reached)))

    @cached_property
    def noise_scale(self) -> Interval:
        """b_eff along the pilot run in examples, with Fieller's interval over its replicas."""
        noise = self.pilot.noise
        return ratio_interval(
            [replica.least_examples for replica in noise], [replica.least_updates for replica in noise]
        )

    @property
    def is_determined(self) -> bool:
        """Whether the interval of the noise scale lies above zero and has bounds."""
        return self.noise_scale.low > 0 and math.isfinite(self.noise_scale.high)

    @cached_property
    def critical_batch_size(self) -> float:
        """B_crit of the hyperbola: the noise scale, or the pilot run's batch size where the noise scale is not a
        positive number."""
        estimate = self.noise_scale.estimate
        return estimate if math.isfinite(estimate) and estimate > 0 else float(self.pilot.batch_size)

    @cached_property
    def degrees_of_freedom(self) -> int:
        """Those of `seed_variance`."""
        return sum(len(run.updates) - 1 for run in self.runs)

    @cached_property
    def seed_variance(self) -> float:
        """Variance of log S between seeds, pooled over the runs; NaN from one seed."""
        squares = sum(((run.log_updates - run.log_updates.mean()) ** 2).sum() for run in self.runs)
        return squares / self.degrees_of_freedom if self.degrees_of_freedom else math.nan

    def hyperbola(self, batch_size: float) -> float:
        """The updates of the pilot run, scaled to `batch_size` by the critical batch size alone."""
        scale = self.critical_batch_size
        return self.pilot.typical_updates * (1 + scale / batch_size) / (1 + scale / self.pilot.batch_size)

    @cached_property
    def noise_scale_variance(self) -> float:
        """Variance of log B_crit."""
        if not self.is_determined:
            return UNDETERMINED_DEVIATION**2
        quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(self.pilot.noise) - 1)
        return (math.log(self.noise_scale.high / self.noise_scale.low) / (2 * quantile)) ** 2

    def slope(self, batch_size: float) -> float:
        """Derivative of log `hyperbola` with respect to log B_crit."""
        share = self.critical_batch_size / (self.critical_batch_size + np.asarray(batch_size, float))
        return share - self.critical_batch_size / (self.critical_batch_size + self.pilot.batch_size)

    def log_distance(self, batch_size: float) -> np.ndarray:
        """Log of `batch_size` over the pilot run's."""
        return np.log(np.asarray(batch_size, float) / self.pilot.batch_size)

    @cached_property
    def model_variance(self) -> float:
        """Variance of the hyperbola's error, a factor of e in B from the pilot run.

        The mean of MODEL_DEVIATION² and of the squared error at the first other batch size, less the part of it that
        seeds, rates and noise scale explain.
        """
        elsewhere = [run for run in self.further_runs if run.batch_size != self.pilot.batch_size]
        if not elsewhere:
            return MODEL_DEVIATION**2
        first = elsewhere[0]
        error = first.log_updates.mean() - math.log(self.hyperbola(first.batch_size))
        explained = self.noise_scale_variance * float(self.slope(first.batch_size)) ** 2
        explained += sum(self._run_variance(run) for run in (self.pilot, first))
        observed = max(0.0, error**2 - explained) / abs(float(self.log_distance(first.batch_size)))
        return (MODEL_DEVIATION**2 + observed) / 2

    def _run_variance(self, run: TrainingRun) -> float:
        """Variance of the mean log S of `run` from its seeds and its rate."""
        seed_variance = 0.0 if math.isnan(self.seed_variance) else self.seed_variance
        return seed_variance / len(run.updates) + rate_choice_variance()

    def _covariance(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Prior covariance [n, m] of log S at the batch sizes `rows` [n] and `columns` [m]."""
        first, second = self.log_distance(rows)[:, None], self.log_distance(columns)[None, :]
        walk = np.where(first * second > 0, np.minimum(np.abs(first), np.abs(second)), 0)
        slopes = self.slope(rows)[:, None] * self.slope(columns)[None, :]
        return PRIOR_VARIANCE + self.model_variance * walk + self.noise_scale_variance * slopes

    def log_updates(self, batch_sizes: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and variance [n] of the mean log S at `batch_sizes` [n]."""
        sizes = np.asarray(batch_sizes, float)
        trained = np.array([run.batch_size for run in self.runs], float)
        logs = np.array([run.log_updates.mean() for run in self.runs])
        error = np.diag([self._run_variance(run) for run in self.runs])
        weights = np.linalg.solve(self._covariance(trained, trained) + error, self._covariance(trained, sizes))
        mean = np.log(self.hyperbola(sizes)) + weights.T @ (logs - np.log(self.hyperbola(trained)))
        variance = np.diag(self._covariance(sizes, sizes) - weights.T @ self._covariance(trained, sizes))
        return mean, np.maximum(variance, 0)

    def updates(self, batch_size: int, trainings: int = 1, time_variance: float = 0.0) -> Interval:
        """S(B), with the interval of the geometric mean of further `trainings` at one rate, with held-out seeds.

        Student's t on log S, with the variances of the prediction, the seeds and the choice of the rate. Add
        `time_variance` for the interval of the training time over the update time. Without bounds from one seed.
        """
        (mean,), (variance,) = self.log_updates([batch_size])
        total = variance + self.seed_variance / trainings + rate_choice_variance() + time_variance
        degrees = self.degrees_of_freedom
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * math.sqrt(total) if degrees else math.nan
        return Interval(*(float(np.exp(mean + side)) for side in (0, -half, half)), n=degrees + 1)


def further_training_interval(run: TrainingRun, time_variance: float = 0.0) -> Interval:
    """The geometric mean of the updates of `run`, with the interval of one further training from `run` alone.

    Add `time_variance` for the interval of the training time over the update time. A training counts as one update at
    least.
    """
    n, logs = len(run.updates), run.log_updates
    if n < 2:
        return Interval(run.typical_updates, math.nan, math.nan, n)
    total = logs.var(ddof=1) * (1 + 1 / n) + time_variance
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * math.sqrt(total)
    estimate, low, high = (float(np.exp(logs.mean() + side)) for side in (0, -half, half))
    return Interval(estimate, max(low, min(1.0, estimate)), high, n)


def predicted_rate(prediction: Prediction, batch_size: int) -> float:
    """The rate ε_max / (1 + B_crit / B) that passes through the pilot run's (McCandlish et al. 2018, equation 2.6).

    It does not exceed the highest rate of the runs at larger batch sizes than the pilot run's: stability caps it.
    """
    pilot, scale = prediction.pilot, prediction.critical_batch_size
    rate = pilot.learning_rate * (1 + scale / pilot.batch_size) / (1 + scale / batch_size)
    larger = [run.learning_rate for run in prediction.further_runs if run.batch_size > pilot.batch_size]
    return min([rate, *([max(larger)] if larger else [])])
