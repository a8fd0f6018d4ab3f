"""The edge of stability: the sharpness that training ends at with one learning rate, over the batch size.

Plain gradient descent with learning rate η cannot settle where the Hessian's largest eigenvalue exceeds 2 / η, and it
tends to end just there (Cohen et al. 2021). The noise of a small batch keeps the eigenvalue lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import left_out_sentence, problems_in_words, seeds_without_value
from suite.experiments.cell import Cell, Scope
from suite.experiments.edge_of_stability import EDGE_OF_STABILITY, EVALUATED, EXAMPLES, START
from suite.figures import GREY, batch_size_axis, draw_intervals, new_figure
from suite.formatting import bounds, decimals, sentences, thousands, three_digits, with_bounds
from suite.statistics import Interval, Verdict, mean_interval, verdict
from suite.status import Status
from suite.studies.study import Study
from suite.workloads import Workload
from suite.workloads.workload import cross_entropy

MAX_SEEDS = 3
GAP = 8
"""The largest batch size over the next, at least: between them a training takes long, and ends close to the edge."""
BESIDE = 1.12
"""The batch size at which a seed is drawn over its own, so that the interval does not cover it."""
TOP = 1.2
"""The least upper end of the figure."""
ENDS = {
    Verdict.HOLDS: "after the same number of updates, the smaller batch is at the sharper point",
    Verdict.FAILS: "after the same number of updates, the smaller batch is at the flatter point",
    Verdict.UNDECIDED: "which of them ends at the flatter point is undecided",
}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """A training at each of `batch_sizes`; none where the loss is not cross-entropy, whose targets are class numbers,
    or where the workload leaves out `momentum_speed_up` because it trains too slowly."""
    too_slow = workload.claims is not None and "momentum_speed_up" not in workload.claims
    if workload.loss is not cross_entropy or too_slow:
        return []
    seeds = min(MAX_SEEDS, scope.seeds)
    return [
        Cell(EDGE_OF_STABILITY, workload.name, scope.training_backend, batch_size, seeds)
        for batch_size in batch_sizes(scope)
    ]


def batch_sizes(scope: Scope) -> list[int]:
    """The training batch sizes up to the number of examples, without those near the largest."""
    *smaller, largest = sorted({min(batch_size, EXAMPLES) for batch_size in scope.training_batch_sizes})
    return [*(batch_size for batch_size in smaller if GAP * batch_size <= largest), largest]


@dataclass(frozen=True)
class Sharpness:
    """λmax η / 2 at the end of the trainings with one batch size."""

    seeds: dict[int, float]
    """By seed, the mean over the evaluations."""
    mean: Interval
    """Over seeds."""
    largest_eigenvalue: float
    """λmax, mean over seeds."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    by_batch_size: dict[int, Sharpness]
    """Ascending; without the batch sizes at which no seed has a value."""
    learning_rate: float
    """Mean over seeds; NaN without a value."""
    small_over_large: Interval | None
    """λmax at the smallest batch size over that at the largest, geometric mean over seeds; None without both."""
    verdict: Verdict | None
    """Whether λmax is higher at the smallest batch size."""
    problems: tuple[Problem, ...]


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(EDGE_OF_STABILITY.name)
    problems = [
        problem
        for batch_size, rows in planned.groupby("batch_size")
        for problem in seeds_without_value(rows, f"at batch size {thousands(batch_size)}")
    ]
    rows = planned[planned["status"] == Status.OK]
    by_batch_size = {int(batch_size): _sharpness(of_size) for batch_size, of_size in rows.groupby("batch_size")}
    ratio = _ratio(by_batch_size)
    return Findings(
        evidence.facts,
        by_batch_size,
        learning_rate=float(rows.groupby("seed")["learning_rate"].first().mean()) if len(rows) else np.nan,
        small_over_large=ratio,
        verdict=None if ratio is None else verdict(ratio, 1),
        problems=tuple(problems),
    )


def _sharpness(rows: pd.DataFrame) -> Sharpness:
    scaled = (rows["largest_eigenvalue"] * rows["learning_rate"] / 2).groupby(rows["seed"].astype(int)).mean()
    eigenvalues = rows.groupby("seed")["largest_eigenvalue"].mean()
    return Sharpness(scaled.to_dict(), mean_interval(scaled.to_numpy()), float(eigenvalues.mean()))


def _ratio(by_batch_size: dict[int, Sharpness]) -> Interval | None:
    """From the seeds with a value at the smallest and at the largest batch size; the learning rate cancels."""
    if len(by_batch_size) < 2:
        return None
    small, large = by_batch_size[min(by_batch_size)].seeds, by_batch_size[max(by_batch_size)].seeds
    logs = [np.log(small[seed] / large[seed]) for seed in small.keys() & large.keys()]
    return mean_interval(logs).map(np.exp) if logs else None


def answer(findings: Findings) -> str:
    if not findings.by_batch_size:
        return f"The sharpness at one learning rate has no value: {problems_in_words(findings.problems)}."
    values = [
        f"{decimals(2)(sharpness.mean.estimate)} with batch size {thousands(batch_size)}"
        for batch_size, sharpness in findings.by_batch_size.items()
    ]
    beginning = "With one learning rate η for all batch sizes, the largest Hessian eigenvalue times η / 2 ends at"
    if findings.verdict is None:
        return f"{beginning} {values[0]}; it has no value at another batch size."
    return f"{beginning} {values[-1]} and at {values[0]}: {ENDS[findings.verdict]}."


def explain(findings: Findings) -> str:
    if not findings.by_batch_size:
        return ""
    return sentences(
        "Gradient descent cannot settle where the largest eigenvalue exceeds 2 / η. Cohen et al. (2021) found that "
        "with the full batch this eigenvalue rises to about this edge of stability, which is at 1 in the figure, "
        "and stays close to it.",
        _ratio_sentence(findings),
        "Initial parameters, learning rate and number of updates are the same at every batch size. In these updates "
        "a smaller batch sees fewer epochs, and the training losses at the end are not matched.",
        "Whatever optimizer and loss the workload has, the optimizer here is SGD without momentum, and the loss is "
        f"half the squared distance to one-hot targets. A training makes {thousands(EVALUATED[-1])} updates from at "
        f"most {thousands(EXAMPLES)} training examples.",
        "Each seed has its own learning rate η, the same at all batch sizes: the one at which the largest eigenvalue "
        f"of the initial model, times η / 2, is {START:g}. Its mean is {three_digits(findings.learning_rate)}.",
        f"Grey dots are seeds, each the mean of {len(EVALUATED)} evaluations after {thousands(EVALUATED[0])} to "
        f"{thousands(EVALUATED[-1])} updates. Black dots are means over seeds with 95% intervals.",
        left_out_sentence(findings.problems),
        _diverged_sentence(findings),
    )


def _ratio_sentence(findings: Findings) -> str:
    if findings.small_over_large is None:
        return ""
    smallest, largest = min(findings.by_batch_size), max(findings.by_batch_size)
    return (
        f"The eigenvalue with batch size {thousands(smallest)} is "
        f"{with_bounds(findings.small_over_large, three_digits)} times that with {thousands(largest)}."
    )


def _diverged_sentence(findings: Findings) -> str:
    if all(problem.status != Status.DIVERGED for problem in findings.problems):
        return ""
    return "A training has diverged if its loss is not below that of the best constant output."


def figure(findings: Findings) -> Figure | None:
    """λmax η / 2 over the batch size: every seed, the mean with its interval, and the edge of stability."""
    if not findings.by_batch_size:
        return None
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for batch_size, sharpness in findings.by_batch_size.items():
        beside = [BESIDE * batch_size] * len(sharpness.seeds)
        axes.plot(beside, list(sharpness.seeds.values()), ".", color=GREY, markersize=4)
    means = [sharpness.mean for sharpness in findings.by_batch_size.values()]
    draw_intervals(axes, list(findings.by_batch_size), means, fmt="o-", markersize=5)
    batch_size_axis(axes, findings.facts)
    _draw_edge(axes)
    axes.set_ylim(0, max(TOP, axes.get_ylim()[1]))
    axes.set_ylabel("largest Hessian eigenvalue × η / 2")
    return figure


def _draw_edge(axes: Axes) -> None:
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.annotate(
        "edge of stability",
        (0.5, 1),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        color=GREY,
        fontsize="small",
    )


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "batch size": thousands(batch_size),
            "largest eigenvalue": three_digits(sharpness.largest_eigenvalue),
            "times η / 2": decimals(3)(sharpness.mean.estimate),
            "95% interval": bounds(sharpness.mean, decimals(3)),
            "seeds": str(len(sharpness.seeds)),
        }
        for batch_size, sharpness in findings.by_batch_size.items()
    )


study = Study(
    name="edge_of_stability",
    claim="sharpness",
    place=2,
    title="The edge of stability",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
    numbers=numbers,
)
