"""The end of each training, and where it crossed its target."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from suite.evidence.evidence import Evidence
from suite.evidence.facts import Facts
from suite.evidence.problem import Problem, why_none
from suite.formatting import thousands
from suite.statistics import value_at_crossing
from suite.status import Status
from suite.training.protocol import Protocol


def by_protocol(evidence: Evidence, batch_size: int, protocols: Mapping[str, Protocol]) -> dict[str, pd.DataFrame]:
    """The evaluations of trainings with `batch_size` by each of `protocols`, under its name."""
    rows = evidence.rows[evidence.rows["batch_size"] == batch_size]
    return {name: rows[rows["protocol"] == protocol.key] for name, protocol in protocols.items()}


def last_evaluations(rows: pd.DataFrame) -> pd.DataFrame:
    """The last evaluation of each replica that was trained."""
    return rows.dropna(subset=["seed"]).sort_values("updates").groupby(["batch_size", "seed"]).tail(1)


def outcomes(rows: pd.DataFrame) -> pd.Series:
    """The status of each replica that was trained; LOSS_NOT_POSITIVE where its final training loss has no
    logarithm."""
    last = last_evaluations(rows)
    has_no_ratio = (last["status"] == Status.OK) & (last["train_loss"] <= 0)
    return last["status"].mask(has_no_ratio, Status.LOSS_NOT_POSITIVE).set_axis(last["seed"])


def final_values(rows: pd.DataFrame, batch_size: int, column: str) -> pd.Series:
    """`column` of each seed (index) at the end of training with `batch_size`."""
    last = last_evaluations(rows)
    return last[last["batch_size"] == batch_size].set_index("seed")[column].sort_index()


def final_log_loss(rows: pd.DataFrame, batch_size: int) -> pd.Series:
    """Log of the final training loss of each seed (index); every loss must be positive."""
    return np.log(final_values(rows, batch_size, "train_loss"))


def at_target(rows: pd.DataFrame, facts: Facts, column: str) -> pd.DataFrame:
    """`column` where the training loss crosses the target: a row per seed, a column per batch size."""
    return at_loss(rows, facts.target_loss, column)


def at_loss(rows: pd.DataFrame, loss: float, column: str) -> pd.DataFrame:
    """`column` where the training loss first falls to `loss`, NaN where it never does: a row per seed, a column per
    batch size."""
    evaluations = rows[rows["status"] == Status.OK].sort_values("updates")
    crossings = {
        place: value_at_crossing(training["train_loss"].to_numpy(), training[column].to_numpy(), loss)
        for place, training in evaluations.groupby(["batch_size", "seed"])
    }
    if not crossings:
        return pd.DataFrame()
    return pd.Series(crossings).rename_axis(["batch_size", "seed"]).unstack("batch_size")


def mean_loss_curve(rows: pd.DataFrame, over: str) -> dict[float, float]:
    """Geometric mean over seeds of the training loss, by the values of the column `over`; without those at which a
    seed's loss is not positive."""
    logs = np.log(rows["train_loss"].where(rows["train_loss"] > 0))
    has_all_seeds = logs.notna().groupby(rows[over]).all()
    losses = logs.groupby(rows[over]).mean()[has_all_seeds]
    return {float(place): float(np.exp(loss)) for place, loss in losses.items()}


def comparison_problem(rows: pd.DataFrame, facts: Facts) -> Problem | None:
    """Why Small cannot be compared with Large; None where it can."""
    for batch_size in (facts.small, facts.large):
        of_size = rows[rows["batch_size"] == batch_size]
        if problem := training_problem(of_size, f"at batch size {thousands(batch_size)}"):
            return problem
    return None


def training_problem(rows: pd.DataFrame, where: str) -> Problem | None:
    """Why the trainings in `rows`, all with one batch size, cannot be compared; None where they can."""
    statuses = outcomes(rows)
    if statuses.empty:
        return why_none(rows)
    for status in (Status.DIVERGED, Status.TARGET_NOT_REACHED, Status.LOSS_NOT_POSITIVE):
        if count := int((statuses == status).sum()):
            return Problem(status, replicas=count, all_replicas=len(statuses), where=where)
    return None


def seeds_without_value(rows: pd.DataFrame, where: str = "") -> tuple[Problem, ...]:
    """Which seeds have no value, by status, or why the whole cell has none; empty where every seed has one."""
    return _problems_of(last_evaluations(rows)["status"], rows, where)


def seeds_without_log_loss(rows: pd.DataFrame, where: str = "") -> tuple[Problem, ...]:
    """As `seeds_without_value`, where the value is the logarithm of the final training loss."""
    return _problems_of(outcomes(rows), rows, where)


def _problems_of(statuses: pd.Series, rows: pd.DataFrame, where: str) -> tuple[Problem, ...]:
    if statuses.empty:
        problem = why_none(rows)
        reason = ", ".join(filter(None, (f"{problem.status.text} {where}".strip(), problem.reason)))
        return (Problem(problem.status, reason),)
    counts = statuses[statuses != Status.OK].value_counts()
    return tuple(
        Problem(Status(status), replicas=int(count), all_replicas=len(statuses), where=where)
        for status, count in counts.items()
    )


def problems_in_words(problems: tuple[Problem, ...]) -> str:
    return "; ".join(map(str, problems))


def left_out_sentence(problems: tuple[Problem, ...]) -> str:
    """That a mean over seeds leaves some out; empty where it leaves out none."""
    return f"Seeds without a value are left out ({problems_in_words(problems)})." if problems else ""
