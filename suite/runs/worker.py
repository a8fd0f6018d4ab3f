"""Measuring one cell in a worker process. Workers import this module alone, and never claims or figures."""

import os
import threading
import time
import warnings
from functools import cache

import pandas as pd
import torch

from suite import machine
from suite.devices import out_of_memory
from suite.experiments.cell import Cell
from suite.status import Status
from suite.workloads import Data, Workload, find
from suite.workloads.data_home import DataWarning


def measure_in_worker(parent: int, index: int, source: str, cell: Cell) -> tuple[int, pd.DataFrame, dict]:
    """`measure` in a process that ends when `parent` dies, with the cell's `index` in front."""
    _end_with(parent)
    return index, *measure(source, cell)


def measure(source: str, cell: Cell) -> tuple[pd.DataFrame, dict]:
    """Measure a cell on one thread, and return its rows and their provenance. A failure is a row with a status and a
    reason."""
    torch.set_num_threads(1)
    workload, data = _load(source)
    started = time.monotonic()
    try:
        rows = cell.measurement.measure(workload, data, cell)
    except (Exception, SystemExit) as error:
        rows = failed(Status.OUT_OF_MEMORY if out_of_memory(error) else Status.UNAVAILABLE, error)
    return rows, provenance(rows, time.monotonic() - started)


def provenance(rows: pd.DataFrame, duration_s: float) -> dict:
    """The provenance of `rows` that this process measured in `duration_s` seconds."""
    threads = int(rows["threads"].max()) if "threads" in rows else 1
    return machine.provenance(threads, duration_s)


def failed(status: Status, error: BaseException) -> pd.DataFrame:
    """The row of a cell that could not be measured."""
    reason = machine.without_paths(" ".join(f"{type(error).__name__}: {error}".split()))
    return pd.DataFrame([{"status": status, "reason": reason[:200]}])


@cache
def _load(source: str) -> tuple[Workload, Data]:
    workload = find(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the plan has said so
        return workload, workload.load()


@cache
def _end_with(parent: int) -> None:
    """End this process when `parent` dies: nobody would store the cell."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    if os.getpid() != parent:
        threading.Thread(target=watch, daemon=True).start()
