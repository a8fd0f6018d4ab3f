"""What an advice is made from: how long an update takes at each batch size, and trainings to the target at a few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from suite.instruments.noise_scale import Effective
from suite.statistics import affine_fit, half_performance_batch


@dataclass(frozen=True)
class Timing:
    """Updates of one batch size, or why there are none."""

    batch_size: int
    times_s: tuple[float, ...] = ()
    """Seconds of an update, a value a round."""
    peak_bytes: float = math.nan
    """The most that model, gradients and whatever an update makes take at once; the data set not counted."""
    status: str = "ok"
    reason: str = ""

    @property
    def update_s(self) -> float:
        return float(np.median(self.times_s)) if self.times_s else math.nan

    @property
    def log_variance(self) -> float:
        """Variance of the logarithm of an update's time from round to round."""
        return float(np.var(np.log(self.times_s), ddof=1)) if len(self.times_s) > 1 else 0.0


def run(timings: Sequence[Timing]) -> list[Timing]:
    """Those that could be run."""
    return [timing for timing in timings if timing.status == "ok"]


def fit(timings: Sequence[Timing]) -> tuple[float, float]:
    """Seconds of an update and seconds more of each of its examples: a and b of t(B) = a + b B."""
    return affine_fit([one.batch_size for one in run(timings)], [one.update_s for one in run(timings)])


def half_performance(timings: Sequence[Timing]) -> float:
    """a / b of the same, in examples; infinite where no growth with the batch is seen."""
    return half_performance_batch([one.batch_size for one in run(timings)], [one.update_s for one in run(timings)])


LOOP_ERROR = 0.1
"""Standard deviation of the log of what `in_trainings` finds, from batch size to batch size, before it was looked at;
it then counts as one look."""


@dataclass(frozen=True)
class Trained:
    """Replicas trained to the target with one batch size at one rate."""

    batch_size: int
    learning_rate: float
    updates: tuple[float, ...]
    """Updates to the target, a value a replica; infinite where it was not reached."""
    along: tuple[Effective, ...] = ()
    """What the noise scale along each of them comes to; empty where it was not looked at."""
    rates: tuple[float, ...] = ()
    """The rates that were tried, ascending."""
    lowest_loss: float = math.nan
    """The least training loss that a trial ended with."""
    update_s: float = math.nan
    """Mean seconds of an update in such a training, from the start to the target; nan where it was not timed."""

    @property
    def reached(self) -> bool:
        return all(map(math.isfinite, self.updates))

    @property
    def at_start(self) -> bool:
        """Whether some replica is at the target before any update."""
        return min(self.updates) == 0

    @property
    def logs(self) -> np.ndarray:
        """Of the updates; no training takes less than one."""
        return np.log(np.maximum(self.updates, 1))

    @property
    def typical_updates(self) -> float:
        """Geometric mean over the replicas."""
        return float(np.exp(self.logs.mean()))

    @property
    def time_s(self) -> float:
        """Seconds to the target; infinite where it was not reached."""
        return self.typical_updates * self.update_s if self.reached else math.inf


def in_trainings(timings: Sequence[Timing], trained: Sequence[Trained]) -> tuple[float, float]:
    """How many times as long an update takes in a training as it was timed by itself: the geometric mean over what
    was `trained` and timed, 1 without any, and the variance of its logarithm at a further batch size."""
    alone = {timing.batch_size: timing.update_s for timing in run(timings)}
    logs = np.array([math.log(one.update_s / alone[one.batch_size]) for one in trained if one.update_s > 0])
    n, mean = len(logs), float(logs.mean()) if len(logs) else 0.0
    variance = (LOOP_ERROR**2 + float(((logs - mean) ** 2).sum())) / max(1, n)
    return math.exp(mean), variance * (1 + 1 / max(1, n))


class Trainer(Protocol):
    """Who trains for an advice: `suite.advise.training.Replicas`, or what a test puts in its place."""

    as_timed: bool
    """Whether it trains where updates are timed, so that these times are what its trainings cost."""

    def noise_scale_at_start(self) -> float:
        """tr(Sigma) / |G|^2 at the initial parameters, in examples."""

    def anchored(self, batch_size: int) -> Trained:
        """Replicas at a rate tuned widely around the workload's, with the noise scale along each."""

    def trained(self, batch_size: int, learning_rate: float, expected_updates: float, fresh: bool = True) -> Trained:
        """Replicas at the best of `learning_rate`, its half, its double, and further where that is best; others than
        the anchor's if `fresh`. Given up after some times the `expected_updates`."""

    def at_rate(self, batch_size: int, learning_rate: float, expected_updates: float) -> Trained:
        """Fresh replicas at this rate, with no other tried."""

    def refined(self, trained: Trained) -> Trained:
        """The same fresh replicas as a check's at the rate of what was `trained` times or over a root of two, where
        either was better when tried; what was `trained` itself where neither was."""

    def update_seconds(self, trained: Sequence[Trained]) -> list[float]:
        """Seconds of an update in each of such trainings, timed from the start to the target, in turns."""
