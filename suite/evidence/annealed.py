"""Annealed trainings of Small and Large, compared where their training loss is the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence.facts import Facts
from suite.evidence.problem import Problem, why_none
from suite.evidence.test_set import shared_variance
from suite.formatting import thousands
from suite.statistics import HOLM_LEVEL, Interval, Verdict, holm, mean_interval, mean_p_value, verdict
from suite.status import Status

MAX_LEFT_OUT = 0.1
"""The share of seeds that a comparison may leave out since they diverged; a length with more does not count."""
LOSSES = 4
"""Number of training losses at which annealed trainings are compared, from the target loss to the fitted loss."""


def at_mean_loss(rows: pd.DataFrame, loss: float, column: str) -> pd.Series:
    """`column` of each seed (index), trained with one batch size as in `rows`, at the length where the geometric mean
    of the training loss over seeds falls to `loss`; NaN for a seed that diverged, and for all where the mean never
    falls so far.

    Interpolated in the log of the loss between the lengths on either side. Then each seed is moved from its own loss
    to `loss`, along the mean slope of the column over the log loss. This leaves the mean over seeds as it is, and
    adds the error of the length to their variance.
    """
    rows = _that_count(rows)
    if rows.empty:
        return pd.Series(dtype=float)
    train_losses = rows["train_loss"].where(rows["status"] == Status.OK).clip(lower=np.finfo(float).tiny)
    rows = rows.assign(log_loss=np.log(train_losses))
    by_length = rows.pivot(index="seed", columns="updates", values=["log_loss", column])
    losses = by_length["log_loss"].dropna()
    values = by_length[column].loc[losses.index]
    reached = np.flatnonzero(losses.mean() <= np.log(loss))
    if len(reached) == 0:
        return pd.Series(np.nan, by_length.index)
    around = losses.columns[[max(reached[0] - 1, 0), reached[0]]]
    (first_loss, last_loss), (first_value, last_value) = losses.mean()[around], values.mean()[around]
    if first_loss == last_loss:
        return values[around[0]].reindex(by_length.index)
    share = (first_loss - np.log(loss)) / (first_loss - last_loss)
    slope = (first_value - last_value) / (first_loss - last_loss)
    seed_loss, seed_value = (
        (1 - share) * of_seed[around[0]] + share * of_seed[around[1]] for of_seed in (losses, values)
    )
    return (seed_value + slope * (np.log(loss) - seed_loss)).reindex(by_length.index)


def both_at_loss(rows: pd.DataFrame, facts: Facts, loss: float, column: str) -> pd.DataFrame:
    """`at_mean_loss` of Small and Large (columns), of the seeds that have a value with both."""
    return pd.DataFrame(
        {size: at_mean_loss(_of_size(rows, size), loss, column) for size in (facts.small, facts.large)}
    ).dropna()


def annealing_problem(rows: pd.DataFrame, facts: Facts, loss: float) -> Problem | None:
    """Why Small cannot be compared with Large at `loss`; None where it can."""
    for batch_size in (facts.small, facts.large):
        of_size, where = _of_size(rows, batch_size), f"at batch size {thousands(batch_size)}"
        if of_size.empty:
            return why_none(rows[rows["batch_size"] == batch_size])
        if _that_count(of_size).empty:
            return _diverged(of_size, where)
        if at_mean_loss(of_size, loss, "train_loss").isna().all():
            return Problem(Status.TARGET_NOT_REACHED, where=where)
    return None


def left_out(rows: pd.DataFrame, facts: Facts) -> tuple[Problem, ...]:
    """The seeds of Small and of Large, trained as in `rows`, that diverged; empty where none did."""
    lost = [
        _diverged(_that_count(_of_size(rows, batch_size)), f"at batch size {thousands(batch_size)}")
        for batch_size in (facts.small, facts.large)
    ]
    return tuple(problem for problem in lost if problem.replicas)


def _that_count(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the lengths at which at most MAX_LEFT_OUT of the seeds diverged."""
    diverged = (rows["status"] == Status.DIVERGED).groupby(rows["updates"]).transform("mean")
    return rows[diverged <= MAX_LEFT_OUT]


def _diverged(rows: pd.DataFrame, where: str) -> Problem:
    """The seeds that diverged at some length."""
    seeds = rows.loc[rows["status"] == Status.DIVERGED, "seed"].nunique()
    return Problem(Status.DIVERGED, replicas=seeds, all_replicas=rows["seed"].nunique(), where=where)


def _of_size(rows: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """The ends of trainings with `batch_size`; empty where there were none."""
    return rows[(rows["batch_size"] == batch_size) & rows["seed"].notna()]


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
    scores = [both_at_loss(rows, facts, loss, "test_score") for loss in compared]
    p_values = [mean_p_value(_difference(of_loss, facts), _shared_variance(of_loss, facts)) for of_loss in scores]
    corrected = holm(p_values)
    return tuple(_at_loss(rows, facts, loss, p_holm) for loss, p_holm in zip(compared, corrected, strict=True))


def _at_loss(rows: pd.DataFrame, facts: Facts, loss: float, p_holm: float) -> AtLoss:
    scores, updates, test_losses = (
        both_at_loss(rows, facts, loss, column) for column in ("test_score", "updates", "test_loss")
    )
    gap = mean_interval(_difference(scores, facts), _shared_variance(scores, facts))
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


def _shared_variance(scores: pd.DataFrame, facts: Facts) -> float:
    """That of the difference of the test `scores` of Small and Large."""
    return shared_variance(pair(scores.mean(), facts), facts)
