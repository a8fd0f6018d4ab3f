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
from suite.errors import UserError, last_line
from suite.experiments.cell import Cell
from suite.status import Status
from suite.workloads import Data, Workload, find
from suite.workloads.data_home import DataWarning
from suite.workloads.fingerprint import data_fingerprint
from suite.workloads.load import load_once


def measure_in_worker(
    parent: int, index: int, source: str, cell: Cell, data_hash: str
) -> tuple[int, pd.DataFrame, dict]:
    """`measure` in a process that ends when `parent` dies, with the cell's `index` in front.

    Raises UserError when the examples are others than those with the `data_hash`.
    """
    _end_with(parent)
    _check_examples(source, data_hash)
    return index, *measure(source, cell)


@cache
def _check_examples(source: str, data_hash: str) -> None:
    workload, data = _load(source)
    if data_fingerprint(data) != data_hash:
        raise UserError(
            f"workload {workload.name}: load() returns other examples in another process: seed its random numbers, "
            "for example with torch.Generator().manual_seed(0)"
        )


def measure(source: str, cell: Cell) -> tuple[pd.DataFrame, dict]:
    """Measure a cell on one thread, and return its rows and their provenance. A failure is a row with a status and a
    reason."""
    torch.set_num_threads(1)
    workload, data = _load(source)
    started = time.monotonic()
    try:
        rows = cell.measurement.measure(workload, data, cell)
        cell.table(rows)
    except (Exception, SystemExit) as error:
        rows = failed(Status.OUT_OF_MEMORY if out_of_memory(error) else Status.UNAVAILABLE, error)
    return rows, provenance(rows, time.monotonic() - started)


def provenance(rows: pd.DataFrame, duration_s: float) -> dict:
    """The provenance of `rows` that this process measured in `duration_s` seconds."""
    threads = int(rows["threads"].max()) if "threads" in rows else 1
    return machine.provenance(threads, duration_s)


def failed(status: Status, error: BaseException) -> pd.DataFrame:
    """The row of a cell that could not be measured."""
    reason = machine.without_paths(" ".join(last_line(error).split()))
    return pd.DataFrame([{"status": status, "reason": reason[:200]}])


@cache
def _load(source: str) -> tuple[Workload, Data]:
    workload = find(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the plan has said so
        return workload, load_once(workload)


@cache
def _end_with(parent: int) -> None:
    """End this process when `parent` dies: nobody would store the cell."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    if os.getpid() != parent:
        threading.Thread(target=watch, daemon=True).start()
