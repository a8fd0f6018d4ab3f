"""The measurements behind a recommendation: update times at every batch size, trainings to the target at a few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from suite.instruments.noise_scale import Effective
from suite.statistics import affine_fit, half_performance_batch

OVERHEAD_DEVIATION = 0.1
"""Prior standard deviation of log `loop_overhead` between batch sizes. It counts as one observation."""


@dataclass(frozen=True)
class Timing:
    """The update times of one batch size, or the reason why there are none."""

    batch_size: int
    times_s: tuple[float, ...] = ()
    """Seconds of an update, one value a round."""
    peak_bytes: float = math.nan
    """Peak memory of parameters, gradients and everything else that an update allocates, without the data set."""
    status: str = "ok"
    reason: str = ""

    @property
    def update_s(self) -> float:
        return float(np.median(self.times_s)) if self.times_s else math.nan

    @property
    def log_variance(self) -> float:
        """Variance of log update time between rounds."""
        return float(np.var(np.log(self.times_s), ddof=1)) if len(self.times_s) > 1 else 0.0


def successful(timings: Sequence[Timing]) -> list[Timing]:
    """The timings of the batch sizes that fit into memory."""
    return [timing for timing in timings if timing.status == "ok"]


def fit(timings: Sequence[Timing]) -> tuple[float, float]:
    """Fit t(B) = a + b B to the update times and return a (seconds) and b (seconds per example)."""
    return affine_fit(*_sizes_and_times(timings))


def half_performance(timings: Sequence[Timing]) -> float:
    """The half-performance batch a / b in examples; infinite where the update time does not grow with B."""
    return half_performance_batch(*_sizes_and_times(timings))


def _sizes_and_times(timings: Sequence[Timing]) -> tuple[list[int], list[float]]:
    timings = successful(timings)
    return [timing.batch_size for timing in timings], [timing.update_s for timing in timings]


@dataclass(frozen=True)
class TrainingRun:
    """Replicas trained to the target loss at one batch size and one learning rate."""

    batch_size: int
    learning_rate: float
    updates: tuple[float, ...]
    """Updates to the target, one value a replica; infinite where the replica did not reach it."""
    noise: tuple[Effective, ...] = ()
    """The gradient noise along each replica's training; empty where it was not measured."""
    learning_rates: tuple[float, ...] = ()
    """All learning rates that were tried, ascending."""
    lowest_loss: float = math.nan
    """The lowest final training loss among the trials."""
    update_s: float = math.nan
    """Mean seconds of an update in a whole training at this rate; NaN where it was not timed."""

    @property
    def reached(self) -> bool:
        """Whether every replica reached the target."""
        return all(map(math.isfinite, self.updates))

    @property
    def reached_at_start(self) -> bool:
        """Whether some replica is at the target before its first update."""
        return min(self.updates) == 0

    @property
    def log_updates(self) -> np.ndarray:
        """Log of the updates, one value a replica. A training counts as one update at least."""
        return np.log(np.maximum(self.updates, 1))

    @property
    def typical_updates(self) -> float:
        """Geometric mean of the updates over the replicas."""
        return float(np.exp(self.log_updates.mean()))

    @property
    def time_s(self) -> float:
        """Seconds to the target; infinite where some replica did not reach it."""
        return self.typical_updates * self.update_s if self.reached else math.inf


def loop_overhead(timings: Sequence[Timing], runs: Sequence[TrainingRun]) -> tuple[float, float]:
    """Estimate the ratio of an update's time within a training to its time alone.

    Return the geometric mean over `runs` (1 where none was timed), and the variance of the ratio's logarithm at a
    further batch size.
    """
    alone_s = {timing.batch_size: timing.update_s for timing in successful(timings)}
    logs = np.array([math.log(run.update_s / alone_s[run.batch_size]) for run in runs if run.update_s > 0])
    n, mean = len(logs), float(logs.mean()) if len(logs) else 0.0
    variance = (OVERHEAD_DEVIATION**2 + float(((logs - mean) ** 2).sum())) / max(1, n)
    return math.exp(mean), variance * (1 + 1 / max(1, n))


class Trainer(Protocol):
    """Trains for a recommendation: `suite.advise.training.Replicas`, or a substitute in tests."""

    trains_as_timed: bool
    """Whether trainings and timed updates use the same backend, so that update times give its cost."""

    def initial_noise_scale(self) -> float:
        """The gradient noise scale tr(Σ) / |G|² at initialisation, in examples."""

    def pilot_run(self, batch_size: int) -> TrainingRun:
        """Train at a rate tuned widely around the workload's, and measure the gradient noise along each replica."""

    def tuned_run(
        self, batch_size: int, learning_rate: float, expected_updates: float, held_out: bool = True
    ) -> TrainingRun:
        """Train at the best of `learning_rate`, its half and its double, and beyond where the best lies on the edge.

        Use held-out seeds, or those of the pilot run. Give up after a multiple of `expected_updates`.
        """

    def run_at_rate(self, batch_size: int, learning_rate: float, expected_updates: float) -> TrainingRun:
        """Train with held-out seeds at `learning_rate`, without trials."""

    def refined_run(self, run: TrainingRun) -> TrainingRun:
        """Train with held-out seeds at √2 times, or 1/√2 of, the rate of `run`, if that wins the trials; else return
        `run` itself."""

    def update_seconds(self, runs: Sequence[TrainingRun]) -> list[float]:
        """Mean seconds of an update in each of `runs`, timed from the start to the target, in turns."""
