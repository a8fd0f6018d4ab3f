"""The policy of compiling an ensemble's update: compile once the calls of a batch size repay the compilation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from suite.training.budgets import GrowingBatch, updates_per_epoch
from suite.training.packing import MAX_WORK, parameter_count
from suite.training.protocol import Protocol
from suite.workloads import Workload

CALLS_TO_REPAY = 5000
"""Number of eager calls of a small ensemble that waste as much time as one compilation takes: 1 ms each, 5 s in
total."""
EXTRA_LOSS = 4
"""An eager call whose update does the work `packing.MAX_WORK` wastes 1 + EXTRA_LOSS times as much time."""


class CompilePolicy:
    """Counts the calls of ensembles by batch size, and decides when to compile them."""

    def __init__(
        self, expected: Mapping[int, float], work: float, guessed: bool, calls_to_repay: float = CALLS_TO_REPAY
    ):
        """`expected` holds the calls by batch size, `guessed` whether they are a guess, and `work` the work of a call
        per example, over `packing.MAX_WORK`."""
        self.expected, self.work, self.guessed = Counter(expected), work, guessed
        self.calls_to_repay, self.calls = calls_to_repay, Counter()

    @classmethod
    def for_trainings(
        cls,
        workload: Workload,
        protocol: Protocol,
        batch_size: int,
        examples: int,
        replicas: int,
        replicas_per_call: int,
        updates: int,
        calls_to_repay: float = CALLS_TO_REPAY,
    ) -> CompilePolicy:
        """The policy for `replicas` trainings of about `updates` each: a guess where they train to a target loss."""
        packs, expected = math.ceil(replicas / replicas_per_call), Counter()
        for size, epochs in _epochs_by_batch_size(protocol, batch_size, examples, updates).items():
            expected[examples % size] += packs * epochs
            expected[size] += packs * epochs * (examples // size)
        work = replicas_per_call * parameter_count(workload) / MAX_WORK
        return cls(expected, work, protocol.budget.needs_target, calls_to_repay)

    def should_compile(self, batch_size: int) -> bool:
        """Count a call with `batch_size`, and return whether to compile before it: whether the expected calls repay
        the compilation or, where these are a guess, the calls so far would have done so.

        >>> policy = CompilePolicy({8: 100}, work=0, guessed=False, calls_to_repay=60)
        >>> policy.should_compile(8), policy.should_compile(4)
        (True, False)
        """
        self.calls[batch_size] += 1
        calls = max(self.expected[batch_size], self.calls[batch_size] if self.guessed else 0)
        return calls * (1 + EXTRA_LOSS * self.work * batch_size) > self.calls_to_repay


def _epochs_by_batch_size(protocol: Protocol, batch_size: int, examples: int, updates: int) -> dict[int, float]:
    if isinstance(budget := protocol.budget, GrowingBatch):
        return Counter(budget.batch_size(batch_size, epoch) for epoch in range(budget.epochs))
    return {batch_size: updates / updates_per_epoch(examples, batch_size)}
