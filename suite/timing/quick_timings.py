"""Quick timings that decide how to measure; none of them is a result of the table.

Taken with torch.utils.benchmark: the number of threads that suits the CPU, how often asv should repeat an update, and
the batch sizes that would take too long one example at a time.
"""

import math
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
from torch.utils.benchmark import Timer

from suite.backends import CPU, SEQUENTIAL
from suite.experiments.cell import RESIDENT, Cell, Measurement
from suite.experiments.columns import COUNT, POSITIVE_OR_ZERO
from suite.timing.timed import Timed
from suite.workloads import Data, Workload

THREAD_ROUNDS = 5
SLOW_S = 0.1
"""Seconds of an update from which on it counts as slow."""
LEAST_GAIN = 0.05
"""More threads must be faster by this share, so that a tie goes to the fewer."""


def update_seconds(timed: Timed, threads: int, min_run_time_s: float) -> float:
    """Median seconds of one update, over at least two updates and at least `min_run_time_s`."""
    timer = Timer("timed.updates(1)", globals={"timed": timed}, num_threads=threads)
    if min_run_time_s == 0:
        return timer.timeit(2).median
    return timer.blocked_autorange(min_run_time=min_run_time_s).median


def one_thread_update_seconds(timed: Timed, min_run_time_s: float) -> float:
    """Mean seconds of one update on one thread, over as many updates as fill `min_run_time_s`; their number follows
    from the faster of two trials. Faster than a search for that number, which several threads would need beside other
    work."""
    timer = Timer("timed.updates(1)", globals={"timed": timed}, num_threads=1)
    seconds = min(timer.timeit(1).mean for _ in range(2))
    updates = math.ceil(min_run_time_s / seconds)
    return timer.timeit(updates).mean if updates > 2 else seconds


def sequential_example_seconds(workload: Workload, data: Data) -> float:
    """Seconds per example on `sequential`, nearly the same in a batch of any size; `data` is already split."""
    batch_size = min(16, workload.large)
    timed = Timed(workload, data, SEQUENTIAL, RESIDENT, batch_size)
    return one_thread_update_seconds(timed, min_run_time_s=0.02) / batch_size


def measure_threads(workload: Workload, data: Data, cell: Cell | None = None, slow_s: float = SLOW_S) -> pd.DataFrame:
    """Return a row per round, batch size (every second one) and number of threads: `round`, `examples` (of the
    batch), `threads`, `time_s` of one update. Numbers of threads take turns, so that a slow moment of the machine
    meets all of them. The first batch size whose update takes longer than `slow_s` is timed once, and is the last."""
    timings = _thread_rounds(workload, workload.replica_data(data, 0), slow_s)
    return pd.DataFrame(timings, columns=["round", "examples", "threads", "time_s"]).assign(status="ok")


def _thread_rounds(workload: Workload, data: Data, slow_s: float) -> Iterator[tuple[int, int, int, float]]:
    counts = [2**power for power in range((os.cpu_count() or 1).bit_length())]
    for batch_size in workload.batch_sizes[::2]:
        timed = Timed(workload, data, CPU, RESIDENT, batch_size)
        for turn in range(THREAD_ROUNDS):
            times_s = {count: update_seconds(timed, count, 0.005) for count in counts}
            yield from ((turn, batch_size, count, time_s) for count, time_s in times_s.items())
            if max(times_s.values()) > slow_s:
                return


def fastest_threads(rows: pd.DataFrame) -> int:
    """The number of threads with the lowest geometric mean, over the batch sizes, of the median update time; more
    threads win only by LEAST_GAIN."""
    medians = rows.groupby(["threads", "examples"])["time_s"].median()
    means = np.exp(np.log(medians).groupby("threads").mean())
    best = means.index[0]
    for threads in means.index[1:]:
        if means[threads] < (1 - LEAST_GAIN) * means[best]:
            best = threads
    return int(best)


THREADS = Measurement(
    "threads",
    version=4,
    columns={**dict.fromkeys(("round", "examples", "threads"), COUNT), "time_s": POSITIVE_OR_ZERO},
    measure=measure_threads,
    timed=True,
)
