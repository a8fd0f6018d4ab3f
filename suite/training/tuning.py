"""Tuning the learning rate of a batch size, and training with the best.

Every rate of a log-spaced grid is tried with the same few replicas, all of them in turns; replicas that were never
tried are trained with the rate that won. A grid whose best lies on its edge grows there, to a stated limit.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from suite.cells import Cell, Measurement
from suite.statistics import value_at_crossing
from suite.training import looks
from suite.training.engine import train
from suite.training.learning_rate import FIXED, Tuned
from suite.training.protocol import Budget, Protocol, updates_per_epoch
from suite.training.repaid import Compiling
from suite.workloads import Data, Workload

FIRST_TRIED = 1_000_000
"""The replicas that rates are tried with are numbered from here: none of them is trained in the end."""
MOST_OF_TRIALS = 10
"""A training to the target is given up after so many times the updates of its trials: it is stuck."""
EPOCHS_TO_TARGET = 10
"""How many a race is expected to last, at the most."""
TRIAL, FINAL = "trial", "final"


def first_grid(learning_rate: float, rule: Tuned) -> list[float]:
    """The rates tried first, ascending: `each_way` below the workload's, it, and as many above."""
    return [learning_rate * rule.factor**power for power in range(-rule.each_way, rule.each_way + 1)]


def beyond(grid: Sequence[float], best: float, rule: Tuned) -> list[float]:
    """The rates by which `grid`, ascending, grows when `best` lies on its edge; none when it does not."""
    if best == grid[-1]:
        return [best * rule.factor**power for power in range(1, rule.each_way + 1)]
    if best == grid[0]:
        return [best / rule.factor**power for power in range(rule.each_way, 0, -1)]
    return []


def cost(protocol: Protocol, seen: Sequence[looks.Look]) -> tuple[float, float]:
    """What a training costs, less being better: updates to the target, infinite where it was not reached, and then
    the last training loss, infinite where it is no number. Without a target the loss alone."""
    losses = [look[1] for look in seen]
    last = losses[-1] if math.isfinite(losses[-1]) else math.inf
    if not protocol.budget.needs_target:
        return 0.0, last
    updates = value_at_crossing(losses, [look[0] for look in seen], protocol.budget.loss)
    return (math.inf if math.isnan(updates) else updates), last


def mean_costs(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean cost of each rate (index, ascending) over its replicas, columns `cost_updates` and `cost_loss`."""
    return trials.groupby("learning_rate")[["cost_updates", "cost_loss"]].mean()


def best_rate(trials: pd.DataFrame) -> float:
    """The rate of least mean updates to the target, then of least mean loss, then the lowest."""
    return float(mean_costs(trials).sort_values(["cost_updates", "cost_loss"], kind="stable").index[0])


class Race:
    """Trials to a target, which end once their rate can no longer win.

    The mean over a rate's replicas is at least that of the updates they made so far; a rate is lost when that is no
    less than the mean of one whose replicas have all reached the target.
    """

    def __init__(self, replicas: int):
        self.replicas = replicas
        self.spent: dict[float, dict[int, float]] = {}
        self.over: dict[float, set[int]] = {}

    def ended(self, place: int, protocol: Protocol, seen: Sequence[looks.Look]) -> bool:
        """`looks.Ended`: whether one trial is over, or its rate lost."""
        if not protocol.budget.needs_target:
            return looks.ends(place, protocol, seen)
        rate = protocol.learning_rate
        spent, over = self.spent.setdefault(rate, {}), self.over.setdefault(rate, set())
        if looks.ends(place, protocol, seen):
            spent[place] = cost(protocol, seen)[0]
            over.add(place)
            return True
        spent[place] = seen[-1][0]
        complete = [one for one, places in self.over.items() if len(places) == self.replicas]
        best = min((sum(self.spent[one].values()) for one in complete), default=math.inf)
        return sum(spent.values()) >= best


def try_rates(
    workload: Workload, data: Data, cell: Cell, rates: Sequence[float], race: Race, compiling: Compiling
) -> pd.DataFrame:
    """A row per rate and replica: how its training went, and `cost_updates` and `cost_loss`."""
    rule = cell.protocol.rate_rule
    tried = range(FIRST_TRIED, FIRST_TRIED + rule.seeds)
    places = [(rate, replica) for rate in rates for replica in tried]
    protocols = [replace(cell.protocol, learning_rate=rate, rate_rule=FIXED) for rate, _ in places]
    seen = train(workload, data, cell, protocols, [replica for _, replica in places], compiling, race.ended)
    rows = []
    for (rate, replica), protocol, of_trial in zip(places, protocols, seen, strict=True):
        updates, loss = cost(protocol, of_trial)
        last = looks.table(of_trial, protocol, len(data.train_inputs), cell.batch_size).tail(1)
        rows.append(last.assign(seed=replica, learning_rate=rate, cost_updates=updates, cost_loss=loss))
    return pd.concat(rows, ignore_index=True)


def tune(workload: Workload, data: Data, cell: Cell, compiling: Compiling) -> pd.DataFrame:
    """Every trial of the cell's batch size, a row each, with `on_edge` (the same in each): whether the rate that won
    lies on the edge of the grid even after it grew."""
    rule, race = cell.protocol.rate_rule, Race(cell.protocol.rate_rule.seeds)
    trials = try_rates(workload, data, cell, first_grid(cell.protocol.learning_rate, rule), race, compiling)
    growths = 0
    while (more := _more_rates(trials, rule)) and growths < rule.growths:
        trials = pd.concat([trials, try_rates(workload, data, cell, more, race, compiling)], ignore_index=True)
        growths += 1
    return trials.assign(on_edge=bool(more))


def _more_rates(trials: pd.DataFrame, rule: Tuned) -> list[float]:
    return beyond(sorted(trials["learning_rate"].unique()), best_rate(trials), rule)


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """The rows of every trial's end, `stage` trial, and of all looks at replicas 0 ... repeats - 1 trained with the
    rate that won, `stage` final. `learning_rate` is each row's own."""
    compiling = compiling_trials(workload, data, cell)
    trials = tune(workload, data, cell, compiling)
    final = settled(cell.protocol, trials)
    seen = train(workload, data, cell, [final] * cell.repeats, range(cell.repeats), compiling)
    finals = looks.tables(seen, final, len(data.train_inputs), cell.batch_size)
    finals = finals.assign(learning_rate=final.learning_rate, on_edge=bool(trials["on_edge"].iloc[0]))
    return pd.concat([trials.assign(stage=TRIAL), finals.assign(stage=FINAL)], ignore_index=True)


def compiling_trials(workload: Workload, data: Data, cell: Cell) -> Compiling:
    """For the trials of the first grid; what they have compiled, all that follow use."""
    examples, rule = len(data.train_inputs), cell.protocol.rate_rule
    expected = cell.protocol.budget.expected_updates(examples, cell.batch_size)
    if cell.protocol.budget.needs_target:
        expected = min(expected, EPOCHS_TO_TARGET * updates_per_epoch(examples, cell.batch_size))
    trials = rule.seeds * len(first_grid(cell.protocol.learning_rate, rule))
    return Compiling(workload, examples, cell, trials, expected)


def settled(protocol: Protocol, trials: pd.DataFrame) -> Protocol:
    """That of the final trainings: at the rate that won."""
    return replace(
        protocol, learning_rate=best_rate(trials), rate_rule=FIXED, budget=_capped(protocol.budget, trials)
    )


def _capped(budget: Budget, trials: pd.DataFrame) -> Budget:
    """The budget of the final trainings: to a target, MOST_OF_TRIALS times the updates that trials took at the rate
    that won, where they reached it."""
    updates = mean_costs(trials)["cost_updates"].min()
    if not (budget.needs_target and math.isfinite(updates)):
        return budget
    return replace(budget, max_updates=min(budget.max_updates, math.ceil(MOST_OF_TRIALS * updates)))


TUNED_TRAINING = Measurement("tuned_training", version=4, measure=measure, trains=True)
