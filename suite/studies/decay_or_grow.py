"""Decay the learning rate, or grow the batch? Either lowers the noise of an update: they should agree.

Smith et al. (2018), "Don't decay the learning rate, increase the batch size": the noise of a training depends on
rate / batch size alone as long as the rate is small and the batch is far from all examples. A growing batch makes
fewer updates for the same examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import (
    by_protocol,
    final_log_loss,
    final_values,
    mean_loss_curve,
    problems_in_words,
    seeds_without_log_loss,
)
from suite.experiments.cell import Cell, Scope
from suite.experiments.training import TRAINING
from suite.figures import GREY, LARGE_COLOUR, SMALL_COLOUR, loss_axis, new_figure
from suite.formatting import decimals, listed, sentences, signed, thousands, three_digits, with_bounds
from suite.statistics import Interval, mean_interval
from suite.status import Status
from suite.studies.study import Study
from suite.training.budgets import EqualEpochs, GrowingBatch
from suite.training.learning_rate import Decayed
from suite.training.protocol import Protocol
from suite.workloads import Workload

FACTOR = 2
"""Smith et al. use 5 with the 50,000 examples of CIFAR-10; with 2 a small data set never fits into one batch."""
SHARES = (0.3, 0.6, 0.8)
"""Shares of the epochs after which Smith et al. change the rate or the batch size (60, 120 and 160 of 200)."""
CONSTANT, DECAY, GROW = "constant", "decay", "grow"
LABELS = {CONSTANT: "constant rate and batch size", DECAY: "decaying rate", GROW: "growing batch"}
COLOURS = {CONSTANT: GREY, DECAY: SMALL_COLOUR, GROW: LARGE_COLOUR}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """From each start whose batch does not outgrow the workload's largest; none outside a factorial scope."""
    growth = FACTOR ** len(change_epochs(workload.epochs))
    return [
        Cell(TRAINING, workload.name, scope.training_backend, size, scope.seeds, protocol)
        for size in start_batch_sizes(workload)
        for protocol in protocols(workload).values()
        if scope.factorial and size in scope.training_batch_sizes and size * growth <= workload.batch_sizes[-1]
    ]


def change_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs after which the rate or the batch size changes; none in a training of a single epoch."""
    return tuple(sorted({max(1, round(share * epochs)) for share in SHARES} - {epochs}))


def protocols(workload: Facts | Workload) -> dict[str, Protocol]:
    """A constant rate and batch size, a decaying rate and a growing batch; empty where nothing can change."""
    after = change_epochs(workload.epochs)
    if not after:
        return {}
    return {
        CONSTANT: Protocol.of(workload, EqualEpochs(workload.epochs)),
        DECAY: Protocol.of(workload, EqualEpochs(workload.epochs), Decayed(FACTOR, after)),
        GROW: Protocol.of(workload, GrowingBatch(workload.epochs, FACTOR, after)),
    }


def start_batch_sizes(workload: Facts | Workload) -> list[int]:
    """Small and the middle batch size."""
    return sorted({workload.small, workload.middle})


@dataclass(frozen=True)
class Agreement:
    """The growing batch against the decaying rate at the end of training, paired by seed."""

    loss_ratio: Interval
    """Training loss of the growing batch over that of the decaying rate, geometric mean over seeds."""
    score_difference: Interval
    """Test score of the growing batch minus that of the decaying rate."""
    decayed_over_constant: float
    """Training loss of the decaying rate over that of the constant rate, geometric mean over seeds."""


@dataclass(frozen=True)
class Start:
    """The trainings from one batch size."""

    agreement: Agreement | None
    """None where a seed has no value, or where there is a single seed."""
    problems: tuple[Problem, ...]
    losses: dict[str, dict[float, float]]
    """Geometric mean over seeds of the training loss after each epoch, by CONSTANT, DECAY and GROW."""
    updates: dict[str, int]
    """Updates that each makes; 0 where it was not trained."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    change_epochs: tuple[int, ...]
    starts: dict[int, Start]
    """By batch size."""


def analyse(evidence: Evidence) -> Findings:
    facts = evidence.facts
    trainings = {size: by_protocol(evidence, size, protocols(facts)) for size in start_batch_sizes(facts)}
    starts = {
        size: _start(size, by_name)
        for size, by_name in trainings.items()
        if by_name and all(map(len, by_name.values()))
    }
    return Findings(facts, change_epochs(facts.epochs), starts)


def _start(size: int, trainings: dict[str, pd.DataFrame]) -> Start:
    problems = tuple(
        problem
        for name, rows in trainings.items()
        for problem in seeds_without_log_loss(rows, f"with a {LABELS[name]}")
    )
    finite = {name: rows[rows["status"] == Status.OK] for name, rows in trainings.items()}
    agreement = None if problems else _agreement(size, trainings)
    return Start(
        agreement=agreement if agreement and agreement.loss_ratio.n > 1 else None,
        problems=problems,
        losses={name: mean_loss_curve(rows, "epoch") for name, rows in finite.items()},
        updates={name: int(rows["updates"].max()) if len(rows) else 0 for name, rows in finite.items()},
    )


def _agreement(size: int, trainings: dict[str, pd.DataFrame]) -> Agreement:
    losses = {name: final_log_loss(rows, size) for name, rows in trainings.items()}
    scores = {name: final_values(trainings[name], size, "test_score") for name in (DECAY, GROW)}
    loss_ratio = mean_interval(losses[GROW] - losses[DECAY]).map(np.exp)
    return Agreement(
        loss_ratio=loss_ratio,
        score_difference=mean_interval(scores[GROW] - scores[DECAY]),
        decayed_over_constant=float(np.exp((losses[DECAY] - losses[CONSTANT]).mean())),
    )


def answer(findings: Findings) -> str:
    compared = {size: start for size, start in findings.starts.items() if start.agreement}
    if not compared:
        reasons = dict.fromkeys(_why_not_compared(start) for start in findings.starts.values())
        return (
            "The growing batch cannot be compared with the decaying rate: "
            f"{'; '.join(reasons) or 'their trainings were not measured'}."
        )
    places = [
        f"{with_bounds(start.agreement.loss_ratio, decimals(3))} when both start at batch size {thousands(size)}"
        for size, start in compared.items()
    ]
    ratio_of = "The final training loss of a growing batch, divided by that of a decaying learning rate,"
    return f"{ratio_of} is {listed(places)}."


def _why_not_compared(start: Start) -> str:
    return problems_in_words(start.problems) or "a single seed was trained"


def figure(findings: Findings) -> Figure | None:
    """Training loss over the epochs from each start."""
    starts = {size: start for size, start in findings.starts.items() if all(start.losses.values())}
    if not starts:
        return None
    figure = new_figure(4.8 * len(starts), 4.2)
    for axes, (size, start) in zip(figure.subplots(1, len(starts), squeeze=False)[0], starts.items(), strict=True):
        _draw_losses(axes, start)
        for epochs in findings.change_epochs:
            axes.axvline(epochs, color=GREY, linestyle=":", linewidth=1, zorder=1.5)
        loss_axis(axes)
        axes.set_title(f"from batch size {thousands(size)}")
        axes.set_xlabel("epochs")
        axes.legend(loc="best")
    return figure


def _draw_losses(axes: Axes, start: Start) -> None:
    for name, losses in start.losses.items():
        style = {"color": COLOURS[name], "linestyle": "--" if name == GROW else "-", "marker": "o", "markersize": 3}
        label = f"{LABELS[name]}: {thousands(start.updates[name])} updates"
        axes.plot(list(losses), list(losses.values()), label=label, **style)


def explain(findings: Findings) -> str:
    if not findings.starts:
        return ""
    facts, epochs = findings.facts, listed([str(epoch) for epoch in findings.change_epochs])
    return sentences(
        f"After {epochs} epochs (dotted lines) the learning rate is divided by {FACTOR}, or the batch size is "
        f"multiplied by {FACTOR} instead.",
        *(_start_sentence(size, start, facts) for size, start in findings.starts.items()),
        "In theory both schedules agree while the rate is small and the batch is a small part of the training set: "
        "at fixed momentum the noise of SGD then depends on the learning rate divided by the batch size (Smith et "
        "al. 2018).",
        "" if facts.optimizer.plain_sgd else f"Here the optimizer is {facts.optimizer}.",
    )


def _start_sentence(size: int, start: Start, facts: Facts) -> str:
    if start.agreement is None:
        return f"From batch size {thousands(size)} the two cannot be compared: {_why_not_compared(start)}."
    agreement = start.agreement
    return (
        f"From batch size {thousands(size)} the growing batch ends at "
        f"{with_bounds(agreement.loss_ratio, decimals(3))} times the training loss of the decaying rate, with a "
        f"difference in test {facts.score_name} of {with_bounds(agreement.score_difference, signed(4))}. The "
        f"decaying rate itself ends at {three_digits(agreement.decayed_over_constant)} times the loss of a constant "
        "rate."
    )


study = Study(
    name="decay_or_grow",
    claim="optimization",
    place=4,
    title="Decay the learning rate or grow the batch?",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
