"""Trainings of growing length whose learning rate falls linearly to 0, until they fit the training examples.

At a constant rate the parameters after the last update are noisy where batches are small, so that their test scores
compare noise. A rate that falls to 0 leaves little of it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
from torch import nn

from suite.status import Status
from suite.training import evaluations, plain
from suite.training.budgets import FixedUpdates
from suite.training.compile_policy import CALLS_TO_REPAY, CompilePolicy
from suite.training.engine import Engine
from suite.training.learning_rate import FIXED
from suite.training.protocol import Protocol
from suite.training.tuning import Tuning, best_rate, mean_costs
from suite.workloads import Data, Workload

MAX_STALLED = 3
"""Lengths whose mean loss is less than 3% below that of the length before, after which no longer one is tried."""
STALLED = 0.97
"""A training loss, over that of the length before, that counts as no lower."""
MAX_DIVERGED = 0.1
"""The share of the trainings of a length that may diverge; with more it has no mean loss."""


def mean_loss(ends: pd.DataFrame) -> float:
    """Geometric mean of the training loss at the `ends` of trainings of one length, a row per replica, without those
    that diverged; infinite where more than MAX_DIVERGED did. The arithmetic mean where a loss is not positive."""
    losses = ends.loc[ends["status"] == Status.OK, "train_loss"]
    if len(losses) < (1 - MAX_DIVERGED) * len(ends) or losses.empty:
        return math.inf
    return float(np.exp(np.log(losses).mean()) if (losses > 0).all() else losses.mean())


class Annealing(Tuning):
    """The search for the peak rate of `batch_size`, and the annealed trainings from it, by a protocol whose budget is
    `GrowingLengths` and whose rate rule is `Tuned`."""

    @classmethod
    def of(
        cls,
        workload: Workload,
        data: Data,
        protocol: Protocol,
        batch_size: int,
        engine: Engine,
        calls_to_repay: float = CALLS_TO_REPAY,
    ) -> "Annealing":
        """With one compile policy for all lengths. It decides by the calls so far, since their number is not known
        beforehand."""
        per_call = engine.replicas_per_call
        policy = CompilePolicy.for_trainings(
            workload, protocol, batch_size, len(data.train_inputs), per_call, per_call, 0, calls_to_repay
        )
        return cls(workload, data, protocol, batch_size, engine, policy)

    def lengths(self) -> Iterator[int]:
        return self.protocol.budget.lengths(len(self.data.train_inputs), self.batch_size)

    def trials(self) -> pd.DataFrame:
        """As `Tuning.trials`, at the first length where the best rate reaches the tuning loss.

        The whole grid of rates is tried at the shortest length, and at each longer one the best rate so far with its
        neighbours.
        """
        rate, rule = self.protocol.learning_rate, self.protocol.rate_rule
        for length in self.lengths():
            protocol = replace(self.protocol, learning_rate=rate, rate_rule=rule, budget=FixedUpdates(length))
            tuning = replace(self, protocol=protocol)
            trials = tuning.coarse_trials()
            rate, rule = best_rate(trials), replace(rule, each_way=1)
            if mean_costs(trials)["cost_loss"].min() <= self.protocol.budget.tuning_loss:
                break
        return tuning.refined(trials)

    def at(self, rate: float, length: int) -> Protocol:
        """The protocol of a training of `length` updates from the peak `rate`."""
        return replace(self.protocol, learning_rate=rate, rate_rule=FIXED, budget=FixedUpdates(length))

    def final_trainings(self, rate: float, replicas: Sequence[int]) -> pd.DataFrame:
        """Train `replicas` from the peak `rate`, at each length until their mean loss is the fitted loss. Return the
        last evaluation of each training: a row per length and replica (`seed`)."""
        ends, losses = [], []
        for length in self.lengths():
            ends.append(self._ends(self.at(rate, length), replicas))
            losses.append(mean_loss(ends[-1]))
            if self._ended(losses):
                break
        return pd.concat(ends, ignore_index=True)

    def models(self, rate: float, replicas: Sequence[int]) -> Iterator[tuple[list[nn.Module], pd.DataFrame]]:
        """The same trainings, done plainly: for each length the models of the `replicas`, with a row per replica of
        their last evaluations."""
        splits, losses = [self.workload.replica_data(self.data, replica) for replica in replicas], []
        for length in self.lengths():
            protocol = self.at(rate, length)
            trained = [
                plain.trained(self.workload, split, protocol, self.batch_size, replica, self.engine.backend)
                for replica, split in zip(replicas, splits, strict=True)
            ]
            ends = pd.concat([table.tail(1) for _, table in trained], ignore_index=True).assign(seed=list(replicas))
            yield [model for model, _ in trained], ends
            losses.append(mean_loss(ends))
            if self._ended(losses):
                return

    def _ended(self, losses: Sequence[float]) -> bool:
        """Whether the last of the mean `losses`, by length, is the fitted loss, or MAX_STALLED of them were no lower
        than the one before, which was below the tuning loss."""
        budget = self.protocol.budget
        stalled = [last > STALLED * before for before, last in pairwise(losses) if before <= budget.tuning_loss]
        return budget.reached(losses[-1]) or sum(stalled) >= MAX_STALLED

    def _ends(self, protocol: Protocol, replicas: Sequence[int]) -> pd.DataFrame:
        histories = self.train([protocol] * len(replicas), replicas)
        tables = evaluations.tables(histories, protocol, len(self.data.train_inputs), self.batch_size)
        last = tables.groupby("seed").tail(1)
        return last.assign(seed=[replicas[place] for place in last["seed"]])
