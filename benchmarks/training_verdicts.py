"""How well the rules of the rows about trainings find known effects, in simulation: bias, coverage and verdicts.

`python -m benchmarks.training_verdicts` prints a table per rule: *Momentum saves updates* (ratio of medians), *The
noise scale predicts the critical batch size* (equivalence) and *Generalization* (paired difference). A share of the
seeds never reaches the target or the fitted loss. The intervals are those of the claims, made from the same rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd

from suite.evidence import Evidence, Facts
from suite.evidence.annealed import annealing_problem, both_at_loss
from suite.evidence.critical_batch import CriticalBatch
from suite.evidence.tuned_updates import TunedUpdates
from suite.experiments.tuned_training import FINAL, TRIAL
from suite.statistics import Interval, Verdict, equivalence, mean_interval, ratio_of_estimates, verdict
from suite.status import Status
from suite.training.budgets import MIN_LENGTH
from suite.training.learning_rate import FINE_SEARCH
from suite.training.protocol import Protocol
from suite.training.tuning import best_rate
from suite.workloads import find

DIGITS = find("digits")


@dataclass(frozen=True)
class Never:
    """Probabilities that a final training and a trial never reach the target."""

    final: float
    trial: float


NEVER = {
    "0%": Never(0, 0),
    "5%": Never(0.05, 0.05),
    "10%": Never(0.1, 0.1),
    "30%": Never(0.3, 0.3),
    "10%, no trials": Never(0.1, 0),
    "30%, no trials": Never(0.3, 0),
}
"""By the share of seeds; in the last two every trial reaches the target."""


@cache
def facts() -> Facts:
    return Facts.of(DIGITS, DIGITS.load())


# Trainings to the target at tuned rates

PROTOCOL = Protocol.to_target(DIGITS, FINE_SEARCH)
LOG_SD, SHARED_VARIANCE = 0.3, 0.5
"""Standard deviation over seeds of the log of the updates to the target, and the share of its variance that belongs
to the seed: it is the same at every rate and batch size and with every optimizer."""
COSTS_OF_RATES = {1 / math.sqrt(2): 1.1, 1.0: 1.0, math.sqrt(2): 1.1}
"""The median updates at the rates of the fine grid, over those at the best rate."""


@dataclass(frozen=True)
class Seeds:
    """Standard normal effects of the seeds, shared by all their trainings."""

    final: np.ndarray
    trial: np.ndarray

    @classmethod
    def of(cls, seeds: int, generator: np.random.Generator) -> "Seeds":
        return cls(generator.normal(size=seeds), generator.normal(size=FINE_SEARCH.fine_seeds))


def _updates(median: float, effects: np.ndarray, never: float, generator: np.random.Generator) -> np.ndarray:
    """Updates to the target of each seed, log-normal; infinite with probability `never`."""
    alone = generator.normal(size=len(effects))
    logs = LOG_SD * (math.sqrt(SHARED_VARIANCE) * effects + math.sqrt(1 - SHARED_VARIANCE) * alone)
    return np.where(generator.random(len(effects)) < never, math.inf, median * np.exp(logs))


def _trials(median: float, effects: np.ndarray, never: float, generator: np.random.Generator) -> pd.DataFrame:
    """The trials on the fine grid, where `median` is that of the best rate."""
    frames = []
    for rate, factor in COSTS_OF_RATES.items():
        updates = _updates(factor * median, effects, never, generator)
        costs = {"cost_updates": updates, "cost_loss": _last_loss(updates)}
        frames.append(pd.DataFrame({"learning_rate": rate, "seed": range(len(effects)), **costs}))
    return pd.concat(frames).assign(stage=TRIAL, fine=True)


def _last_loss(updates: np.ndarray) -> np.ndarray:
    """The training loss at the end: the target loss, or twice as much where it was never reached."""
    return np.where(np.isinf(updates), 2, 1) * DIGITS.target_loss


def _tuned_rows(median: float, seeds: Seeds, never: Never, generator: np.random.Generator) -> pd.DataFrame:
    """The trials of one batch size, and the final trainings at the rate that they choose."""
    trials = _trials(median, seeds.trial, never.trial, generator)
    rate = best_rate(trials)
    updates = _updates(COSTS_OF_RATES[rate] * median, seeds.final, never.final, generator)
    reached = np.isfinite(updates)
    finals = {
        "seed": range(len(updates)),
        "updates": np.where(reached, updates, DIGITS.max_updates),
        "train_loss": _last_loss(updates),
        "status": np.where(reached, Status.OK, Status.TARGET_NOT_REACHED),
    }
    return pd.concat([trials, pd.DataFrame(finals).assign(stage=FINAL, learning_rate=rate)])


def tuned_updates(
    medians: dict[int, float], seeds: Seeds, never: Never, generator: np.random.Generator
) -> TunedUpdates:
    """Of simulated trainings with the true `medians` by batch size."""
    frames = [
        _tuned_rows(median, seeds, never, generator).assign(batch_size=size, protocol=PROTOCOL.key)
        for size, median in medians.items()
    ]
    return TunedUpdates.of(Evidence.from_frames(facts(), frames), PROTOCOL)


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


GROWTH, LENGTHS = 1.5, 8
"""The ratio of the lengths of annealed trainings, and their number."""
FIRST_LOSS, LOG_LOSS_PER_LENGTH = 8, 0.8
"""Training loss at the first length, over the fitted loss, and by how much its log falls from length to length."""
SCORE_PER_LENGTH, SCORE_SD, SPLIT_SD = 0.004, 0.004, 0.01
"""Rise of the test score from length to length, its standard deviation from training to training, and that from seed
to seed."""
NOISE = {"equal noise": (0.3, 0.3), "Small noisier": (0.7, 0.1)}
"""Standard deviation of the log of the training loss at Small and at Large."""


def annealed_rows(
    effect: float, noise: str, never: Never, seeds: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Ends of annealed trainings; the test score at Small is higher by `effect` at the same mean training loss."""
    splits = SPLIT_SD * generator.normal(size=(seeds, 1))
    sizes, scores = (facts().small, facts().large), (0.95 + splits + effect, 0.95 + splits)
    frames = [
        _ends(base_scores, log_sd, never, generator).assign(batch_size=size)
        for size, base_scores, log_sd in zip(sizes, scores, NOISE[noise], strict=True)
    ]
    return pd.concat(frames)


def _ends(base_scores: np.ndarray, log_sd: float, never: Never, generator: np.random.Generator) -> pd.DataFrame:
    """A row per seed and length, of seeds whose scores at the first length are `base_scores` [n, 1] on average."""
    seeds, lengths = len(base_scores), np.arange(LENGTHS)
    noise, score_noise = generator.normal(size=(2, seeds, LENGTHS))
    losses = FIRST_LOSS * facts().fitted_loss * np.exp(log_sd * noise - LOG_LOSS_PER_LENGTH * lengths)
    stuck = generator.random((seeds, 1)) < never.final
    losses = np.where(stuck, np.maximum(losses, 1.1 * facts().fitted_loss), losses)
    columns = {
        "seed": np.repeat(np.arange(seeds), LENGTHS),
        "updates": np.tile(MIN_LENGTH * GROWTH**lengths, seeds),
        "train_loss": losses.ravel(),
        "test_score": (base_scores + SCORE_PER_LENGTH * lengths + SCORE_SD * score_noise).ravel(),
    }
    return pd.DataFrame(columns).assign(status=Status.OK)


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
    never=("0%", "5%", "10%"),
)
"""With 30% there is no verdict: the claim leaves out at most a tenth of the seeds."""
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
