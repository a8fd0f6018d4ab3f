"""Time an update and count its memory at every batch size, up to the limit of memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.benchmark import Timer

from suite.advise.measurements import Timing, TrainingRun
from suite.advise.memory import with_unit
from suite.backends import CPU, Backend
from suite.devices import out_of_memory
from suite.machine import without_paths
from suite.timing.quick_timings import fastest_threads, measure_threads
from suite.training.budgets import EqualEpochs
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

ROUNDS, TRAINING_ROUNDS = 5, 3
"""Rounds of timed updates, and of timed trainings."""
MIN_UPDATES, MIN_RUN_TIME_S = 2, 0.005
"""Updates of a batch size in a round, at least, and their total time after the first round."""
SLOW_S, SLOW_TRAINING_S = 0.5, 0.3
"""An update, and a training, that takes longer is timed in one round only."""


def batch_sizes(examples: int) -> list[int]:
    """The powers of two up to `examples`, and `examples`."""
    return sorted({*(2**power for power in range(examples.bit_length())), examples})


class Updates:
    """The updates of a training from its start, each with its own batch of `data`.

    `data` is already split, and on the backend's device.
    """

    def __init__(self, workload: Workload, data: Data, backend: Backend, batch_size: int, learning_rate: float):
        self.backend, self.loss = backend, workload.loss
        self.model = workload.initial_model(0).to(backend.device.torch_device).train()
        protocol = Protocol.of(workload, EqualEpochs(1), learning_rate=learning_rate)
        self.optimizer = protocol.optimizer.make(self.model, learning_rate)
        self.batches = endless_batches(workload, data, protocol, batch_size, replica=0)

    def updates(self, count: int) -> None:
        """Make `count` updates, then wait for the device once."""
        for _ in range(count):
            update(self.backend, self.model, self.loss, self.optimizer, *next(self.batches))
        self.backend.device.synchronize()

    def peak_bytes(self) -> int:
        """Return the peak memory of parameters, gradients and everything else that an update allocates, in bytes."""
        parameters = sum(parameter.nbytes for parameter in self.model.parameters())
        return parameters + self.backend.device.peak_bytes(lambda: self.updates(1))

    def mean_seconds(self, threads: int, count: int) -> float:
        """Return the mean seconds of an update over `count` updates, after a few that are not timed."""
        return Timer("timed.updates(1)", globals={"timed": self}, num_threads=threads).timeit(count).mean


def threads_for(workload: Workload, data: Data, backend: Backend) -> int:
    """The number of threads for the backend: on `cpu` the fastest for Small, middle and Large, else one."""
    sizes = tuple(sorted({workload.small, workload.middle, workload.large}))  # measure_threads takes every second one
    return fastest_threads(measure_threads(replace(workload, batch_sizes=sizes), data)) if backend is CPU else 1


def time_updates(
    workload: Workload,
    data: Data,
    backend: Backend,
    threads: int,
    sizes: Sequence[int],
    rounds: int = ROUNDS,
    min_run_time_s: float = MIN_RUN_TIME_S,
) -> list[Timing]:
    """Time an update of each batch size in `sizes`, ascending, with `threads` threads.

    The batch sizes take turns in `rounds`, so that a slow moment of the machine affects all of them. From the first
    one that does not fit into memory on, none is run. One model at a time is in memory.
    """
    data = workload.replica_data(data, 0).to(backend.device.torch_device)

    def updates(size: int) -> Updates:
        return Updates(workload, data, backend, size, workload.learning_rate)

    timings: list[Timing] = []
    for size in sizes:
        timing = _memory_of(updates, backend, size, timings)
        if timing.status != "ok":
            failed = [replace(timing, batch_size=larger) for larger in sizes if larger >= size]
            return [*_timed(updates, threads, timings, rounds, min_run_time_s), *failed]
        timings.append(timing)
    return _timed(updates, threads, timings, rounds, min_run_time_s)


def _memory_of(updates: Callable[[int], Updates], backend: Backend, size: int, smaller: Sequence[Timing]) -> Timing:
    """The memory of an update of `size`, or the reason why it does not fit.

    An update that is expected to need more than the free memory, by extrapolation from `smaller`, is not run.
    """
    expected, free = _expected_bytes(smaller, size), backend.device.free_bytes()
    if expected > free:
        reason = f"an update needs {with_unit(expected)}, {with_unit(free)} are free"
        return Timing(size, status="out_of_memory", reason=reason)
    try:
        return Timing(size, peak_bytes=updates(size).peak_bytes())
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = without_paths(str(error).strip().splitlines()[0]) if str(error).strip() else "no memory left"
        return Timing(size, status="out_of_memory", reason=reason)


def _expected_bytes(smaller: Sequence[Timing], size: int) -> float:
    """Extrapolate the memory of an update of `size` linearly from the last two of `smaller`; 0 from fewer."""
    if len(smaller) < 2:
        return 0
    first, second = smaller[-2:]
    slope = (second.peak_bytes - first.peak_bytes) / (second.batch_size - first.batch_size)
    return second.peak_bytes + slope * (size - second.batch_size)


def _timed(
    updates: Callable[[int], Updates], threads: int, timings: Sequence[Timing], rounds: int, min_run_time_s: float
) -> list[Timing]:
    """`timings` with their times."""
    seconds: dict[int, list[float]] = {timing.batch_size: [] for timing in timings}
    for _ in range(rounds):
        for size, times_s in seconds.items():
            if not times_s or times_s[0] < SLOW_S:
                count = math.ceil(min_run_time_s / times_s[0]) if times_s else 1
                times_s.append(updates(size).mean_seconds(threads, max(MIN_UPDATES, count)))
    return [replace(timing, times_s=tuple(seconds[timing.batch_size])) for timing in timings]


def training_update_seconds(
    workload: Workload, data: Data, backend: Backend, threads: int, runs: Sequence[TrainingRun]
) -> list[float]:
    """Mean seconds of an update over a whole training, at the learning rate and with the updates of each of `runs`.

    Medians over rounds in which the runs take turns; one round where a training is slow. `data` is already split.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(TRAINING_ROUNDS):
        for run, times_s in zip(runs, seconds, strict=True):
            count = math.ceil(run.typical_updates)
            if not times_s or times_s[0] * count < SLOW_TRAINING_S:
                updates = Updates(workload, data, backend, run.batch_size, run.learning_rate)
                times_s.append(updates.mean_seconds(threads, count))
    return [float(np.median(times_s)) for times_s in seconds]
