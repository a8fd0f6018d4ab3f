"""Trainings of growing length whose learning rate falls linearly to 0, until they fit the training examples.

At a constant rate the parameters after the last update are noisy where batches are small, so that their test scores
compare noise. A rate that falls to 0 leaves little of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd
from torch import nn

from suite.training import evaluations, plain
from suite.training.budgets import FixedUpdates
from suite.training.compile_policy import CALLS_TO_REPAY, CompilePolicy
from suite.training.engine import Engine
from suite.training.learning_rate import FIXED
from suite.training.protocol import Protocol
from suite.training.tuning import Tuning, best_rate, mean_costs
from suite.workloads import Data, Workload

MAX_FURTHER_LENGTHS = 3
"""Lengths tried after the first one at which half of the replicas have fitted, or that does not end at a lower loss
than the one before; the remaining replicas count as not fitted."""
STALLED = 0.97
"""A training loss, over that of the length before, that counts as no lower."""


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
        """Train `replicas` from the peak `rate`, at each length those that have not fitted the training examples at a
        shorter one. Return the last evaluation of each training: a row per length and replica (`seed`)."""
        ends, losses, left, further = [], [], list(replicas), 0
        for length in self.lengths():
            ends.append(self._ends(self.at(rate, length), left))
            losses.append(ends[-1]["train_loss"].mean())
            fitted = ends[-1].loc[ends[-1]["train_loss"] <= self.protocol.budget.loss, "seed"]
            left = [replica for replica in left if replica not in set(fitted)]
            further += 2 * len(left) <= len(replicas) or self._stalled(losses)
            if not left or further > MAX_FURTHER_LENGTHS:
                break
        return pd.concat(ends, ignore_index=True)

    def models(self, rate: float, replica: int) -> Iterator[tuple[nn.Module, pd.Series]]:
        """Train `replica` plainly from the peak `rate` at each length until it has fitted the training examples, and
        yield its model with the last evaluation."""
        losses, further = [], 0
        split = self.workload.replica_data(self.data, replica)
        for length in self.lengths():
            protocol, backend = self.at(rate, length), self.engine.backend
            model, table = plain.trained(self.workload, split, protocol, self.batch_size, replica, backend)
            yield model, table.iloc[-1]
            losses.append(table["train_loss"].iloc[-1])
            further += self._stalled(losses)
            if self.protocol.budget.reached(losses[-1]) or further > MAX_FURTHER_LENGTHS:
                return

    def _stalled(self, losses: Sequence[float]) -> bool:
        """Whether the last loss of `losses`, by length, is no lower than the one before, which was below the tuning
        loss."""
        if len(losses) < 2:
            return False
        before, last = losses[-2:]
        return before <= self.protocol.budget.tuning_loss and last > STALLED * before

    def _ends(self, protocol: Protocol, replicas: Sequence[int]) -> pd.DataFrame:
        histories = self.train([protocol] * len(replicas), replicas)
        tables = evaluations.tables(histories, protocol, len(self.data.train_inputs), self.batch_size)
        last = tables.groupby("seed").tail(1)
        return last.assign(seed=[replicas[place] for place in last["seed"]])
