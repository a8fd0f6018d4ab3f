"""A reference update, timed in the same process as asv's samples, and between them.

On a shared machine the times of two processes differ by tens of percent, but hardly the ratio of two times that are
taken in one process together. So each process also times the update of one example, and times of different processes
are compared relative to it.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite import backends
from suite.backends import Backend
from suite.experiments.cell import RESIDENT
from suite.timing.quick_timings import one_thread_update_seconds, update_seconds
from suite.timing.timed import Timed
from suite.workloads import Data, Workload
from suite.workloads.batch_of_one import batch_of_one_problem


class ReferenceTimes:
    """The reference times of this process: of one example's update, or of two where the model cannot be trained on
    one, on the backend's own device.

    `parameters` are those of the benchmark, `samples` the number that it takes in this process. They are written to a
    file in `folder`; without one, none is taken.
    """

    def __init__(
        self,
        workload: Workload,
        data: Data,
        backend: Backend,
        parameters: list,
        samples: int,
        folder: Path | None = None,
    ):
        self.file = folder / f"{time.time_ns()}-{os.getpid()}" if folder else None
        if self.file:
            examples = 1 if batch_of_one_problem(workload, data) is None else 2
            self.timed = Timed(workload, data, backends.on(backend.device), RESIDENT, examples)
            self.file.write_text(f"{json.dumps(parameters)}\n{samples}\n")

    def take(self, min_run_time_s: float) -> None:
        """Time the reference again: two of its updates, or as many as fill `min_run_time_s`."""
        if self.file:
            seconds = (
                one_thread_update_seconds(self.timed, min_run_time_s)
                if min_run_time_s > 0
                else update_seconds(self.timed, threads=1, min_run_time_s=0)
            )
            with self.file.open("a") as file:
                file.write(f"{seconds!r}\n")


@dataclass(frozen=True)
class ReferencedProcess:
    """A process of asv: the number of its samples, and its median reference time in seconds."""

    samples: int
    reference_s: float


def read_references(folder: Path) -> dict[str, list[ReferencedProcess]]:
    """The processes of each set of parameters (as JSON), in the order in which they started."""
    references = {}
    for file in sorted(folder.iterdir()):
        parameters, samples, *seconds = file.read_text().splitlines()
        median = float(np.median([float(value) for value in seconds]))
        references.setdefault(parameters, []).append(ReferencedProcess(int(samples), median))
    return references
