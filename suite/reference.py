"""A reference update, timed in the same process as what asv times, and between its calls.

Two processes on a shared machine differ by tens of percent in everything they do, and hardly in the ratio of
two things that they do at the same time. So each process also times the update of one example, and a time is
compared with that of another process through it.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite import backends
from suite.backends import Backend
from suite.quick_timings import one_thread_update_seconds, update_seconds
from suite.timings import Timed
from suite.workloads import Workload

FOLDER_VARIABLE = "SUITE_REFERENCES"
"""Where processes leave their reference times; nothing is left where it is not set, as in a plain `asv run`."""


class ReferenceTimes:
    """The reference times of this process: of one example's update, on the backend's own device.

    `parameters` are those of the benchmark, `samples` how many it takes in this process.
    """

    def __init__(self, workload: Workload, backend: Backend, parameters: list, samples: int):
        folder = os.environ.get(FOLDER_VARIABLE)
        self.file = Path(folder) / f"{time.time_ns()}-{os.getpid()}" if folder else None
        if self.file:
            self.timed = Timed(workload, backends.on(backend.device), "resident", 1)
            self.file.write_text(f"{json.dumps(parameters)}\n{samples}\n")

    def take(self, min_run_time_s: float) -> None:
        """Time the reference once more: two updates of it, or as many as fill `min_run_time_s`."""
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
    """What a process left: how many samples asv took in it, and its median reference time in seconds."""

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
