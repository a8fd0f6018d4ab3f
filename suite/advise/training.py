"""The trainings behind an advice: rates tuned, replicas trained to the target, the noise scale along them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from suite.advise.measured import Trained
from suite.advise.timing import training_times
from suite.backends import Backend, on
from suite.cells import Cell
from suite.instruments.gradient_pass import gradient_statistics
from suite.instruments.noise_scale import Effective, effective
from suite.out_of_memory import out_of_memory
from suite.statistics import value_at_crossing
from suite.training import engine, looks
from suite.training.learning_rate import Tuned
from suite.training.plain import looks_at
from suite.training.protocol import ExpectedTarget, Protocol
from suite.training.repaid import Compiling
from suite.training.tuning import TUNED_TRAINING, best_rate, compiling_trials, tune
from suite.workloads import Data, Workload

Result = TypeVar("Result")

GROWTH = 1.2
"""A training is looked at after every so many times as many updates."""
EXAMPLES = 10_000
"""How many training examples, drawn once for each replica, a look at the noise scale takes at most."""
WIDE = Tuned(each_way=4, growths=2, seeds=2)
"""Rates from 1/16 to 16 times the workload's."""
NARROW = Tuned(each_way=1, growths=2, seeds=2)
"""A rate, its half and its double."""
FINE = Tuned(factor=math.sqrt(2), each_way=1, growths=0, seeds=2)
"""A rate, and what lies halfway to its half and to its double."""
WORTH_A_CALL = 8
"""Fewer trainings are done sooner one after another: an ensemble's call costs, not compiled, some six updates."""
EARLY = 1 / 20
"""Where it is known how many updates to expect, the first look is after this part of them: looks are dear."""
GIVEN_UP, PATIENCE = 10, 100
"""A training is given up after so many times the updates that were expected; not before so many."""
HALVED = 2
"""How often a rate is halved at which some replicas never reach the target."""


class Replicas:
    """`replicas` of `workload` on `backend`, with as many threads as torch has been given.

    Rates are tried with replicas that are trained in no other way; the anchor's replicas are 0 ... replicas - 1, and
    fresh ones those after them.
    """

    def __init__(self, workload: Workload, data: Data, backend: Backend, replicas: int, threads: int):
        self.workload, self.replicas, self.threads, self.timed_on = workload, replicas, threads, backend
        self.backend = on(backend.device)
        self.data = data.to(self.backend.device.torch_device)
        self.as_timed = backend is self.backend
        self.as_ensemble = engine.why_not_ensemble(workload, data) is None

    def noise_scale_at_start(self) -> float:
        """The median over the replicas."""
        return float(np.median([self._at_start(replica) for replica in range(self.replicas)]))

    def anchored(self, batch_size: int) -> Trained:
        tried = self._tried(batch_size, self.workload.learning_rate, WIDE, math.inf)

        def finally_trained(rate: float, budget: ExpectedTarget) -> Trained:
            found = [self._along(batch_size, rate, budget, replica) for replica in range(self.replicas)]
            updates, along = zip(*found, strict=True)
            return replace(tried, learning_rate=rate, updates=updates, along=along)

        return self._halved(tried, finally_trained)

    def trained(self, batch_size: int, learning_rate: float, expected_updates: float, fresh: bool = True) -> Trained:
        return self._finally(self._tried(batch_size, learning_rate, NARROW, expected_updates), fresh)

    def at_rate(self, batch_size: int, learning_rate: float, expected_updates: float) -> Trained:
        return self._finally(Trained(batch_size, learning_rate, (expected_updates,), rates=(learning_rate,)), True)

    def refined(self, trained: Trained) -> Trained:
        tried = self._tried(trained.batch_size, trained.learning_rate, FINE, trained.typical_updates)
        rate, rates = tried.learning_rate, tuple(sorted({*trained.rates, *tried.rates}))
        if rate == trained.learning_rate or not tried.reached:
            return trained
        updates = self._updates(trained.batch_size, rate, self._budget(trained.typical_updates), fresh=True)
        return replace(tried, updates=updates, rates=rates)

    def _finally(self, tried: Trained, fresh: bool) -> Trained:
        """The anchor's replicas, or fresh ones, at the rate that was `tried`."""

        def finally_trained(rate: float, budget: ExpectedTarget) -> Trained:
            updates = self._updates(tried.batch_size, rate, budget, fresh)
            return replace(tried, learning_rate=rate, updates=updates)

        return self._halved(tried, finally_trained)

    def _updates(self, batch_size: int, rate: float, budget: ExpectedTarget, fresh: bool) -> tuple[float, ...]:
        """To the target, of the anchor's replicas or of fresh ones."""
        replicas = range(self.replicas * fresh, self.replicas * (1 + fresh))
        return tuple(
            map(
                self._crossing,
                self._train(batch_size, Protocol.of(self.workload, budget, learning_rate=rate), replicas),
            )
        )

    def update_seconds(self, trained: Sequence[Trained]) -> list[float]:
        data = self.workload.replica_data(self.data, 0)
        return training_times(self.workload, data, self.timed_on, self.threads, trained)

    def _halved(self, tried: Trained, finally_trained) -> Trained:
        """What is trained at the rate that won among those `tried`; at its half, and so on, where some of the
        replicas do not reach the target at it."""
        if not tried.reached or tried.at_start:
            return tried
        rate, budget = tried.learning_rate, self._budget(tried.typical_updates)
        found = finally_trained(rate, budget)
        for _ in range(HALVED):
            if found.reached:
                break
            rate /= 2
            found = finally_trained(rate, budget)
        return replace(found, rates=tuple(sorted({*found.rates, rate})))

    def _budget(self, expected_updates: float) -> ExpectedTarget:
        most = math.ceil(min(self.workload.max_updates, max(PATIENCE, GIVEN_UP * expected_updates)))
        first = round(EARLY * expected_updates) if math.isfinite(expected_updates) else 0
        return ExpectedTarget(self.workload.target_loss, most, GROWTH, first)

    def _cell(self, batch_size: int, protocol: Protocol, trainings: int) -> Cell:
        cell = Cell(TUNED_TRAINING, self.workload.name, self.backend.name, batch_size, trainings, protocol)
        return engine.packed(cell, self.workload) if self.as_ensemble and trainings >= WORTH_A_CALL else cell

    def _tried(self, batch_size: int, learning_rate: float, rule: Tuned, expected_updates: float) -> Trained:
        """The best of the rates, with the updates of each replica that it was tried with."""
        protocol = Protocol.of(self.workload, self._budget(expected_updates), rule, learning_rate)

        def tuned(cell: Cell) -> pd.DataFrame:
            return tune(self.workload, self.data, cell, compiling_trials(self.workload, self.data, cell))

        rows = self._where_there_is_room(batch_size, protocol, rule.seeds * (2 * rule.each_way + 1), tuned)
        rate = best_rate(rows)
        return Trained(
            batch_size,
            rate,
            tuple(rows.loc[rows["learning_rate"] == rate, "cost_updates"]),
            rates=tuple(sorted(rows["learning_rate"].unique())),
            lowest_loss=float(rows["train_loss"].min()),
        )

    def _train(self, batch_size: int, protocol: Protocol, replicas: Sequence[int]) -> list[list[looks.Look]]:
        expected = protocol.budget.max_updates // GIVEN_UP

        def trained(cell: Cell) -> list[list[looks.Look]]:
            compiling = Compiling(self.workload, len(self.data.train_inputs), cell, len(replicas), expected)
            return engine.train(self.workload, self.data, cell, [protocol] * len(replicas), replicas, compiling)

        return self._where_there_is_room(batch_size, protocol, len(replicas), trained)

    def _where_there_is_room(
        self, batch_size: int, protocol: Protocol, trainings: int, train: Callable[[Cell], Result]
    ) -> Result:
        """What `train` makes of the cell: where memory has no room for its ensemble, and from then on, of one replica
        after another."""
        cell = self._cell(batch_size, protocol, trainings)
        try:
            return train(cell)
        except (MemoryError, RuntimeError) as error:
            if cell.replicas_per_call == 1 or not out_of_memory(error):
                raise
        self.as_ensemble = False
        return train(self._cell(batch_size, protocol, trainings))

    def _crossing(self, seen: Sequence[looks.Look]) -> float:
        """Updates to the target, infinite where it was not reached."""
        updates = value_at_crossing([look[1] for look in seen], [look[0] for look in seen], self.workload.target_loss)
        return updates if math.isfinite(updates) else math.inf

    def _along(
        self, batch_size: int, learning_rate: float, budget: ExpectedTarget, replica: int
    ) -> tuple[float, Effective]:
        """Updates of one replica to the target, and what the noise scale along it, from its start, comes to."""
        protocol = Protocol.of(self.workload, replace(budget, first=0), learning_rate=learning_rate)
        data = self.workload.replica_data(self.data, replica)
        seen, scales = [], []
        for model, look in looks_at(self.workload, data, protocol, batch_size, replica, self.backend):
            seen.append(look)
            if not math.isfinite(look[1]):
                break
            scales.append(self._noise_scale(model, data, replica))
            if looks.ends(0, protocol, seen):
                break
        until = self._crossing(seen)
        if not math.isfinite(until):
            return until, Effective(math.nan, math.nan)
        return until, effective([look[0] for look in seen], scales, batch_size, until)

    def _at_start(self, replica: int) -> float:
        model = self.workload.initial_model(replica).to(self.backend.device.torch_device)
        return self._noise_scale(model, self.workload.replica_data(self.data, replica), replica)

    def _noise_scale(self, model: nn.Module, data: Data, replica: int) -> float:
        """tr(Sigma) / |G|^2 over the training set, exact where all of it is looked at. From n of N examples |G|^2
        comes out too large by (1/n - 1/N) tr(Sigma), which is taken off: what is left may lie below zero. Infinite
        where there is no gradient."""
        few = self._few(replica)
        found = gradient_statistics(model, self.workload.loss, data.train_inputs[few], data.train_targets[few])
        too_large = found.variance * (1 / len(few) - 1 / len(data.train_inputs))
        signal = found.squared_norm - too_large
        return found.variance / signal if signal else math.inf

    def _few(self, replica: int) -> Tensor:
        generator = self.workload.generator("looked at", replica)
        order = torch.randperm(len(self.data.train_inputs), generator=generator)
        return order[:EXAMPLES].to(self.data.train_inputs.device)
