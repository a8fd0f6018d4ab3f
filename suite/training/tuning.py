"""Tuning of the learning rate of a batch size.

Every rate of a log-spaced grid is tried with the same few replicas, which train in turns. A grid whose best rate lies
on its edge is extended there, up to a limit. Then the best rate and its neighbours on a finer grid are tried with
more replicas, so that the choice is not luck. The final training uses other replicas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from suite.statistics import value_at_crossing
from suite.training import evaluations
from suite.training.budgets import Budget, updates_per_epoch
from suite.training.compile_policy import CALLS_TO_REPAY, CompilePolicy
from suite.training.engine import Engine
from suite.training.learning_rate import FIXED, Tuned
from suite.training.protocol import Protocol
from suite.workloads import Data, Workload

FIRST_TRIAL_REPLICA = 1_000_000
"""The number of the first replica of trials, beyond those of final trainings."""
MAX_TRIAL_UPDATES = 10
"""Limit of the updates of a final training, in multiples of those of its trials: a longer training is stuck."""
EPOCHS_TO_TARGET = 10
"""Limit of the expected epochs of trials to a target loss."""
MAX_FINE_UPDATES = 2
"""Limit of the updates of a trial on the finer grid, in multiples of those at the best rate so far."""


def first_grid(learning_rate: float, rule: Tuned) -> list[float]:
    """The initial grid, ascending: `learning_rate` with `each_way` rates below and above.

    >>> first_grid(0.5, Tuned(factor=2.0, each_way=1))
    [0.25, 0.5, 1.0]
    """
    return [learning_rate * rule.factor**power for power in range(-rule.each_way, rule.each_way + 1)]


def extend_grid(grid: Sequence[float], best: float, rule: Tuned) -> list[float]:
    """The rates to add to `grid`, ascending, where `best` lies on its edge; none where it does not.

    >>> extend_grid([0.25, 0.5, 1.0], best=1.0, rule=Tuned(factor=2.0, each_way=2))
    [2.0, 4.0]
    """
    if best == grid[-1]:
        return [best * rule.factor**power for power in range(1, rule.each_way + 1)]
    if best == grid[0]:
        return [best / rule.factor**power for power in range(rule.each_way, 0, -1)]
    return []


def cost(protocol: Protocol, history: Sequence[evaluations.Evaluation]) -> tuple[float, float]:
    """The cost of a training: the updates to the target, infinite where it was not reached and zero where the budget
    has none, then the last training loss, infinite where it is not finite."""
    losses = [evaluation[1] for evaluation in history]
    last = losses[-1] if math.isfinite(losses[-1]) else math.inf
    if not protocol.budget.needs_target:
        return 0.0, last
    updates = value_at_crossing(losses, [evaluation[0] for evaluation in history], protocol.budget.loss)
    return (math.inf if math.isnan(updates) else updates), last


def mean_costs(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean cost of each rate (index, ascending) over its replicas, columns `cost_updates` and `cost_loss`."""
    return trials.groupby("learning_rate")[["cost_updates", "cost_loss"]].mean()


def best_rate(trials: pd.DataFrame) -> float:
    """The rate with the lowest mean updates to the target, then the lowest mean loss, then the lowest rate; out of
    those of the finer grid where there is one."""
    costs = mean_costs(decisive(trials))
    return float(costs.sort_values(["cost_updates", "cost_loss"], kind="stable").index[0])


def decisive(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that decide: those of the finer grid where there is one."""
    return trials[trials["fine"]] if trials["fine"].any() else trials


def fine_neighbours(rates: Sequence[float], best: float, rule: Tuned) -> list[float]:
    """The rates next to `best` at the square root of the grid's factor that are not in `rates`, ascending.

    >>> fine_neighbours([0.5], best=0.5, rule=Tuned(factor=4.0))
    [0.25, 1.0]
    """
    step = math.sqrt(rule.factor)
    return [rate for rate in (best / step, best * step) if not any(math.isclose(rate, tried) for tried in rates)]


def _outside(trials: pd.DataFrame, rule: Tuned) -> list[float]:
    """The `fine_neighbours` of the best rate of `trials` that are not tried yet."""
    return fine_neighbours(trials["learning_rate"].unique(), best_rate(trials), rule)


def trial_replicas(count: int) -> range:
    """The first `count` replicas of trials."""
    return range(FIRST_TRIAL_REPLICA, FIRST_TRIAL_REPLICA + count)


class EarlyStopping:
    """Ends the trials of a rate as soon as it can no longer be the best.

    The updates that the `replicas` of a rate have made so far are a lower bound of the updates that they take to the
    target. Their sum must stay below that of every rate whose replicas have all reached the target.
    """

    def __init__(self, replicas: int):
        self.replicas = replicas
        self.updates: dict[float, dict[int, float]] = {}
        self.complete: dict[float, set[int]] = {}

    def ended(self, place: int, protocol: Protocol, history: Sequence[evaluations.Evaluation]) -> bool:
        """`evaluations.Ended`: whether a trial has ended, or its rate can no longer be the best."""
        if not protocol.budget.needs_target:
            return evaluations.ends(place, protocol, history)
        rate = protocol.learning_rate
        updates, complete = self.updates.setdefault(rate, {}), self.complete.setdefault(rate, set())
        if evaluations.ends(place, protocol, history):
            updates[place] = cost(protocol, history)[0]
            complete.add(place)
            return True
        updates[place] = history[-1][0]
        return sum(updates.values()) >= self._fewest_updates()

    def _fewest_updates(self) -> float:
        """The smallest sum of updates to the target, of the rates whose replicas have all ended."""
        rates = [rate for rate, places in self.complete.items() if len(places) == self.replicas]
        return min((sum(self.updates[rate].values()) for rate in rates), default=math.inf)


@dataclass(frozen=True)
class Tuning:
    """The search for the learning rate of `batch_size`, by a protocol whose rate rule is `Tuned`."""

    workload: Workload
    data: Data
    protocol: Protocol
    batch_size: int
    engine: Engine
    policy: CompilePolicy
    """Shared by trials and final trainings, which use the same compiled updates."""

    @classmethod
    def of(
        cls,
        workload: Workload,
        data: Data,
        protocol: Protocol,
        batch_size: int,
        engine: Engine,
        calls_to_repay: float = CALLS_TO_REPAY,
    ) -> "Tuning":
        """The tuning with a compile policy for the trials of the first grid."""
        examples, rule = len(data.train_inputs), protocol.rate_rule
        updates = protocol.budget.expected_updates(examples, batch_size)
        if protocol.budget.needs_target:
            updates = min(updates, EPOCHS_TO_TARGET * updates_per_epoch(examples, batch_size))
        trials = rule.seeds * len(first_grid(protocol.learning_rate, rule))
        policy = CompilePolicy.for_trainings(
            workload, protocol, batch_size, examples, trials, engine.replicas_per_call, updates, calls_to_repay
        )
        return cls(workload, data, protocol, batch_size, engine, policy)

    def trials(self) -> pd.DataFrame:
        """Run all trials. Return a row per rate and replica, with `fine`, whether it belongs to the finer grid, and
        `on_edge`, equal in each row: whether the best rate lies on the edge of the last grid."""
        return self.refined(self.coarse_trials())

    def coarse_trials(self) -> pd.DataFrame:
        """Run the trials of the grid and of its extensions. Return a row per rate and replica."""
        rule, stopping = self.protocol.rate_rule, EarlyStopping(self.protocol.rate_rule.seeds)
        replicas = trial_replicas(rule.seeds)
        trials = self.try_rates(first_grid(self.protocol.learning_rate, rule), replicas, stopping.ended)
        extensions = 0
        while (added := self._added_rates(trials)) and extensions < rule.growths:
            more = self.try_rates(added, replicas, stopping.ended)
            trials = pd.concat([trials, more], ignore_index=True)
            extensions += 1
        return trials

    def refined(self, trials: pd.DataFrame) -> pd.DataFrame:
        """The coarse `trials` with those of the finer grid, where the rate rule has one; columns as in `trials`."""
        if self.protocol.rate_rule.fine_seeds:
            trials = pd.concat([trials, self._fine_trials(trials)], ignore_index=True)
        rates = decisive(trials)["learning_rate"]
        return trials.assign(on_edge=best_rate(trials) in (rates.min(), rates.max()))

    def _added_rates(self, trials: pd.DataFrame) -> list[float]:
        best = best_rate(trials)
        return extend_grid(sorted(trials["learning_rate"].unique()), best, self.protocol.rate_rule)

    def _fine_trials(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Trials of the best rate of `trials` and of its neighbours on the finer grid, and again of the neighbours of
        a neighbour that is better, until the best rate lies between two others, or the grid has grown enough."""
        rule, best = self.protocol.rate_rule, best_rate(trials)
        budget = _capped(self.protocol.budget, trials, MAX_FINE_UPDATES)
        finer = replace(self, protocol=replace(self.protocol, budget=budget))
        replicas = trial_replicas(rule.fine_seeds)

        def tried(rates: Sequence[float]) -> pd.DataFrame:
            return finer.try_rates(rates, replicas, evaluations.ends).assign(fine=True)

        fine, extensions = tried([best, *fine_neighbours([best], best, rule)]), 0
        while extensions < 2 * rule.each_way and (added := _outside(fine, rule)):
            fine = pd.concat([fine, tried(added)], ignore_index=True)
            extensions += 1
        return fine

    def try_rates(self, rates: Sequence[float], replicas: Sequence[int], ended: evaluations.Ended) -> pd.DataFrame:
        """Run the trials of `rates` with `replicas`. Return a row per rate and replica: its last evaluation, with
        `cost_updates`, `cost_loss` and `fine`, here False."""
        places = [(rate, replica) for rate in rates for replica in replicas]
        protocols = [replace(self.protocol, learning_rate=rate, rate_rule=FIXED) for rate, _ in places]
        histories = self.train(protocols, [replica for _, replica in places], ended)
        rows = []
        for (rate, replica), protocol, history in zip(places, protocols, histories, strict=True):
            updates, loss = cost(protocol, history)
            last = evaluations.table(history, protocol, len(self.data.train_inputs), self.batch_size).tail(1)
            rows.append(last.assign(seed=replica, learning_rate=rate, cost_updates=updates, cost_loss=loss))
        return pd.concat(rows, ignore_index=True).assign(fine=False)

    def train(
        self,
        protocols: Sequence[Protocol],
        replicas: Sequence[int],
        ended: evaluations.Ended = evaluations.ends,
    ) -> list[list[evaluations.Evaluation]]:
        """Train replica `replicas[i]` by `protocols[i]` until it has `ended`, and return the evaluations of each."""
        return self.engine.train(self.workload, self.data, protocols, self.batch_size, replicas, self.policy, ended)


def final_protocol(protocol: Protocol, trials: pd.DataFrame) -> Protocol:
    """The protocol of the final trainings: at the best rate of the `trials`, with a capped budget."""
    return replace(
        protocol,
        learning_rate=best_rate(trials),
        rate_rule=FIXED,
        budget=_capped(protocol.budget, decisive(trials), MAX_TRIAL_UPDATES),
    )


def _capped(budget: Budget, trials: pd.DataFrame, multiple: float) -> Budget:
    """`budget` with at most `multiple` times the updates to the target of the best rate's trials."""
    updates = mean_costs(trials)["cost_updates"].min()
    if not (budget.needs_target and math.isfinite(updates)):
        return budget
    return replace(budget, max_updates=min(budget.max_updates, math.ceil(multiple * updates)))
