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
from suite.training.annealing import mean_loss

LOSSES = 4
"""Number of training losses at which annealed trainings are compared, from the target loss to the fitted loss."""


def at_mean_loss(rows: pd.DataFrame, loss: float, column: str) -> pd.Series:
    """`column` of each seed (index), trained with one batch size as in `rows`, at the length where the `mean_loss` of
    all seeds falls to `loss`. NaN for a seed that diverged there, and for all where the mean never falls so far.
    Where the mean is below `loss` at the shortest length already, the value there.

    Interpolated in the log of the loss between the lengths on either side, or in the loss where one is not positive.
    Then each seed is moved from its own loss to `loss`, along the mean slope of the column over the log loss. This
    leaves the mean over seeds as it is, and adds the error of the length to their variance.
    """
    around, seeds = lengths_around(rows, loss), rows["seed"].unique()
    if not around:
        return pd.Series(np.nan, seeds)
    ends = rows[rows["updates"].isin(around) & (rows["status"] == Status.OK)]
    scale = np.log if (ends["train_loss"] > 0).all() else np.asarray
    ends = ends.assign(loss=scale(ends["train_loss"]), value=ends[column])
    of_seeds = ends.pivot(index="seed", columns="updates", values=["loss", "value"]).dropna()
    if len(around) == 1:
        return of_seeds["value", around[0]].reindex(seeds)
    losses, values = (of_seeds[name][around] for name in ("loss", "value"))
    (first_loss, last_loss), (first_value, last_value) = losses.mean(), values.mean()
    share = (first_loss - scale(loss)) / (first_loss - last_loss)
    slope = (first_value - last_value) / (first_loss - last_loss)
    seed_losses, seed_values = ((1 - share) * each[around[0]] + share * each[around[1]] for each in (losses, values))
    return (seed_values + slope * (scale(loss) - seed_losses)).reindex(seeds)


def lengths_around(rows: pd.DataFrame, loss: float) -> list[int]:
    """The lengths of trainings with one batch size between which their `mean_loss` falls to `loss`: two, the shortest
    alone where it is below already, or none."""
    means = {length: mean_loss(ends) for length, ends in rows.groupby("updates")}
    finite = [length for length, mean in means.items() if np.isfinite(mean)]
    reached = next((place for place, length in enumerate(finite) if means[length] <= loss), None)
    return [] if reached is None else finite[max(reached - 1, 0) : reached + 1]


def both_at_loss(rows: pd.DataFrame, facts: Facts, loss: float, column: str) -> pd.DataFrame:
    """`at_mean_loss` of Small and Large (columns), of the seeds that have a value with both."""
    return pd.DataFrame(
        {size: at_mean_loss(of_size(rows, size), loss, column) for size in (facts.small, facts.large)}
    ).dropna()


def annealing_problem(rows: pd.DataFrame, facts: Facts, loss: float) -> Problem | None:
    """Why Small cannot be compared with Large at `loss`; None where it can."""
    for batch_size in (facts.small, facts.large):
        ends, where = of_size(rows, batch_size), f"at batch size {thousands(batch_size)}"
        if ends.empty:
            return why_none(rows[rows["batch_size"] == batch_size])
        if not lengths_around(ends, loss):
            last = ends[ends["updates"] == ends["updates"].max()]
            return (
                _diverged(last, where)
                if np.isinf(mean_loss(last))
                else Problem(Status.TARGET_NOT_REACHED, where=where)
            )
    return None


def left_out(rows: pd.DataFrame, facts: Facts, loss: float) -> tuple[Problem, ...]:
    """The seeds of Small and of Large, trained as in `rows`, that have no value at `loss` since they diverged; empty
    where all have one."""
    lost = []
    for batch_size in (facts.small, facts.large):
        ends = of_size(rows, batch_size)
        around = ends[ends["updates"].isin(lengths_around(ends, loss))]
        lost.append(_diverged(around, f"at batch size {thousands(batch_size)}"))
    return tuple(problem for problem in lost if problem.replicas)


def _diverged(ends: pd.DataFrame, where: str) -> Problem:
    """The seeds that diverged at one of the lengths in `ends`."""
    seeds = ends.loc[ends["status"] == Status.DIVERGED, "seed"].nunique()
    return Problem(Status.DIVERGED, replicas=seeds, all_replicas=ends["seed"].nunique(), where=where)


def of_size(rows: pd.DataFrame, batch_size: int) -> pd.DataFrame:
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
    return tuple(
        _at_loss(rows, facts, loss, of_loss, p_holm)
        for loss, of_loss, p_holm in zip(compared, scores, corrected, strict=True)
    )


def _at_loss(rows: pd.DataFrame, facts: Facts, loss: float, scores: pd.DataFrame, p_holm: float) -> AtLoss:
    """With the test `scores` at the loss."""
    updates, test_losses = (both_at_loss(rows, facts, loss, column) for column in ("updates", "test_loss"))
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
