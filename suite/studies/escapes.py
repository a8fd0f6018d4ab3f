"""The updates that noise alone takes to free the lecture's ball: small batches, without momentum, from the bottom of
the local minimum to that of the better one, beside the mean time that is exact for small learning rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from suite.backends import CPU
from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import problems_in_words, seeds_without_value
from suite.experiments.ball import ESCAPE_TIMES
from suite.experiments.cell import Cell, Scope
from suite.figures import GREY, draw_intervals, new_figure
from suite.formatting import bounds, listed, sentences, thousands
from suite.instruments.escape import mean_escape_time
from suite.statistics import Interval, mean_interval
from suite.status import Status
from suite.studies.study import Study
from suite.training.budgets import EqualUpdates
from suite.training.momentum_pair import without_momentum
from suite.workloads import Workload
from suite.workloads.ball import EXAMPLES, SLOPE, loss_at, stationary_points
from suite.workloads.ball import workload as ball

ESCAPES, BATCH_SIZES = 400, (1, 2, 4)
PROTOCOL = without_momentum(ball.learning_rate, EqualUpdates(100_000, EXAMPLES))


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The toy, whatever the workload."""
    return [Cell(ESCAPE_TIMES, ball.name, CPU.name, size, ESCAPES, PROTOCOL) for size in BATCH_SIZES]


@dataclass(frozen=True)
class Escape:
    """From the bottom of the local minimum to that of the better one, with one batch size."""

    updates: Interval
    """Mean over balls."""
    exact: float
    """Mean updates, exact for small learning rates."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    escapes: dict[int, Escape]
    """By batch size; only those with which every ball escaped, since the mean of the others would be too low."""
    problems: tuple[Problem, ...]
    """Why batch sizes have no mean."""


def analyse(evidence: Evidence) -> Findings:
    escapes, problems = {}, ()
    for batch_size, rows in evidence.of(ESCAPE_TIMES.name).groupby("batch_size"):
        if (rows["status"] == Status.OK).all():
            escapes[int(batch_size)] = Escape(mean_interval(rows["updates"]), exact_updates(batch_size))
        else:
            problems += seeds_without_value(rows, f"at batch size {batch_size}")
    return Findings(evidence.facts, escapes, problems)


def exact_updates(batch_size: float) -> float:
    """Mean updates to escape from rest, for small learning rates."""
    bottom, _, better = stationary_points()
    noise = ball.learning_rate * SLOPE**2 / (2 * batch_size)
    return mean_escape_time(loss_at, noise, bottom, better) / ball.learning_rate


def answer(findings: Findings) -> str:
    if not findings.escapes:
        return f"The time that noise takes to free a ball has no mean: {problems_in_words(findings.problems)}."
    extremes = dict.fromkeys((min(findings.escapes), max(findings.escapes)))
    times = [
        f"{thousands(findings.escapes[batch_size].updates.estimate)} updates at batch size {batch_size}"
        for batch_size in extremes
    ]
    return f"Noise alone frees a ball without momentum after a mean of {listed(times)}."


def explain(findings: Findings) -> str:
    if not findings.escapes:
        return ""
    balls = max(escape.updates.n for escape in findings.escapes.values())
    return sentences(
        f"{balls} balls per batch size start at rest at the bottom of the local minimum, at learning rate "
        f"{ball.learning_rate:g}, and are free when they reach the bottom of the better one.",
        "The line is the mean escape time of a diffusion with the same noise.",
        _problem_sentence(findings.problems),
    )


def _problem_sentence(problems: tuple[Problem, ...]) -> str:
    if not problems:
        return ""
    return f"The time has no mean where some balls did not escape ({problems_in_words(problems)})."


def figure(findings: Findings) -> Figure | None:
    """The updates to escape over the batch size, measured and exact."""
    if not findings.escapes:
        return None
    figure = new_figure(5.8, 4)
    axes = figure.subplots()
    sizes = np.geomspace(min(BATCH_SIZES), max(BATCH_SIZES), 40)
    axes.plot(
        sizes, list(map(exact_updates, sizes)), color=GREY, linewidth=1, label="exact, for small learning rates"
    )
    intervals = [escape.updates for escape in findings.escapes.values()]
    draw_intervals(axes, list(findings.escapes), intervals, label="measured, mean with 95% interval")
    _label(axes)
    return figure


def _label(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(BATCH_SIZES)
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch size (examples)")
    axes.set_ylabel("updates to escape by noise alone")
    axes.set_title("without momentum, from rest")
    axes.legend(loc="upper left")


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "batch size": str(batch_size),
            "updates to escape": thousands(escape.updates.estimate),
            "95% interval": bounds(escape.updates, thousands),
            "exact, for small learning rates": thousands(escape.exact),
        }
        for batch_size, escape in findings.escapes.items()
    )


study = Study(
    name="escapes",
    claim="local_minimum",
    place=1,
    title="Escape by noise alone",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
    numbers=numbers,
)
