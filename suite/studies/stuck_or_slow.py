"""Stuck or slow? The lecture says that a full batch gets stuck; a large one also makes fewer updates per epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import left_out_sentence, problems_in_words, seeds_without_value
from suite.experiments.cell import Cell, Scope
from suite.experiments.stuck_or_slow import STANDSTILL
from suite.formatting import sentences, thousands, three_digits, with_bounds
from suite.statistics import Interval, mean_interval
from suite.status import Status
from suite.studies.study import Study
from suite.training.budgets import CappedUpdates
from suite.training.protocol import Protocol
from suite.workloads import Workload

MAX_SEEDS = 5
LOSSES = ["train_loss", "small_loss", "further_loss"]
VANISHED = 0.01
"""A gradient below this share of its initial norm has vanished."""


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Large at the end of the workload's epochs, and on to the updates of Small; none outside a factorial scope."""
    if not scope.factorial or workload.large not in scope.training_batch_sizes:
        return []
    budget = CappedUpdates(workload.epochs, workload.small, max_updates=workload.max_updates)
    protocol, seeds = Protocol.of(workload, budget), min(MAX_SEEDS, scope.seeds)
    return [Cell(STANDSTILL, workload.name, scope.training_backend, workload.large, seeds, protocol)]


@dataclass(frozen=True)
class Course:
    """Means over seeds; of losses the geometric mean."""

    updates: float
    """Of the large batch at the end of its epochs."""
    gradient_left: Interval
    """The norm of its gradient there over the initial norm, geometric mean over seeds."""
    smallest_eigenvalue: float
    """Of the Hessian there."""
    largest_eigenvalue: float
    loss: float
    """The training loss there."""
    further_updates: float
    """Of the large batch when its training is continued."""
    further_loss: float
    small_updates: float
    small_loss: float
    seeds: int
    caught_up: int
    """Seeds in which the large batch reaches the loss of the small one with no more updates."""

    @property
    def slow(self) -> bool:
        return self.caught_up == self.seeds

    @property
    def stuck(self) -> bool:
        return self.caught_up == 0 and self.gradient_left.estimate < VANISHED


@dataclass(frozen=True)
class Findings:
    facts: Facts
    course: Course | None
    """None where fewer than two seeds have a value."""
    problems: tuple[Problem, ...]


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(STANDSTILL.name)
    rows = planned[planned["status"] == Status.OK]
    problems = seeds_without_value(planned)
    if (rows.reindex(columns=LOSSES) <= 0).any(axis=None):
        rows, problems = rows.head(0), (*problems, Problem(Status.LOSS_NOT_POSITIVE))
    return Findings(evidence.facts, _course(rows) if len(rows) > 1 else None, problems)


def _course(rows: pd.DataFrame) -> Course:
    means = rows.mean(numeric_only=True)
    losses = np.exp(np.log(rows[LOSSES]).mean())
    return Course(
        updates=float(means["updates"]),
        gradient_left=mean_interval(np.log(rows["gradient_norm"] / rows["initial_norm"])).map(np.exp),
        smallest_eigenvalue=float(means["smallest"]),
        largest_eigenvalue=float(means["largest"]),
        loss=float(losses["train_loss"]),
        further_updates=float(means["further_updates"]),
        further_loss=float(losses["further_loss"]),
        small_updates=float(means["small_updates"]),
        small_loss=float(losses["small_loss"]),
        seeds=len(rows),
        caught_up=int((rows["further_loss"] <= rows["small_loss"]).sum()),
    )


def answer(findings: Findings) -> str:
    course = findings.course
    if course is None:
        reason = problems_in_words(findings.problems) or "a single seed was trained"
        return f"Whether the large batch was stuck or slow cannot be told: {reason}."
    if course.slow:
        return (
            "The large batch was slow, not stuck: given as many updates as the small batch made, it reaches the same "
            "loss."
        )
    if course.stuck:
        return "The large batch was stuck: its gradient has vanished, and as many updates do not bring it as far."
    return (
        "The large batch was neither stuck nor only slow: given as many updates as the small one, it reaches the "
        f"same loss in {course.caught_up} of {course.seeds} seeds."
    )


def explain(findings: Findings) -> str:
    course = findings.course
    if course is None:
        return ""
    return sentences(
        f"This was measured on {course.seeds} seeds. After {findings.facts.epochs} epochs, or "
        f"{thousands(course.updates)} updates, the large batch has a training loss of {three_digits(course.loss)}. "
        f"The norm of its gradient is {with_bounds(course.gradient_left, three_digits)} times its initial norm, and "
        f"the eigenvalues of the Hessian range from {three_digits(course.smallest_eigenvalue)} to "
        f"{three_digits(course.largest_eigenvalue)}.",
        f"The small batch ends at a loss of {three_digits(course.small_loss)} after "
        f"{thousands(course.small_updates)} updates. The large batch is then trained further: it reaches the loss of "
        f"the small one in {course.caught_up} of {course.seeds} seeds, after {thousands(course.further_updates)} "
        "updates on average.",
        left_out_sentence(findings.problems),
    )


study = Study(
    name="stuck_or_slow",
    claim="optimization",
    place=1,
    title="Stuck or slow?",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    opens_section=True,
)
