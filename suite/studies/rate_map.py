"""The final training loss over the learning rate and the batch size, from the trials of the tuned trainings.

Along a diagonal of equal rate / batch size the noise of an update stays the same, in the limit of small rates (Smith,
Le 2018; Jastrzebski et al. 2017). Where the loss follows these diagonals, the best rate grows with the batch size,
until trials diverge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from suite.evidence import Evidence, Facts, Problem, why_none
from suite.evidence.trainings import problems_in_words
from suite.experiments.cell import Cell, Scope
from suite.experiments.tuned_training import TRIAL, TUNED_TRAINING
from suite.figures import new_figure
from suite.formatting import listed, sentences, thousands
from suite.status import Status
from suite.studies.study import Study
from suite.training.budgets import EqualEpochs
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol
from suite.workloads import Workload

USABLE = 1.5
"""A rate is usable if its loss is at most this multiple of the loss at the best rate."""


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every batch size at its tuned rate for equal epochs; none outside a factorial scope."""
    return [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, size, scope.seeds, tuned_protocol(workload))
        for size in scope.training_batch_sizes
        if scope.factorial
    ]


def tuned_protocol(workload: Facts | Workload) -> Protocol:
    """The tuned rate for equal epochs."""
    return Protocol.of(workload, EqualEpochs(workload.epochs), Tuned())


@dataclass(frozen=True)
class Trials:
    """The trials at one batch size, by learning rate in ascending order."""

    losses: dict[float, float]
    """Geometric mean over trials of the final training loss at each rate where none diverged."""
    diverged: tuple[float, ...]
    """Rates at which a trial diverged."""
    best: float | None
    """The rate with the lowest loss; None where a trial diverged at every rate."""
    usable: tuple[float, float] | None
    """The lowest and the highest usable rate."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    trials: dict[int, Trials]
    """By batch size."""
    problems: tuple[Problem, ...]
    """Why batch sizes have no trials; empty where all have some."""


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.rows[evidence.rows["protocol"] == tuned_protocol(evidence.facts).key]
    trials, problems = {}, []
    for size, rows in planned.groupby("batch_size"):
        of_size = rows[rows["stage"] == TRIAL]
        if of_size.empty:
            problem = why_none(rows)
            problems.append(Problem(problem.status, f"{problem} at batch size {thousands(size)}"))
        elif (of_size.loc[of_size["status"] == Status.OK, "train_loss"] <= 0).any():
            status = Status.LOSS_NOT_POSITIVE
            problems.append(Problem(status, f"{status.text} at batch size {thousands(size)}"))
        else:
            trials[int(size)] = _trials(of_size)
    return Findings(evidence.facts, trials, tuple(problems) or (() if trials else (why_none(planned),)))


def _trials(rows: pd.DataFrame) -> Trials:
    logs = np.log(rows["train_loss"].where(rows["status"] == Status.OK, np.inf))
    means = np.exp(logs.groupby(rows["learning_rate"]).mean()).sort_index()
    losses = means[np.isfinite(means)]
    usable = losses.index[losses <= USABLE * losses.min()]
    return Trials(
        losses={float(rate): float(loss) for rate, loss in losses.items()},
        diverged=tuple(float(rate) for rate in means.index[np.isinf(means)]),
        best=float(losses.idxmin()) if len(losses) else None,
        usable=(float(usable.min()), float(usable.max())) if len(losses) else None,
    )


def answer(findings: Findings) -> str:
    best = {size: trials.best for size, trials in findings.trials.items() if trials.best is not None}
    if not best:
        reason = problems_in_words(findings.problems) or "at every learning rate a trial diverged"
        return f"No learning rate can be called the best: {reason}."
    rates = [f"{best[size]:g} at batch size {thousands(size)}" for size in dict.fromkeys((min(best), max(best)))]
    return f"Of the learning rates tried, the best is {listed(rates)}."


def figure(findings: Findings) -> Figure | None:
    """A cell per rate and batch size, coloured by the loss, with the best and the usable rates of each batch size."""
    losses = [loss for trials in findings.trials.values() for loss in trials.losses.values()]
    if not losses:
        return None
    figure = new_figure(8.4, 5.2)
    axes = figure.subplots()
    rates = sorted({rate for trials in findings.trials.values() for rate in (*trials.losses, *trials.diverged)})
    log_rates, sizes = np.log10(rates), list(findings.trials)
    half = np.diff(log_rates).min() / 2
    rate_edges = np.append(log_rates - half, log_rates[-1] + half)
    grid = [[trials.losses.get(rate, np.nan) for trials in findings.trials.values()] for rate in rates]
    image = axes.pcolormesh(
        np.arange(len(sizes) + 1) - 0.5, rate_edges, grid, cmap="viridis_r", norm=LogNorm(min(losses), max(losses))
    )
    for place, trials in enumerate(findings.trials.values()):
        _draw_diverged(axes, place, np.log10(trials.diverged), half)
        _draw_usable(axes, place, trials)
    _draw_diagonals(axes, np.log10(sizes), rate_edges)
    axes.set_xticks(range(len(sizes)), [thousands(size) for size in sizes])
    powers = np.arange(np.ceil(rate_edges[0]), rate_edges[-1])
    axes.set_yticks(powers, [f"{10**power:g}" for power in powers])
    axes.set_ylim(rate_edges[0], rate_edges[-1])
    axes.set_xlabel("batch size (examples)")
    axes.set_ylabel("learning rate")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label=f"training loss after {findings.facts.epochs} epochs")
    return figure


def _draw_diverged(axes: Axes, place: int, log_rates: np.ndarray, half: float) -> None:
    """Hatch the cells of the rates at which a trial diverged."""
    style = {"facecolor": "white", "edgecolor": "#8a8a8a", "hatch": "////", "linewidth": 0}
    for log_rate in log_rates:
        axes.fill_between([place - 0.5, place + 0.5], log_rate - half, log_rate + half, **style)


def _draw_usable(axes: Axes, place: int, trials: Trials) -> None:
    """Draw the best rate as a dot and the usable ones as a line."""
    if trials.usable is None:
        return
    outline = [withStroke(linewidth=4, foreground="black")]
    axes.plot([place] * 2, np.log10(trials.usable), color="white", linewidth=2, path_effects=outline)
    axes.plot(place, np.log10(trials.best), "o", color="white", markeredgecolor="black", markersize=7)


def _draw_diagonals(axes: Axes, log_sizes: np.ndarray, rate_edges: np.ndarray) -> None:
    """Draw lines of equal rate / batch size, a factor of ten apart."""
    lowest, highest = np.floor(rate_edges[0] - log_sizes[-1]), np.ceil(rate_edges[-1] - log_sizes[0])
    for level in np.arange(lowest, highest):
        axes.plot(range(len(log_sizes)), level + log_sizes, ":", color="#9a9a9a", linewidth=1.2)


def explain(findings: Findings) -> str:
    usable = {size: trials.usable for size, trials in findings.trials.items() if trials.usable}
    if not usable:
        return ""
    ranges = [_usable_in_words(size, *usable[size]) for size in dict.fromkeys((min(usable), max(usable)))]
    return sentences(
        f"The colour is the training loss after {findings.facts.epochs} epochs (geometric mean over trials) at each "
        "learning rate and batch size.",
        f"The white dot is the best rate. The white line spans the rates whose loss is at most {USABLE:g} times the "
        f"lowest: {listed(ranges)}. Where even the lowest loss is high, a wide range does not mean that many rates "
        "train well.",
        "At hatched rates a trial diverged.",
        "Along a dotted line the ratio of learning rate to batch size is constant.",
        _problems_sentence(findings.problems),
    )


def _usable_in_words(size: int, lowest: float, highest: float) -> str:
    rates = f"only {lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"
    return f"{rates} at batch size {thousands(size)}"


def _problems_sentence(problems: tuple[Problem, ...]) -> str:
    return f"Not every batch size has trials: {problems_in_words(problems)}." if problems else ""


study = Study(
    name="rate_map",
    claim="optimization",
    place=3,
    title="The training loss at each learning rate and batch size",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
