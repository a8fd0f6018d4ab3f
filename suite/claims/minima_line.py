"""The lecture's picture of a flat and a sharp minimum: the loss along the line from Small's solution to Large's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Evidence, Facts
from suite.claims.drawing import GREY, bounds, new_figure, thousands, three_digits
from suite.claims.trained import left_out, without_value
from suite.instruments.line import EXAMPLES, LINE
from suite.statistics import Interval, mean_interval
from suite.training.protocol import Protocol
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SEEDS = 3
BEYOND = 0.5
"""How far beyond each end, in lengths of the line, its two sides are compared."""
LEAST = 1e-4
"""A loss of less is drawn, and averaged, as this."""
COLOURS = {"train": "C0", "test": "C3"}
NAMES = {"train": "training", "test": "test"}
TITLE = "Along a line through two solutions"
SAYS = (
    "From the solution of the small batch (0) along a straight line to that of the large one (1) and beyond both, as "
    "Keskar et al. (2017) draw it: a flat minimum rises slowly to its sides, a sharp one steeply. Both were trained "
    "to the same training loss from the same initial parameters. Thin: each seed; thick: the mean over seeds, of the "
    "loss the geometric one. In evaluation mode; batch norm takes its statistics anew at each place, from at most "
    f"{thousands(EXAMPLES)} training examples."
)


def cells(workload: Workload, scope: Scope, protocol: Protocol) -> list[Cell]:
    """From Small to Large, both trained by `protocol`; none where one of them is not trained."""
    if not {workload.small, workload.large} <= set(scope.training_batch_sizes):
        return []
    seeds = min(MOST_SEEDS, scope.seeds)
    return [
        Cell(
            LINE, workload.name, scope.training_backend, workload.large, seeds, protocol, compared_with=workload.small
        )
    ]


def measured(evidence: Evidence) -> pd.DataFrame:
    """The rows of every line; no row where none was planned."""
    return evidence.rows[evidence.rows["measurement"] == LINE.name]


def lines(evidence: Evidence, column: str) -> pd.DataFrame:
    """`column` at each place (index) for each seed (columns); empty where there is none."""
    rows = measured(evidence)
    rows = rows[rows["status"] == "ok"]
    return rows.pivot(index="place", columns="seed", values=column) if len(rows) else pd.DataFrame()


def rises(evidence: Evidence) -> dict[str, Interval]:
    """By end, the training loss BEYOND it over that at the end itself, geometric mean over seeds."""
    logs = np.log(lines(evidence, "train_loss").clip(lower=LEAST))
    return {
        name: mean_interval(logs.loc[end + outwards * BEYOND] - logs.loc[end]).map(np.exp)
        for name, end, outwards in (("small", 0, -1), ("large", 1, 1))
    }


def sentence(evidence: Evidence) -> str:
    """How the loss rises beyond both ends, or why there is no line; empty where none was planned."""
    rows = measured(evidence)
    if rows.empty:
        return ""
    if lines(evidence, "train_loss").empty:
        return f"There is no line from Small's solution to Large's ({without_value(rows)})."
    small, large = (
        f"×{three_digits(one.estimate)} ({bounds(one, three_digits)})" for one in rises(evidence).values()
    )
    return (
        f"Along the line from Small's solution to Large's (second figure), half its length beyond Small the training "
        f"loss rises {small}, as far beyond Large {large}.{left_out(rows)}"
    )


def draw(evidence: Evidence) -> Figure | None:
    """Loss and score along the line; None where it was not measured."""
    if lines(evidence, "train_loss").empty:
        return None
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    for split in COLOURS:
        logs = np.log(lines(evidence, f"{split}_loss").clip(lower=LEAST))
        _draw_lines(left, np.exp(logs), np.exp(logs.mean(axis=1)), split)
        scores = lines(evidence, f"{split}_score")
        _draw_lines(right, scores, scores.mean(axis=1), split)
    left.set_yscale("log")
    left.set_ylabel("loss")
    right.set_ylabel(evidence.facts.score_name)
    for axes in (left, right):
        _name_ends(axes, evidence.facts)
    left.legend(loc="best")
    return figure


def _draw_lines(axes: Axes, each: pd.DataFrame, mean: pd.Series, split: str) -> None:
    for seed in each:
        axes.plot(each.index, each[seed], color=COLOURS[split], alpha=0.3, linewidth=1)
    style = "-" if split == "train" else "--"
    axes.plot(mean.index, mean, style, color=COLOURS[split], linewidth=2.5, label=NAMES[split])


def _name_ends(axes: Axes, facts: Facts) -> None:
    for place in (0, 1):
        axes.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=0)
    axes.set_xticks(
        [-1, 0, 1, 2], ["−1", f"0\nSmall, {thousands(facts.small)}", f"1\nLarge, {thousands(facts.large)}", "2"]
    )
    axes.set_xlabel("place on the line")
    axes.set_xlim(-1, 2)
