"""When compiling an ensemble's update is repaid, which is decided for each size of batch by itself."""

import math
from collections import Counter

from suite.cells import Cell
from suite.training.packing import WORK, parameter_count
from suite.training.protocol import GrowingBatch, updates_per_epoch
from suite.workloads import Workload

CALLS_BEFORE_COMPILING = 5000
"""Compiling takes about as long as so many eager calls of a small ensemble lose: 5 s, and 1 ms each."""
LOST_BY_WORK = 4
"""How many times more an eager call loses that does the work of `packing.WORK`, parameters times examples."""


class Compiling:
    """Counts the calls of a cell's ensembles, from batches of its size and the smaller last ones of an epoch."""

    def __init__(self, workload: Workload, examples: int, cell: Cell, replicas: int, updates: int):
        """Each of so many `replicas` is expected to make so many `updates`: a guess where they train to a target."""
        packs, self.expected = math.ceil(replicas / cell.replicas_per_call), Counter()
        for size, epochs in _epochs(cell, examples, updates).items():
            self.expected[examples % size] += packs * epochs
            self.expected[size] += packs * epochs * (examples // size)
        self.work = cell.replicas_per_call * parameter_count(workload) / WORK
        self.guessed, self.made = cell.protocol.budget.needs_target, Counter()

    def due(self, size: int) -> bool:
        """Whether to compile before the next call from batches of `size`: where the calls expected repay it or, if
        they are a guess, those made would have."""
        self.made[size] += 1
        calls = max(self.expected[size], self.made[size] if self.guessed else 0)
        return calls * (1 + LOST_BY_WORK * self.work * size) > CALLS_BEFORE_COMPILING


def _epochs(cell: Cell, examples: int, updates: int) -> dict[int, float]:
    """How many are spent with each batch size."""
    if isinstance(budget := cell.protocol.budget, GrowingBatch):
        return Counter(budget.batch_size(cell.batch_size, epoch) for epoch in range(budget.epochs))
    return {cell.batch_size: updates / updates_per_epoch(examples, cell.batch_size)}
