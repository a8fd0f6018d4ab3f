"""How long an update takes, batch size after batch size, up to the limit of memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.benchmark import Timer

from suite.advise.measured import Timing, Trained
from suite.advise.memory import in_words, peak_bytes
from suite.backends import CPU, Backend
from suite.machine import without_paths
from suite.out_of_memory import out_of_memory
from suite.quick_timings import fastest_threads, measure_threads
from suite.training.plain import endless_batches
from suite.training.protocol import EqualEpochs, Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

ROUNDS, TRAINING_ROUNDS, FEWEST = 5, 3, 2
MIN_RUN_TIME_S = 0.005
"""Of a batch size in a round, but for the first, of a few updates."""
SLOW_S, SLOW_TRAINING_S = 0.5, 0.3
"""An update, and a training, that takes longer is timed in one round only."""


def batch_sizes(examples: int) -> list[int]:
    """1, 2, 4, ... and all examples."""
    return sorted({*(2**power for power in range(examples.bit_length())), examples})


class Updates:
    """The updates of a training from its start, each of which fetches its own batch from `data`, which lies on the
    backend's device and is already split."""

    def __init__(self, workload: Workload, data: Data, backend: Backend, batch_size: int, learning_rate: float):
        self.backend, self.loss = backend, workload.loss
        self.model = workload.initial_model(0).to(backend.device.torch_device).train()
        protocol = Protocol.of(workload, EqualEpochs(1), learning_rate=learning_rate)
        self.optimizer = protocol.optimizer.make(self.model, learning_rate)
        self.batches = endless_batches(workload, data, protocol, batch_size, replica=0)

    def updates(self, count: int) -> None:
        """`count` of them, then one wait for the device."""
        for _ in range(count):
            update(self.backend, self.model, self.loss, self.optimizer, *next(self.batches))
        self.backend.device.synchronize()


def threads_for(workload: Workload, data: Data, backend: Backend) -> int:
    """How many threads suit the backend: on `cpu` the number that is fastest for Small and Large, else one."""
    few = tuple(sorted({workload.small, workload.middle, workload.large}))  # every other one is timed
    return fastest_threads(measure_threads(replace(workload, batch_sizes=few), data)) if backend is CPU else 1


def time_updates(
    workload: Workload, data: Data, backend: Backend, threads: int, sizes: Sequence[int]
) -> list[Timing]:
    """Time an update of each of `sizes`, ascending, in rounds, so that a slow moment of the machine meets all of
    them. From the first on that does not fit into memory, none is run. One model at a time lies in memory."""
    torch.set_num_threads(threads)
    data = workload.replica_data(data, 0).to(backend.device.torch_device)

    def updates(size: int) -> Updates:
        return Updates(workload, data, backend, size, workload.learning_rate)

    timings: list[Timing] = []
    for size in sizes:
        found = _tried(updates, backend, size, timings)
        if found.status != "ok":
            return [*_timed(updates, threads, timings), *_never_run(sizes, found)]
        timings.append(found)
    return _timed(updates, threads, timings)


def _tried(updates: Callable[[int], Updates], backend: Backend, size: int, before: Sequence[Timing]) -> Timing:
    """The bytes that an update of `size` took, or why it does not fit. One that would need more than is free, going
    by the two sizes `before`, is not tried."""
    needed, free = _expected_bytes(before, size), backend.device.free_bytes()
    if needed > free:
        return Timing(size, status="out_of_memory", reason=f"needs {in_words(needed)}, {in_words(free)} are free")
    try:
        return Timing(size, peak_bytes=peak_bytes(updates(size)))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = without_paths(str(error).strip().splitlines()[0]) if str(error).strip() else "no memory left"
        return Timing(size, status="out_of_memory", reason=reason)


def _expected_bytes(before: Sequence[Timing], size: int) -> float:
    """What an update of `size` takes if it goes on growing as from the last but one to the last."""
    if len(before) < 2:
        return 0
    less, more = before[-2:]
    growth = (more.peak_bytes - less.peak_bytes) / (more.batch_size - less.batch_size)
    return more.peak_bytes + growth * (size - more.batch_size)


def _timed(updates: Callable[[int], Updates], threads: int, timings: Sequence[Timing]) -> list[Timing]:
    seconds: dict[int, list[float]] = {timing.batch_size: [] for timing in timings}
    for _ in range(ROUNDS):
        for size, times_s in seconds.items():
            if not times_s or times_s[0] < SLOW_S:
                count = math.ceil(MIN_RUN_TIME_S / times_s[0]) if times_s else 1
                times_s.append(_mean_seconds(updates(size), threads, max(FEWEST, count)))
    return [replace(timing, times_s=tuple(seconds[timing.batch_size])) for timing in timings]


def _mean_seconds(updates: Updates, threads: int, count: int) -> float:
    """Of an update, over `count` of them after a few that are not timed."""
    return Timer("timed.updates(1)", globals={"timed": updates}, num_threads=threads).timeit(count).mean


def _never_run(sizes: Sequence[int], first: Timing) -> list[Timing]:
    return [Timing(size, status=first.status, reason=first.reason) for size in sizes if size >= first.batch_size]


def training_times(
    workload: Workload, data: Data, backend: Backend, threads: int, trained: Sequence[Trained]
) -> list[float]:
    """Seconds of an update over a whole training at the rate and to the updates of each of `trained`, on one split:
    medians over rounds in which they take turns, one round where a training is slow."""
    rounds: list[list[float]] = [[] for _ in trained]
    for _ in range(TRAINING_ROUNDS):
        for one, seconds in zip(trained, rounds, strict=True):
            count = math.ceil(one.typical_updates)
            if not seconds or seconds[0] * count < SLOW_TRAINING_S:
                updates = Updates(workload, data, backend, one.batch_size, one.learning_rate)
                seconds.append(_mean_seconds(updates, threads, count))
    return [float(np.median(seconds)) for seconds in rounds]
