"""Measuring cells in processes on this machine."""

import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import joblib
import pandas as pd
from joblib.externals.loky.process_executor import TerminatedWorkerError

from suite import interrupt
from suite.experiments.cell import Cell
from suite.runs.worker import failed, measure_in_worker, provenance
from suite.status import Status


def measure_all(cells: list[tuple[str, Cell, str]], workers: int) -> Iterator[tuple[int, pd.DataFrame, dict]]:
    """Measure cells in `workers` processes, and yield (index, rows, provenance) as each is done. Each comes with the
    source of its workload and the hash of its examples.

    When a process is killed, as Linux does where memory runs out, nobody knows which cell was the cause: the cells
    left are then measured one at a time.
    """
    left = dict(enumerate(cells))
    # joblib renews a worker whose memory has grown
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
    tasks = (joblib.delayed(measure_in_worker)(index, *cell) for index, cell in enumerate(cells))
    parallel = joblib.Parallel(n_jobs=workers, batch_size=1, pre_dispatch="2*n_jobs", return_as="generator_unordered")
    try:
        with interrupt.blocked():
            measured_cells = parallel(tasks)
        for index, rows, cell_provenance in measured_cells:
            del left[index]
            yield index, rows, cell_provenance
    except TerminatedWorkerError:
        for index, cell in left.items():
            yield _measure_alone(index, cell)


def _measure_alone(index: int, cell: tuple[str, Cell, str]) -> tuple[int, pd.DataFrame, dict]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        try:
            with interrupt.blocked():
                task = alone.submit(measure_in_worker, index, *cell)
            return task.result()
        except BrokenProcessPool:
            rows = failed(Status.OUT_OF_MEMORY, MemoryError("the process that measured it was killed"))
            return index, rows, provenance(rows, 0)
