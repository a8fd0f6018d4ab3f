"""Updates to the target loss at the learning rate that trials chose for each batch size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence.evidence import Evidence
from suite.evidence.problem import Problem, why_none
from suite.evidence.trainings import at_target, last_evaluations
from suite.experiments.tuned_training import TRIAL
from suite.formatting import listed, thousands
from suite.statistics import Interval, paired_medians, percentile_interval, resampled_choices
from suite.status import Status
from suite.training.protocol import Protocol
from suite.training.tuning import decisive


@dataclass(frozen=True)
class NeverReached:
    """Seeds that never reached the target, which count with infinitely many updates."""

    seeds: int
    all_seeds: int
    where: str

    def __str__(self) -> str:
        return f"{self.seeds} of {self.all_seeds} seeds {self.where} never reached the target and count as infinite"


@dataclass(frozen=True)
class TunedUpdates:
    """Trainings with one optimizer to the target, at each batch size with its own rate."""

    updates: pd.DataFrame
    """A row per seed, a column per batch size; infinite where the seed never reached the target."""
    draws: pd.DataFrame
    """Bootstrap draws of the median over seeds by batch size, each divided by what its choice of the rate costs."""
    rates: dict[int, float]
    rows: pd.DataFrame

    @classmethod
    def of(cls, evidence: Evidence, protocol: Protocol) -> TunedUpdates:
        """From the trials and the final trainings by `protocol`."""
        rows = evidence.rows[evidence.rows["protocol"] == protocol.key]
        trials, finals = rows[rows["stage"] == TRIAL], rows[rows["stage"] != TRIAL]
        last = last_evaluations(finals)
        seeds = last.pivot(index="seed", columns="batch_size", values="updates")
        updates = at_target(finals, evidence.facts, "updates").reindex(index=seeds.index, columns=seeds.columns)
        updates = updates.fillna(np.inf).where(seeds.notna())
        with np.errstate(invalid="ignore"):  # infinite medians at rates of infinite cost: draws that say nothing
            draws = pd.DataFrame(
                {
                    size: paired_medians(updates[[size]].dropna())[:, 0]
                    / _choice(trials[trials["batch_size"] == size])
                    for size in updates
                }
            )
        return cls(updates, draws, last.groupby("batch_size")["learning_rate"].first().to_dict(), finals)

    @property
    def medians(self) -> dict[int, float]:
        """By batch size, over seeds."""
        return {int(size): float(self.updates[size].dropna().median()) for size in self.updates}

    def problem(self, batch_size: int, where: str) -> Problem | None:
        """Why the median at `batch_size` has no value; None where it has one."""
        if batch_size not in self.updates:
            return why_none(self.rows[self.rows["batch_size"] == batch_size])
        if np.isfinite(self.medians[batch_size]):
            return None
        never = self.never_reached(batch_size, where)[0]
        return Problem(Status.TARGET_NOT_REACHED, "", never.seeds, never.all_seeds, where)

    def never_reached(self, batch_size: int, where: str) -> tuple[NeverReached, ...]:
        """The seeds at `batch_size` that never reached the target; empty where there are none."""
        seeds = self.updates[batch_size].dropna()
        count = int(np.isinf(seeds).sum())
        return (NeverReached(count, len(seeds), where),) if count else ()

    def over(self, denominator: TunedUpdates, batch_size: int) -> Interval:
        """Ratio of the median to that of `denominator` at `batch_size`, with the seeds paired."""
        estimate = self.medians[batch_size] / denominator.medians[batch_size]
        with np.errstate(invalid="ignore"):
            draws = self.draws[batch_size] / denominator.draws[batch_size]
        return percentile_interval(estimate, draws.dropna(), len(self.updates[batch_size].dropna()))

    def all_never_reached(self, where: str = "") -> tuple[NeverReached, ...]:
        """`never_reached` of every batch size."""
        return tuple(
            never
            for size in self.updates
            for never in self.never_reached(size, f"{where} at batch size {thousands(size)}".strip())
        )


def _choice(trials: pd.DataFrame) -> np.ndarray | float:
    """`resampled_choices` of the trials of one batch size; 1 where there are none."""
    if trials.empty:
        return 1.0
    return resampled_choices(decisive(trials).pivot(index="learning_rate", columns="seed", values="cost_updates"))


def never_reached_sentence(never_reached: tuple[NeverReached, ...]) -> str:
    """That seeds count as infinite; empty where none do."""
    return f"Of the trainings, {listed(list(map(str, never_reached)))}." if never_reached else ""
