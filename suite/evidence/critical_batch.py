"""The critical batch size that the updates to the target at several batch sizes show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence.facts import Facts
from suite.evidence.problem import Problem, why_none
from suite.evidence.trainings import at_target, training_problem
from suite.statistics import Interval, critical_batch_size, mean_interval
from suite.status import Status

TOO_FEW = Problem(Status.UNAVAILABLE, "fewer than three batch sizes were trained to the target")


@dataclass(frozen=True)
class LeftOut:
    """Seeds that did not reach the target with every batch size, which the critical batch size leaves out."""

    seeds: int
    all_seeds: int

    def __str__(self) -> str:
        return f"{self.seeds} of {self.all_seeds} seeds missed the target at some batch size and are left out"


@dataclass(frozen=True)
class CriticalBatch:
    """Fitted to the updates of each seed."""

    seeds: tuple[float, ...]
    """In examples, of every seed that reached the target with all batch sizes."""
    interval: Interval
    """Geometric mean over these seeds."""
    left_out: LeftOut | None

    @classmethod
    def of(cls, rows: pd.DataFrame, facts: Facts) -> CriticalBatch | Problem:
        """From the evaluations of trainings to the target at several batch sizes, or why they show none."""
        updates = at_target(rows, facts, "updates")
        if updates.empty:
            return training_problem(rows, "") or why_none(rows)
        if updates.shape[1] < 3:
            return TOO_FEW
        complete, trained = updates.dropna(), rows["seed"].nunique()
        if complete.empty:
            return Problem(Status.TARGET_NOT_REACHED, "no seed reached the target with every batch size")
        seeds = tuple(critical_batch_size(complete.columns, seed)[1] for _, seed in complete.iterrows())
        left_out = LeftOut(trained - len(seeds), trained) if trained > len(seeds) else None
        return cls(seeds, mean_interval(np.log(seeds)).map(np.exp), left_out)
