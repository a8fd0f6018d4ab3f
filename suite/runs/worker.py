"""Measuring one cell in a worker process. Workers import this module alone, and never claims or figures."""

import errno
import time
import warnings
from functools import cache

import pandas as pd
import torch

from suite import machine
from suite.devices import out_of_memory
from suite.errors import UserError, last_line, user_function
from suite.experiments.cell import Cell
from suite.runs.cell_rows import to_table
from suite.status import Status
from suite.workloads import Data, Workload, find
from suite.workloads.data_home import DataWarning
from suite.workloads.fingerprint import data_fingerprint
from suite.workloads.load import load_once


def measure_in_worker(index: int, source: str, cell: Cell, data_hash: str) -> tuple[int, pd.DataFrame, dict]:
    """`measure` with the cell's `index` in front.

    Raises UserError when the examples are others than those with the `data_hash`.
    """
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
    reason. Raises UserError where the disk is full: that is not a result."""
    torch.set_num_threads(1)
    workload, data = _load(source)
    started = time.monotonic()
    try:
        rows = cell.measurement.measure(workload, data, cell)
        to_table(cell, rows)
    except BaseException as error:  # a user's code may raise anything
        if full := _full_disk(error):
            raise UserError(
                f"cannot write to {full.filename or 'the temporary folder'} ({full.strerror}): make room, or name "
                "another temporary folder in the environment variable TMPDIR"
            ) from error
        rows = failed(Status.OUT_OF_MEMORY if out_of_memory(error) else Status.UNAVAILABLE, error)
    return rows, provenance(rows, time.monotonic() - started)


def _full_disk(error: BaseException | None) -> OSError | None:
    """The error that tells of a full disk, of those that led to `error`; None where none does."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def provenance(rows: pd.DataFrame, duration_s: float) -> dict:
    """The provenance of `rows` that this process measured in `duration_s` seconds."""
    threads = int(rows["threads"].max()) if "threads" in rows else 1
    return machine.provenance(threads, duration_s)


def failed(status: Status, error: BaseException) -> pd.DataFrame:
    """The row of a cell that could not be measured, with the function of the user's that raised the error."""
    where = user_function(error)
    reason = machine.without_paths(" ".join([*([where, "raises"] if where else []), *last_line(error).split()]))
    return pd.DataFrame([{"status": status, "reason": reason[:200]}])


@cache
def _load(source: str) -> tuple[Workload, Data]:
    workload = find(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the plan has said so
        return workload, load_once(workload)
