"""The cost of the suite's fast paths against a frozen yardstick: ratios of seconds, in turns in one process.

Two processes on a shared machine differ by tens of percent in every time, and by two percent in such a ratio. One
thread each. The denominator is always `benchmarks.frozen`, which is no part of the suite: a faster plain update makes
no ensemble look slower.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.benchmark import Timer

from benchmarks.frozen import FrozenNetwork, examples
from benchmarks.gate.judge import log_ratio
from suite.backends import CPU
from suite.instruments.gradient_pass import gradient_statistics
from suite.optimizers import Optimizer, adamw, sgd
from suite.training.ensemble import Ensemble
from suite.training.update import update
from suite.workloads import find

SLICE_S = 0.004
"""Seconds of one reading: short beside a scheduler's time slice."""
READINGS = 32
REPLICAS, REPLICA_BATCH = 64, 4


@dataclass
class Pair:
    """Two calls, whose times are divided."""

    numerator: Callable[[], None]
    yardstick: Callable[[], None]
    share: float = 1.0
    """The share of the numerator's time that counts."""


def update_pair(batch_size: int) -> Pair:
    """The suite's update against the frozen update, on the same batch."""
    inputs, targets = (part[:batch_size] for part in examples())
    workload = find("digits")
    model = workload.initial_model(0).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    suite_update = partial(update, CPU, model, workload.loss, optimizer, inputs, targets)
    return Pair(suite_update, partial(FrozenNetwork().update, inputs, targets))


def ensemble_pair(optimizer: Optimizer) -> Pair:
    """One replica's update in an ensemble against a frozen update, on batches of the same size."""
    inputs, targets = examples()
    generator = torch.Generator().manual_seed(2)
    batches = torch.stack([torch.randperm(len(inputs), generator=generator) for _ in range(REPLICAS)])
    batches = batches[:, :REPLICA_BATCH].contiguous()
    ensemble = Ensemble(find("digits"), range(REPLICAS), 0.01, optimizer)
    ensemble.compile(inputs, targets, REPLICA_BATCH)
    frozen_update = partial(FrozenNetwork().update, inputs[batches[0]], targets[batches[0]])
    return Pair(partial(ensemble.update, inputs, targets, batches), frozen_update, 1 / REPLICAS)


def noise_pair() -> Pair:
    """The pass that computes the covariance of gradients against a frozen one that computes their mean alone."""
    inputs, targets = (part[:512] for part in examples())
    workload = find("digits")
    statistics = partial(gradient_statistics, workload.initial_model(0), workload.loss, inputs, targets)
    return Pair(statistics, partial(FrozenNetwork().gradient, inputs, targets))


PAIRS = {
    "update, batch size 32": partial(update_pair, 32),
    "update, batch size 1024": partial(update_pair, 1024),
    "ensemble's update, batch size 4": partial(ensemble_pair, sgd()),
    "ensemble's update by AdamW, batch size 4": partial(ensemble_pair, adamw()),
    "gradient noise's pass": noise_pair,
}


class Readings:
    """Readings of a pair in turns, in seconds per call."""

    def __init__(self, pair: Pair):
        calls = (pair.numerator, pair.yardstick)
        for call in calls:
            call()
        self.timers = [Timer("f()", globals={"f": call}, num_threads=1) for call in calls]
        self.shares = (pair.share, 1.0)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        once = [timer.blocked_autorange(min_run_time=5 * SLICE_S).median for timer in self.timers]
        numbers = [max(1, round(SLICE_S / seconds)) for seconds in once]
        while True:
            times = [timer.timeit(number).median for timer, number in zip(self.timers, numbers, strict=True)]
            yield tuple(share * time for share, time in zip(self.shares, times, strict=True))


class Ratio:
    version = "1"
    params = (list(PAIRS),)
    param_names = ("of",)
    unit = "measured / frozen"
    timeout = 600

    def track_ratio(self, of):
        readings = iter(Readings(PAIRS[of]()))
        return float(np.exp(log_ratio([next(readings) for _ in range(READINGS)])))
