"""The trainings for a recommendation: tune the rate, train replicas to the target, measure the gradient noise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from suite.advise.measurements import TrainingRun
from suite.advise.timing import training_update_seconds
from suite.backends import Backend, on
from suite.devices import out_of_memory
from suite.instruments.gradient_pass import gradient_statistics
from suite.instruments.noise_scale import Effective, effective
from suite.statistics import value_at_crossing
from suite.training import evaluations
from suite.training.budgets import ExpectedTarget
from suite.training.compile_policy import CompilePolicy
from suite.training.engine import Engine, best_replicas_per_call, why_not_ensemble
from suite.training.learning_rate import FIXED, RateRule, Tuned
from suite.training.plain import train_and_evaluate
from suite.training.protocol import Protocol
from suite.training.tuning import Tuning, best_rate
from suite.workloads import Data, Workload

Result = TypeVar("Result")

EVALUATION_GROWTH = 1.2
"""Ratio of the updates at one evaluation to those at the evaluation before."""
FIRST_EVALUATION = 1 / 20
"""Share of the expected updates, where these are known, before the first evaluation: evaluations are expensive."""
NOISE_EXAMPLES = 10_000
"""Training examples, drawn once for each replica, that a measurement of the gradient noise takes at most."""
WIDE = Tuned(each_way=4, growths=2, seeds=2)
"""Rates from 1/16 to 16 times the workload's."""
NARROW = Tuned(each_way=1, growths=2, seeds=2)
"""A rate, its half and its double."""
FINE = Tuned(factor=math.sqrt(2), each_way=1, growths=0, seeds=2)
"""A rate, √2 times the rate, and 1/√2 of it."""
MIN_REPLICAS_PER_CALL = 8
"""Fewer trainings are faster one after another: an ensemble's call, not compiled, costs about six updates."""
MAX_OVERRUN, MIN_LIMIT = 10, 100
"""A training is given up after MAX_OVERRUN times the expected updates, but not before MIN_LIMIT updates."""
MAX_HALVINGS = 2
"""How often to halve a rate at which some replicas do not reach the target."""


class Replicas:
    """Trains `replicas` of `workload` on the device of `backend`, with the number of threads that torch is set to.

    Trials use seeds of their own. The pilot run trains replicas 0 ... replicas - 1, and runs with held-out seeds the
    following ones. `threads` is the number for timed trainings.
    """

    def __init__(
        self,
        workload: Workload,
        data: Data,
        backend: Backend,
        replicas: int,
        threads: int,
        noise_examples: int = NOISE_EXAMPLES,
        min_replicas_per_call: int = MIN_REPLICAS_PER_CALL,
    ):
        self.workload, self.replicas, self.threads, self.timed_backend = workload, replicas, threads, backend
        self.noise_examples, self.min_replicas_per_call = noise_examples, min_replicas_per_call
        self.backend = on(backend.device)
        self.data = data.to(self.backend.device.torch_device)
        self.trains_as_timed = backend is self.backend
        self.as_ensemble = why_not_ensemble(workload, data) is None

    def initial_noise_scale(self) -> float:
        """The median over the replicas."""
        return float(np.median([self._initial_noise_scale(replica) for replica in range(self.replicas)]))

    def pilot_run(self, batch_size: int) -> TrainingRun:
        trials = self._tune(batch_size, self.workload.learning_rate, WIDE, math.inf)

        def train(rate: float, budget: ExpectedTarget) -> TrainingRun:
            replicas = [self._train_with_noise(batch_size, rate, budget, replica) for replica in range(self.replicas)]
            updates, noise = zip(*replicas, strict=True)
            return replace(trials, learning_rate=rate, updates=updates, noise=noise)

        return self._train_or_halve(trials, train)

    def tuned_run(
        self, batch_size: int, learning_rate: float, expected_updates: float, held_out: bool = True
    ) -> TrainingRun:
        return self._final_run(self._tune(batch_size, learning_rate, NARROW, expected_updates), held_out)

    def run_at_rate(self, batch_size: int, learning_rate: float, expected_updates: float) -> TrainingRun:
        trials = TrainingRun(batch_size, learning_rate, (expected_updates,), learning_rates=(learning_rate,))
        return self._final_run(trials, held_out=True)

    def refined_run(self, run: TrainingRun) -> TrainingRun:
        trials = self._tune(run.batch_size, run.learning_rate, FINE, run.typical_updates)
        rate, rates = trials.learning_rate, tuple(sorted({*run.learning_rates, *trials.learning_rates}))
        if rate == run.learning_rate or not trials.reached:
            return run
        updates = self._updates(run.batch_size, rate, self._budget(run.typical_updates), held_out=True)
        return replace(trials, updates=updates, learning_rates=rates)

    def update_seconds(self, runs: Sequence[TrainingRun]) -> list[float]:
        data = self.workload.replica_data(self.data, 0)
        return training_update_seconds(self.workload, data, self.timed_backend, self.threads, runs)

    def _final_run(self, trials: TrainingRun, held_out: bool) -> TrainingRun:
        """Train the replicas of the pilot run, or held-out ones, at the best rate of `trials`."""

        def train(rate: float, budget: ExpectedTarget) -> TrainingRun:
            return replace(
                trials, learning_rate=rate, updates=self._updates(trials.batch_size, rate, budget, held_out)
            )

        return self._train_or_halve(trials, train)

    def _train_or_halve(
        self, trials: TrainingRun, train: Callable[[float, ExpectedTarget], TrainingRun]
    ) -> TrainingRun:
        """Train at the best rate of `trials`, and at its half, and so on, until every replica reaches the target.

        Return `trials` where they did not reach the target, or were at it from the start.
        """
        if not trials.reached or trials.reached_at_start:
            return trials
        rate, budget = trials.learning_rate, self._budget(trials.typical_updates)
        run = train(rate, budget)
        for _ in range(MAX_HALVINGS):
            if run.reached:
                break
            rate /= 2
            run = train(rate, budget)
        return replace(run, learning_rates=tuple(sorted({*run.learning_rates, rate})))

    def _budget(self, expected_updates: float) -> ExpectedTarget:
        limit = math.ceil(min(self.workload.max_updates, max(MIN_LIMIT, MAX_OVERRUN * expected_updates)))
        first = round(FIRST_EVALUATION * expected_updates) if math.isfinite(expected_updates) else 0
        return ExpectedTarget(self.workload.target_loss, limit, EVALUATION_GROWTH, first)

    def _protocol(self, budget: ExpectedTarget, learning_rate: float, rule: RateRule = FIXED) -> Protocol:
        """Training until the averaged parameters reach the target, as the rows of the table count it."""
        return Protocol.of(self.workload, budget, rule, learning_rate, averaged=True)

    def _tune(self, batch_size: int, learning_rate: float, rule: Tuned, expected_updates: float) -> TrainingRun:
        """Return the trials at the best rate of `rule`."""
        protocol = self._protocol(self._budget(expected_updates), learning_rate, rule)

        def tune(engine: Engine) -> pd.DataFrame:
            return Tuning.of(self.workload, self.data, protocol, batch_size, engine).trials()

        trials = self._within_memory(batch_size, rule.seeds * (2 * rule.each_way + 1), tune)
        rate = best_rate(trials)
        return TrainingRun(
            batch_size,
            rate,
            tuple(trials.loc[trials["learning_rate"] == rate, "cost_updates"]),
            learning_rates=tuple(sorted(trials["learning_rate"].unique())),
            lowest_loss=float(trials["train_loss"].min()),
        )

    def _updates(self, batch_size: int, rate: float, budget: ExpectedTarget, held_out: bool) -> tuple[float, ...]:
        """The updates to the target of each replica of the pilot run, or of each held-out replica."""
        protocol = self._protocol(budget, rate)
        replicas = range(self.replicas * held_out, self.replicas * (1 + held_out))
        return tuple(map(self._updates_to_target, self._train(batch_size, protocol, replicas)))

    def _train(
        self, batch_size: int, protocol: Protocol, replicas: Sequence[int]
    ) -> list[list[evaluations.Evaluation]]:
        expected_updates, count = protocol.budget.max_updates // MAX_OVERRUN, len(replicas)

        def train(engine: Engine) -> list[list[evaluations.Evaluation]]:
            examples, per_call = len(self.data.train_inputs), engine.replicas_per_call
            policy = CompilePolicy.for_trainings(
                self.workload, protocol, batch_size, examples, count, per_call, expected_updates
            )
            return engine.train(self.workload, self.data, [protocol] * count, batch_size, replicas, policy)

        return self._within_memory(batch_size, count, train)

    def _within_memory(self, batch_size: int, trainings: int, train: Callable[[Engine], Result]) -> Result:
        """Call `train` with an ensemble; where memory does not suffice for it, and from then on, with one replica
        after another."""
        engine = self._engine(batch_size, trainings)
        try:
            return train(engine)
        except (MemoryError, RuntimeError) as error:
            if engine.replicas_per_call == 1 or not out_of_memory(error):
                raise
        self.as_ensemble = False
        return train(self._engine(batch_size, trainings))

    def _engine(self, batch_size: int, trainings: int) -> Engine:
        if not (self.as_ensemble and trainings >= self.min_replicas_per_call):
            return Engine(self.backend)
        device = self.backend.device
        return Engine(self.backend, best_replicas_per_call(self.workload, device, trainings, batch_size))

    def _updates_to_target(self, seen: Sequence[evaluations.Evaluation]) -> float:
        """The updates at which the training loss crosses the target; infinite where it does not."""
        updates, losses = zip(*((evaluation[0], evaluation[1]) for evaluation in seen), strict=True)
        crossing = value_at_crossing(losses, updates, self.workload.target_loss)
        return crossing if math.isfinite(crossing) else math.inf

    def _train_with_noise(
        self, batch_size: int, learning_rate: float, budget: ExpectedTarget, replica: int
    ) -> tuple[float, Effective]:
        """Train one replica; return its updates to the target, and the gradient noise along them from the start.

        The noise is that of the batches that make the updates: it is measured at the parameters after each
        evaluation's last update, not at their average.
        """
        protocol = self._protocol(replace(budget, first=0), learning_rate)
        data = self.workload.replica_data(self.data, replica)
        seen, scales = [], []
        for model, _, evaluation in train_and_evaluate(
            self.workload, data, protocol, batch_size, replica, self.backend
        ):
            seen.append(evaluation)
            if not math.isfinite(evaluation[1]):
                break
            scales.append(self._noise_scale(model, data, replica))
            if evaluations.ends(0, protocol, seen):
                break
        updates = self._updates_to_target(seen)
        if not math.isfinite(updates):
            return updates, Effective(math.nan, math.nan)
        return updates, effective([evaluation[0] for evaluation in seen], scales, batch_size, updates)

    def _initial_noise_scale(self, replica: int) -> float:
        model = self.workload.initial_model(replica).to(self.backend.device.torch_device)
        return self._noise_scale(model, self.workload.replica_data(self.data, replica), replica)

    def _noise_scale(self, model: nn.Module, data: Data, replica: int) -> float:
        """The gradient noise scale tr(Σ) / |G|² in examples, exact where all training examples are used.

        From n of N examples |G|² is too large by (1/n - 1/N) tr(Σ), which is subtracted; the difference may be
        negative. Infinite where there is no gradient.
        """
        indices = self._noise_indices(replica)
        statistics = gradient_statistics(
            model, self.workload.loss, data.train_inputs[indices], data.train_targets[indices]
        )
        bias = statistics.variance * (1 / len(indices) - 1 / len(data.train_inputs))
        signal = statistics.squared_norm - bias
        return statistics.variance / signal if signal else math.inf

    def _noise_indices(self, replica: int) -> Tensor:
        generator = self.workload.generator("noise scale examples", replica)
        order = torch.randperm(len(self.data.train_inputs), generator=generator)
        return order[: self.noise_examples].to(self.data.train_inputs.device)
