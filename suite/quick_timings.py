"""Quick timings that decide how something is measured; none of them is a result of the table.

Taken with torch.utils.benchmark. How many threads suit the CPU, how often asv should repeat an update,
and which batch sizes one example at a time would take too long for.
"""

import math
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
from torch.utils.benchmark import Timer

from suite.backends import CPU, SEQUENTIAL
from suite.cells import Cell, Measurement
from suite.timings import Timed
from suite.workloads import Data, Workload

THREAD_ROUNDS = 5
SLOW_S = 0.1
"""An update that takes longer is slow."""


def update_seconds(timed: Timed, threads: int, min_run_time_s: float) -> float:
    """Median seconds of one update, over at least two and at least `min_run_time_s`."""
    timer = Timer("timed.updates(1)", globals={"timed": timed}, num_threads=threads)
    if min_run_time_s == 0:
        return timer.timeit(2).median
    return timer.blocked_autorange(min_run_time=min_run_time_s).median


def one_thread_update_seconds(timed: Timed, min_run_time_s: float) -> float:
    """Mean seconds of one update on one thread, over as many as fill `min_run_time_s`: how many follows from the
    faster of two tries. Sooner done than a search for that number; beside other work it would err for more threads.
    """
    timer = Timer("timed.updates(1)", globals={"timed": timed}, num_threads=1)
    seconds = min(timer.timeit(1).mean for _ in range(2))
    updates = math.ceil(min_run_time_s / seconds)
    return timer.timeit(updates).mean if updates > 2 else seconds


def sequential_example_seconds(workload: Workload) -> float:
    """Seconds that one example takes on `sequential`, nearly the same in a batch of any size."""
    few = min(16, workload.large)
    timed = Timed(workload, SEQUENTIAL, "resident", few)
    return one_thread_update_seconds(timed, min_run_time_s=0.02) / few


def measure_threads(workload: Workload, data: Data, cell: Cell | None = None) -> pd.DataFrame:
    """A row per round, batch size (every other one) and number of threads: `round`, `examples` (of the batch),
    `threads`, `time_s` of one update. Numbers of threads take turns, so that a slow moment of the machine meets all
    of them. The first batch size whose update is slow is timed once, and is the last."""
    rows = pd.DataFrame(_thread_rounds(workload), columns=["round", "examples", "threads", "time_s"])
    return rows.assign(status="ok")


def _thread_rounds(workload: Workload) -> Iterator[tuple[int, int, int, float]]:
    counts = [2**power for power in range((os.cpu_count() or 1).bit_length())]
    for batch_size in workload.batch_sizes[::2]:
        timed = {count: Timed(workload, CPU, "resident", batch_size, count) for count in counts}
        for turn in range(THREAD_ROUNDS):
            times_s = {count: update_seconds(timed[count], count, 0.005) for count in counts}
            yield from ((turn, batch_size, count, time_s) for count, time_s in times_s.items())
            if max(times_s.values()) > SLOW_S:
                return


def fastest_threads(rows: pd.DataFrame) -> int:
    """The number of threads with the least geometric mean, over the batch sizes, of the median update time.

    More threads must win by 5%, so that a tie goes to the fewer.
    """
    medians = rows.groupby(["threads", "examples"])["time_s"].median()
    means = np.exp(np.log(medians).groupby("threads").mean())
    best = means.index[0]
    for threads in means.index[1:]:
        if means[threads] < 0.95 * means[best]:
            best = threads
    return int(best)


THREADS = Measurement("threads", version=4, measure=measure_threads, timed=True)
