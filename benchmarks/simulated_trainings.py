"""Stored rows of simulated trainings whose true effects are known, for `benchmarks.training_verdicts`."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from suite.evidence import Evidence, Facts
from suite.evidence.tuned_updates import TunedUpdates
from suite.experiments.tuned_training import FINAL, TRIAL
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


# Annealed trainings of growing length

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
