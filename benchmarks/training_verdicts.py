"""How well the rules of the rows about trainings find known effects, in simulation: bias, coverage and verdicts.

`python -m benchmarks.training_verdicts` prints a table per rule: *Momentum saves updates* (ratio of medians), *The
noise scale predicts the critical batch size* (equivalence) and *Generalization* (paired difference). A share of the
seeds never reaches the target or the fitted loss. The intervals are those of the claims, made from the same rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from benchmarks.simulated_trainings import DIGITS, NEVER, Never, Seeds, annealed_rows, facts, tuned_updates
from suite.evidence.annealed import annealing_problem, both_at_loss
from suite.evidence.critical_batch import CriticalBatch
from suite.statistics import Interval, Verdict, equivalence, mean_interval, ratio_of_estimates, verdict

# The rules: each makes the interval of one experiment, None where there is a problem instead of a verdict


def speed_up(ratio: float, never: Never, seeds: int, generator: np.random.Generator) -> Interval | None:
    """The ratio of the median updates of two optimizers at one batch size; `ratio` is the true one."""
    effects, size = Seeds.of(seeds, generator), DIGITS.large
    slow, fast = (tuned_updates({size: 100 * factor}, effects, never, generator) for factor in (ratio, 1))
    if any(tuned.problem(size, "") for tuned in (slow, fast)):
        return None
    return slow.over(fast, size)


CRITICAL, CRITICAL_SIZES, CRITICAL_SEEDS = 16, (1, 8, 64, 1024), 10
"""The critical batch size, the batch sizes whose updates show it, and the seeds of each and of the prediction."""
PREDICTION_LOG_SD = 0.2
"""Of the log of the critical batch size that the noise scale of one seed predicts."""
FACTOR = 2
"""That of the equivalence."""


def critical_ratio(ratio: float, never: Never, seeds: int, generator: np.random.Generator) -> Interval | None:
    """The measured over the predicted critical batch size; `ratio` is the true one."""
    medians = {size: 100 * (1 + CRITICAL / size) for size in CRITICAL_SIZES}
    critical = CriticalBatch.of(tuned_updates(medians, Seeds.of(seeds, generator), never, generator))
    if not isinstance(critical, CriticalBatch):
        return None
    logs = generator.normal(math.log(CRITICAL / ratio), PREDICTION_LOG_SD, size=seeds)
    return ratio_of_estimates(critical.interval, mean_interval(logs).map(math.exp))


def generalization_gap(
    noise: str, effect: float, never: Never, seeds: int, generator: np.random.Generator
) -> Interval | None:
    """The paired difference of the test scores at the fitted loss; `effect` is the true one."""
    rows, loss = annealed_rows(effect, noise, never, seeds, generator), facts().fitted_loss
    if annealing_problem(rows, facts(), loss):
        return None
    scores = both_at_loss(rows, facts(), loss, "test_score")
    return mean_interval(scores[facts().small] - scores[facts().large])


# How well they do


@dataclass(frozen=True)
class Rule:
    interval: Callable[[float, Never, int, np.random.Generator], Interval | None]
    judge: Callable[[Interval], Verdict]
    error: Callable[[float, float], float]
    """Of an estimate, given the truth."""
    truths: tuple[float, ...]
    """In the printed table."""
    never: tuple[str, ...]
    seeds: tuple[int, ...] = (30, 50)
    experiments: int = 400
    """Of each case, in the printed table."""


def _relative_error(estimate: float, truth: float) -> float:
    return estimate / truth - 1


GAP = Rule(
    partial(generalization_gap, "equal noise"),
    judge=lambda interval: verdict(interval, 0),
    error=lambda estimate, truth: estimate - truth,
    truths=(0.0, 0.003, -0.003),
    never=("0%", "10%", "30%"),
    seeds=(5, 30, 50),
)
RULES = {
    "updates without / with momentum": Rule(
        speed_up,
        lambda interval: verdict(interval, 1),
        _relative_error,
        truths=(1.0, 1.2, 1.5),
        never=("0%", "10%", "30%", "10%, no trials", "30%, no trials"),
    ),
    "critical batch size, measured / predicted": Rule(
        critical_ratio,
        lambda interval: equivalence(interval, 1, FACTOR),
        _relative_error,
        truths=(1.0, float(FACTOR), 1 / FACTOR),
        never=("0%", "10%", "30%"),
        seeds=(CRITICAL_SEEDS,),
        experiments=200,
    ),
    "test score, Small - Large, equal noise in the loss": GAP,
    "test score, Small - Large, Small noisier": replace(GAP, interval=partial(generalization_gap, "Small noisier")),
}


@dataclass(frozen=True)
class Accuracy:
    """Of the experiments that have an interval."""

    bias: float
    """Median error."""
    coverage: float
    """Share of the intervals that hold the truth."""
    holds: float
    fails: float
    """Shares of the verdicts."""
    none: float
    """Share of all experiments that have no verdict, since too many seeds never reached the target or the loss."""


def accuracy(name: str, truth: float, never: str, seeds: int, experiments: int) -> Accuracy:
    rule, generator = RULES[name], np.random.default_rng(0)
    tried = [rule.interval(truth, NEVER[never], seeds, generator) for _ in range(experiments)]
    intervals = [interval for interval in tried if interval is not None]
    verdicts = [rule.judge(interval) for interval in intervals]
    return Accuracy(
        bias=float(np.median([rule.error(interval.estimate, truth) for interval in intervals])),
        coverage=float(np.mean([interval.low <= truth <= interval.high for interval in intervals])),
        holds=float(np.mean([outcome is Verdict.HOLDS for outcome in verdicts])),
        fails=float(np.mean([outcome is Verdict.FAILS for outcome in verdicts])),
        none=1 - len(intervals) / experiments,
    )


TRACKED_EXPERIMENTS = 50


class TrainingVerdicts:
    """The median ratio and the paired difference where there is no effect."""

    version = "1"
    params = (
        ["updates without / with momentum", "test score, Small - Large, equal noise in the loss"],
        ["0%", "10%"],
    )
    param_names = ("rule", "never")
    unit = "share"
    timeout = 300

    def track_coverage(self, rule, never):
        return self._at_null(rule, never).coverage

    def track_false_verdicts(self, rule, never):
        result = self._at_null(rule, never)
        return result.holds + result.fails

    def _at_null(self, rule, never):
        return accuracy(rule, RULES[rule].truths[0], never, 30, TRACKED_EXPERIMENTS)


def print_table() -> None:
    for name, rule in RULES.items():
        print(f"{name}: {rule.experiments} experiments")
        print("  seeds   truth  never reached       bias  coverage   holds   fails    none")
        for seeds, never, truth in product(rule.seeds, rule.never, rule.truths):
            result = accuracy(name, truth, never, seeds, rule.experiments)
            shares = (result.coverage, result.holds, result.fails, result.none)
            columns = "  ".join(f"{share:6.1%}" for share in shares)
            print(f"  {seeds:5}  {truth:+6.3f}  {never:15}  {result.bias:+8.4f}    {columns}", flush=True)


if __name__ == "__main__":
    print_table()
