"""Annealed trainings of Small and Large, compared where their training loss is the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence.facts import Facts
from suite.evidence.problem import Problem, why_none
from suite.evidence.trainings import at_loss
from suite.formatting import thousands
from suite.statistics import HOLM_LEVEL, Interval, Verdict, holm, mean_interval, mean_p_value, verdict
from suite.status import Status

MAX_LEFT_OUT = 0.1
"""The share of seeds of a batch size that a comparison may leave out."""
LOSSES = 4
"""Number of training losses at which annealed trainings are compared, from the target loss to the fitted loss."""


@dataclass(frozen=True)
class NotFitted:
    """Seeds whose training loss never fell to the one at which batch sizes are compared."""

    seeds: int
    all_seeds: int
    batch_size: int

    def __str__(self) -> str:
        where = f"at batch size {thousands(self.batch_size)}"
        return f"without {self.seeds} of {self.all_seeds} seeds {where}, which never fitted the training examples"


def not_fitted(rows: pd.DataFrame, facts: Facts, loss: float) -> tuple[NotFitted, ...]:
    """The seeds of Small and of Large, trained as in `rows`, that never reach `loss`; empty where all do."""
    left_out = []
    for batch_size in (facts.small, facts.large):
        of_size = rows[rows["batch_size"] == batch_size]
        lowest = of_size[of_size["status"] == Status.OK].groupby("seed")["train_loss"].min()
        everyone = of_size["seed"].nunique()
        if missing := everyone - int((lowest <= loss).sum()):
            left_out.append(NotFitted(missing, everyone, batch_size))
    return tuple(left_out)


def annealing_problem(rows: pd.DataFrame, facts: Facts, loss: float) -> Problem | None:
    """Why Small cannot be compared with Large at `loss`; None where at most MAX_LEFT_OUT of the seeds are missing."""
    for batch_size in (facts.small, facts.large):
        of_size = rows[rows["batch_size"] == batch_size]
        if of_size["seed"].dropna().empty:
            return why_none(of_size)
    for left_out in not_fitted(rows, facts, loss):
        if left_out.seeds > MAX_LEFT_OUT * left_out.all_seeds:
            where = f"at batch size {thousands(left_out.batch_size)}"
            return Problem(Status.TARGET_NOT_REACHED, "", left_out.seeds, left_out.all_seeds, where)
    return None


def both_at_loss(rows: pd.DataFrame, facts: Facts, loss: float, column: str) -> pd.DataFrame:
    """`column` of Small and Large at `loss`, of each seed that reaches it with both."""
    return at_loss(rows, loss, column)[[facts.small, facts.large]].dropna()


@dataclass(frozen=True)
class AtLoss:
    """Annealed trainings of Small and Large at an equal training loss; differences are Small minus Large."""

    loss: float
    scores: tuple[float, float]
    """Mean test scores of Small and Large."""
    updates: tuple[float, float]
    gap: Interval
    """Difference of the test scores."""
    loss_gap: Interval
    """Difference of the test losses."""
    p_holm: float
    """Of the difference of the test scores, after Holm's correction over all losses."""
    verdict: Verdict
    """After that correction."""


def pair(by_batch_size: pd.Series, facts: Facts) -> tuple[float, float]:
    """The values of Small and Large."""
    return float(by_batch_size[facts.small]), float(by_batch_size[facts.large])


def losses(facts: Facts) -> list[float]:
    """The training losses of the course, from the target loss to the fitted loss in equal ratios; one where they are
    the same."""
    count = LOSSES if facts.fitted_loss < facts.target_loss else 1
    return np.geomspace(facts.target_loss, facts.fitted_loss, count).tolist()


def course(rows: pd.DataFrame, facts: Facts) -> tuple[AtLoss, ...]:
    """At each of `losses` that Small and Large reach."""
    compared = [loss for loss in losses(facts) if annealing_problem(rows, facts, loss) is None]
    gaps = [_difference(both_at_loss(rows, facts, loss, "test_score"), facts) for loss in compared]
    corrected = holm([mean_p_value(gap) for gap in gaps])
    return tuple(_at_loss(rows, facts, loss, p_holm) for loss, p_holm in zip(compared, corrected, strict=True))


def _at_loss(rows: pd.DataFrame, facts: Facts, loss: float, p_holm: float) -> AtLoss:
    scores, updates, test_losses = (
        both_at_loss(rows, facts, loss, column) for column in ("test_score", "updates", "test_loss")
    )
    gap = mean_interval(_difference(scores, facts))
    return AtLoss(
        loss=float(loss),
        scores=pair(scores.mean(), facts),
        updates=pair(updates.mean(), facts),
        gap=gap,
        loss_gap=mean_interval(_difference(test_losses, facts)),
        p_holm=p_holm,
        verdict=verdict(gap, 0) if p_holm < HOLM_LEVEL else Verdict.UNDECIDED,
    )


def _difference(of_seeds: pd.DataFrame, facts: Facts) -> pd.Series:
    """Small minus Large, seed by seed."""
    return of_seeds[facts.small] - of_seeds[facts.large]
