"""Predict the updates to the target at every batch size, with intervals, from trainings at a few.

The updates to the target fall with the batch size: S(B) = S_min (1 + B_crit / B). The gradient noise scale along the
pilot run, a training at a small batch size, is the first estimate of B_crit, by the `b_eff` of
`suite.instruments.noise_scale`. It is a theory of the last iterate, whereas the target is reached by averaged
parameters, whose critical batch size is smaller. Therefore B_crit is uncertain by AVERAGING_DEVIATION, until a run at
another batch size shows it.

No training follows this hyperbola exactly. Therefore log S is modelled as the log of the hyperbola plus an error, a
random walk over log B that starts at the pilot run's batch size; every further run conditions both log B_crit, to
first order, and the walk at its own batch size (a Gaussian process: Rasmussen, Williams 2006, chapter 2). The
variance of the walk is estimated from the second run's distance from the pilot run's hyperbola.
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
AVERAGING_DEVIATION = math.log(2)
"""Prior standard deviation of log B_crit of averaged parameters around the log of the noise scale. On digits B_crit
is half of the noise scale; where averaging takes out no noise, the two are equal."""
UNDETERMINED_DEVIATION = 2.0
"""Prior standard deviation of log B_crit, a factor of 7, where the interval of the noise scale reaches below zero or
has no bounds."""
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
    def prior_critical_batch_size(self) -> float:
        """B_crit of the pilot run's hyperbola: the noise scale, or the pilot run's batch size where the noise scale
        is not a positive number."""
        estimate = self.noise_scale.estimate
        return estimate if math.isfinite(estimate) and estimate > 0 else float(self.pilot.batch_size)

    @cached_property
    def critical_batch_size(self) -> Interval:
        """B_crit in examples as all runs show it, with its interval; without bounds from one seed."""
        shift, variance = self._conditioned(
            self.prior_variance * self.slope(self._trained)[:, None], np.array([[self.prior_variance]])
        )
        return self._interval(math.log(self.prior_critical_batch_size) + float(shift[0]), float(variance[0]))

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
        """The updates of the pilot run, scaled to `batch_size` by the prior critical batch size alone."""
        scale = self.prior_critical_batch_size
        return self.pilot.typical_updates * (1 + scale / batch_size) / (1 + scale / self.pilot.batch_size)

    @cached_property
    def prior_variance(self) -> float:
        """Variance of log B_crit around the log of `prior_critical_batch_size`, from the pilot run alone."""
        if not self.is_determined:
            return UNDETERMINED_DEVIATION**2
        quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(self.pilot.noise) - 1)
        deviation = math.log(self.noise_scale.high / self.noise_scale.low) / (2 * quantile)
        return deviation**2 + AVERAGING_DEVIATION**2

    def slope(self, batch_size: float) -> float:
        """Derivative of log `hyperbola` with respect to log B_crit."""
        scale = self.prior_critical_batch_size
        return scale / (scale + np.asarray(batch_size, float)) - scale / (scale + self.pilot.batch_size)

    def log_distance(self, batch_size: float) -> np.ndarray:
        """Log of `batch_size` over the pilot run's."""
        return np.log(np.asarray(batch_size, float) / self.pilot.batch_size)

    @cached_property
    def model_variance(self) -> float:
        """Variance of the hyperbola's error, a factor of e in B from the pilot run.

        The mean of MODEL_DEVIATION² and of the expected square of the error, given the distance between the first run
        at another batch size and the hyperbola. Seeds, rates and the prior of B_crit share in that distance: where
        they explain it, the expected square stays near MODEL_DEVIATION².
        """
        elsewhere = [run for run in self.further_runs if run.batch_size != self.pilot.batch_size]
        if not elsewhere:
            return MODEL_DEVIATION**2
        first = elsewhere[0]
        distance = first.log_updates.mean() - math.log(self.hyperbola(first.batch_size))
        explained = self.prior_variance * float(self.slope(first.batch_size)) ** 2
        explained += sum(self._run_variance(run) for run in (self.pilot, first))
        length = abs(float(self.log_distance(first.batch_size)))
        share = MODEL_DEVIATION**2 * length / (MODEL_DEVIATION**2 * length + explained)
        expected_square = (share * distance) ** 2 / length + MODEL_DEVIATION**2 * (1 - share)
        return (MODEL_DEVIATION**2 + expected_square) / 2

    def _run_variance(self, run: TrainingRun) -> float:
        """Variance of the mean log S of `run` from its seeds and its rate."""
        seed_variance = 0.0 if math.isnan(self.seed_variance) else self.seed_variance
        return seed_variance / len(run.updates) + rate_choice_variance()

    def _covariance(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Prior covariance [n, m] of log S at the batch sizes `rows` [n] and `columns` [m]."""
        first, second = self.log_distance(rows)[:, None], self.log_distance(columns)[None, :]
        walk = np.where(first * second > 0, np.minimum(np.abs(first), np.abs(second)), 0)
        slopes = self.slope(rows)[:, None] * self.slope(columns)[None, :]
        return PRIOR_VARIANCE + self.model_variance * walk + self.prior_variance * slopes

    @property
    def _trained(self) -> np.ndarray:
        return np.array([run.batch_size for run in self.runs], float)

    def _conditioned(self, covariance: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior deviation from the prior mean, and posterior variance, of m quantities [m].

        `covariance` [n, m] is theirs with log S of the n runs, `variance` [m, m] theirs with each other.
        """
        logs = np.array([run.log_updates.mean() for run in self.runs])
        error = np.diag([self._run_variance(run) for run in self.runs])
        weights = np.linalg.solve(self._covariance(self._trained, self._trained) + error, covariance)
        deviation = weights.T @ (logs - np.log(self.hyperbola(self._trained)))
        return deviation, np.maximum(np.diag(variance - weights.T @ covariance), 0)

    def log_updates(self, batch_sizes: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and variance [n] of the mean log S at `batch_sizes` [n]."""
        sizes = np.asarray(batch_sizes, float)
        deviation, variance = self._conditioned(
            self._covariance(self._trained, sizes), self._covariance(sizes, sizes)
        )
        return np.log(self.hyperbola(sizes)) + deviation, variance

    def updates(self, batch_size: int, trainings: int = 1, time_variance: float = 0.0) -> Interval:
        """S(B), with the interval of the geometric mean of further `trainings` at one rate, with held-out seeds.

        Student's t on log S, with the variances of the prediction, the seeds and the choice of the rate. Add
        `time_variance` for the interval of the training time over the update time. Without bounds from one seed.
        """
        (mean,), (variance,) = self.log_updates([batch_size])
        return self._interval(
            mean, variance + self.seed_variance / trainings + rate_choice_variance() + time_variance
        )

    def _interval(self, mean: float, variance: float) -> Interval:
        """The exponential of a Student's t interval with `degrees_of_freedom`; without bounds from one seed."""
        degrees = self.degrees_of_freedom
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * math.sqrt(variance) if degrees else math.nan
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
    pilot, scale = prediction.pilot, prediction.critical_batch_size.estimate
    rate = pilot.learning_rate * (1 + scale / pilot.batch_size) / (1 + scale / batch_size)
    larger = [run.learning_rate for run in prediction.further_runs if run.batch_size > pilot.batch_size]
    return min([rate, *([max(larger)] if larger else [])])
