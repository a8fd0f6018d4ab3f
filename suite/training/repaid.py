"""When compiling an ensemble's update is repaid, which is decided for each size of batch by itself."""

import math
from collections import Counter

from suite.cells import Cell
from suite.training.packing import WORK, parameter_count
from suite.training.protocol import updates_per_epoch
from suite.workloads import Workload

CALLS_BEFORE_COMPILING = 5000
"""Compiling takes about as long as so many eager calls of a small ensemble lose: 5 s, and 1 ms each."""
LOST_BY_WORK = 4
"""How many times more an eager call loses that does the work of `packing.WORK`, parameters times examples."""


class Compiling:
    """Counts the calls of a cell's ensembles, from batches of its size and the smaller last ones of an epoch."""

    def __init__(self, workload: Workload, examples: int, cell: Cell, replicas: int, updates: int):
        """Each of so many `replicas` is expected to make so many `updates`: a guess where they train to a target."""
        calls = updates * math.ceil(replicas / cell.replicas_per_call)
        calls /= updates_per_epoch(examples, cell.batch_size)
        self.expected = {examples % cell.batch_size: calls, cell.batch_size: calls * (examples // cell.batch_size)}
        self.work = cell.replicas_per_call * parameter_count(workload) / WORK
        self.guessed, self.made = cell.protocol.budget.needs_target, Counter()

    def due(self, size: int) -> bool:
        """Whether to compile before the next call from batches of `size`: where the calls expected repay it or, if
        they are a guess, those made would have."""
        self.made[size] += 1
        calls = max(self.expected[size], self.made[size] if self.guessed else 0)
        return calls * (1 + LOST_BY_WORK * self.work * size) > CALLS_BEFORE_COMPILING
