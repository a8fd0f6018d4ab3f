"""Stuck or slow? The lecture says that a full batch gets stuck; a large one also makes fewer updates an epoch."""

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Evidence
from suite.claims.drawing import bounds, thousands, three_digits
from suite.claims.trained import left_out, without_value
from suite.instruments.standstill import STANDSTILL
from suite.statistics import mean_interval
from suite.training.protocol import CappedUpdates, Protocol
from suite.workloads import Workload

MOST_SEEDS = 5
FLAT = 0.01
"""A gradient of less than this share of its initial norm has all but vanished."""


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Large at the end of the workload's epochs, and on to the updates of Small; none outside a factorial scope."""
    protocol = Protocol.of(workload, CappedUpdates(workload.epochs, workload.small, max_updates=workload.max_updates))
    if not scope.factorial or workload.large not in scope.training_batch_sizes:
        return []
    return [
        Cell(
            STANDSTILL, workload.name, scope.training_backend, workload.large, min(MOST_SEEDS, scope.seeds), protocol
        )
    ]


def sentence(evidence: Evidence) -> str:
    """Which of the two it was, and why, or why that cannot be told; empty where it was not planned."""
    every = evidence.rows[evidence.rows["measurement"] == STANDSTILL.name]
    rows = every[every["status"] == "ok"]
    if every.empty:
        return ""
    if len(rows) < 2:
        return f"Stuck or slow? That cannot be told ({without_value(every) or 'of a single seed'})."
    left = mean_interval(np.log(rows["gradient_norm"] / rows["initial_norm"])).map(np.exp)
    mean = rows.mean(numeric_only=True)
    loss = np.exp(np.log(rows[["train_loss", "small_loss", "further_loss"]]).mean())
    caught = rows["further_loss"] <= rows["small_loss"]
    share = f"{left.estimate:.2g} times its initial norm ({bounds(left, '{:.2g}'.format)})"
    return (
        f"Stuck or slow? At the end of its epochs, after {thousands(mean['updates'])} updates, the large batch has "
        f"a gradient of {share}, and the Hessian's eigenvalues reach from {mean['smallest']:.2g} to "
        f"{mean['largest']:.2g}. Trained on, its loss falls from "
        f"{three_digits(loss['train_loss'])} to {three_digits(loss['further_loss'])} in "
        f"{thousands(mean['further_updates'])} updates; the small batch made {thousands(mean['small_updates'])} to "
        f"reach {three_digits(loss['small_loss'])}. {_verdict(caught, left.estimate, len(rows))}{left_out(every)}"
    )


def _verdict(caught: pd.Series, left: float, seeds: int) -> str:
    if caught.all():
        return (
            f"It was slow, not stuck: with no more updates than the small batch it gets as far in all {seeds} seeds."
        )
    if left < FLAT and not caught.any():
        return "It was stuck: its gradient has all but vanished, and as many updates do not get it as far."
    return (
        f"With as many updates it gets as far in {int(caught.sum())} of {seeds} seeds: neither stuck nor only slow."
    )
