"""A reference update, timed in the same process as what asv times, and between its calls.

Two processes on a shared machine differ by tens of percent in everything they do, and hardly in the ratio of
two things that they do at the same time. So each process also times the update of one example, and a time is
compared with that of another process through it.
"""

import json
import os
import time
from pathlib import Path

import numpy as np

from suite.backends import CPU, Backend
from suite.quick_timings import update_seconds
from suite.timings import Timed
from suite.workloads import Workload

FOLDER_VARIABLE = "SUITE_REFERENCES"
"""Where processes leave their reference times; nothing is left where it is not set, as in a plain `asv run`."""


class ReferenceTimes:
    """The reference times of this process: of one example's update, on the GPU for `cuda`, else on the CPU."""

    def __init__(self, workload: Workload, backend: Backend, parameters: list):
        folder = os.environ.get(FOLDER_VARIABLE)
        self.file = Path(folder) / f"{time.time_ns()}-{os.getpid()}" if folder else None
        if self.file:
            self.timed = Timed(workload, backend if backend.device_type == "cuda" else CPU, "resident", 1)
            self.file.write_text(f"{json.dumps(parameters)}\n")

    def take(self) -> None:
        """Time the reference once more, in under a millisecond for a small model."""
        if self.file:
            seconds = update_seconds(self.timed, threads=1, min_run_time_s=0)
            with self.file.open("a") as file:
                file.write(f"{seconds!r}\n")


def read_references(folder: Path) -> dict[str, list[float]]:
    """Median reference seconds of each process, in the order in which they started, by their parameters as JSON."""
    references = {}
    for file in sorted(folder.iterdir()):
        parameters, *seconds = file.read_text().splitlines()
        references.setdefault(parameters, []).append(float(np.median([float(value) for value in seconds])))
    return references
