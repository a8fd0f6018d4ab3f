"""A workload's data, loaded once in a process."""

from functools import cache

from suite.workloads.data import Data
from suite.workloads.workload import Workload


@cache
def load_once(workload: Workload) -> Data:
    """What `workload.load()` returned at its first call in this process."""
    return workload.load()
