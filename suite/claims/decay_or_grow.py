"""Decay the learning rate, or grow the batch? Either lowers the noise of an update: they should agree.

Smith et al. (2018), "Don't decay the learning rate, increase the batch size": the noise of a training depends on
rate / batch size alone as long as the rate is small and the batch is far from all examples. A batch that grows makes
fewer updates for the same examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Evidence, Facts
from suite.claims.drawing import (
    GREY,
    LARGE_COLOUR,
    SMALL_COLOUR,
    bounds,
    loss_axis,
    new_figure,
    thousands,
    three_digits,
)
from suite.claims.trained import by_protocol, log_ratios, paired, without_value
from suite.statistics import mean_interval
from suite.training.engine import TRAINING
from suite.training.learning_rate import Decayed, listed
from suite.training.protocol import EqualEpochs, GrowingBatch, Protocol
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACTOR = 2
"""Theirs is 5, of CIFAR-10's 50,000 examples; with this one a small data set is never all in one batch."""
SHARES = (0.3, 0.6, 0.8)
"""Of the epochs, after which they change rate or batch (60, 120 and 160 of 200)."""
CONSTANT, DECAY, GROW = "neither", "rate decays", "batch grows"
COLOURS = {CONSTANT: GREY, DECAY: SMALL_COLOUR, GROW: LARGE_COLOUR}
TITLE = "Decay the rate or grow the batch"


def says(facts: Facts) -> str:
    """What the figure shows."""
    here = "" if facts.optimizer.plain_sgd else f" Here the optimizer is {facts.optimizer}."
    return (
        "From Small and from the middle batch size, at the workload's rate: at the dotted lines the rate is halved, "
        "or the batch size doubled instead. In theory the two agree for SGD, whose noise depends on rate / batch "
        f"size while momentum stays the same (Smith et al. 2018).{here} The growing batch makes fewer updates. "
        "Geometric mean over seeds."
    )


def changes(epochs: int) -> tuple[int, ...]:
    """After how many epochs the rate or the batch size is changed: never in a single one."""
    return tuple(sorted({max(1, round(share * epochs)) for share in SHARES} - {epochs}))


def protocols(of: Facts | Workload) -> dict[str, Protocol]:
    """A constant rate and batch size, a rate that decays, a batch that grows; none where nothing can change."""
    after = changes(of.epochs)
    if not after:
        return {}
    return {
        CONSTANT: Protocol.of(of, EqualEpochs(of.epochs)),
        DECAY: Protocol.of(of, EqualEpochs(of.epochs), Decayed(FACTOR, after)),
        GROW: Protocol.of(of, GrowingBatch(of.epochs, FACTOR, after)),
    }


def starts(of: Facts | Workload) -> list[int]:
    return sorted({of.small, of.middle})


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """From each start whose batch does not outgrow the workload's largest; none outside a factorial scope."""
    growth = FACTOR ** len(changes(workload.epochs))
    return [
        Cell(TRAINING, workload.name, scope.training_backend, size, scope.seeds, protocol)
        for size in starts(workload)
        for protocol in protocols(workload).values()
        if scope.factorial and size in scope.training_batch_sizes and size * growth <= workload.batch_sizes[-1]
    ]


def trainings(evidence: Evidence) -> dict[int, dict[str, pd.DataFrame]]:
    """By start, the looks at each of the three kinds of training; only those starts of which all were planned."""
    found = {size: by_protocol(evidence, size, protocols(evidence.facts)) for size in starts(evidence.facts)}
    return {size: each for size, each in found.items() if each and all(map(len, each.values()))}


def sentence(evidence: Evidence) -> str:
    """How far the two agree, and how many updates each makes; empty where they were not measured."""
    found = trainings(evidence)
    if not found:
        return ""
    after = listed(changes(evidence.facts.epochs))
    each = " ".join(_from(size, of_size, evidence.facts) for size, of_size in found.items())
    return (
        f"Decay the rate or grow the batch? After {after} epochs the rate is divided by {FACTOR}, or the batch size "
        f"multiplied instead (Smith et al. 2018). {each}"
    )


def _from(size: int, each: dict[str, pd.DataFrame], facts: Facts) -> str:
    where = f"From batch size {thousands(size)}"
    for how, looks in each.items():
        if lacking := without_value(looks, f" where {how}"):
            return f"{where} they cannot be compared: {lacking}."
    ratio = mean_interval(log_ratios(each[GROW], each[DECAY], size)).map(np.exp)
    decayed = np.exp(log_ratios(each[DECAY], each[CONSTANT], size).mean())
    difference = mean_interval(paired(each[GROW], size, "test_score") - paired(each[DECAY], size, "test_score"))
    made = [thousands(each[how]["updates"].max()) for how in (GROW, DECAY)]
    apart = max(abs(ratio.low - 1), abs(ratio.high - 1))
    return (
        f"{where} the growing batch ends at ×{ratio.estimate:.3f} ({bounds(ratio, '{:.3f}'.format)}) the training "
        f"loss of the decaying rate, the test {facts.score_name} {difference.estimate:+.4f} "
        f"({bounds(difference, '{:+.4f}'.format)}) apart, with {made[0]} updates instead of {made[1]}: they agree to "
        f"within {apart:.1%}, where decaying at all changed the loss by ×{three_digits(decayed)}."
    )


def draw(evidence: Evidence) -> Figure | None:
    """Training loss over the epochs from each start; None where nothing was measured."""
    found = {
        size: {how: looks[looks["status"] == "ok"] for how, looks in each.items()}
        for size, each in trainings(evidence).items()
    }
    found = {size: each for size, each in found.items() if all(len(looks) for looks in each.values())}
    if not found:
        return None
    figure = new_figure(4.8 * len(found), 4.2)
    for axes, (size, each) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        _draw_losses(axes, each)
        for epochs in changes(evidence.facts.epochs):
            axes.axvline(epochs, color=GREY, linestyle=":", linewidth=1, zorder=1.5)
        loss_axis(axes)
        axes.set_title(f"from batch size {thousands(size)}")
        axes.set_xlabel("epochs")
        axes.legend(loc="best")
    return figure


def _draw_losses(axes: Axes, each: dict[str, pd.DataFrame]) -> None:
    for how, looks in each.items():
        curve = np.exp(np.log(looks["train_loss"].clip(lower=1e-12)).groupby(looks["epoch"]).mean())
        label = f"{how}: {thousands(looks['updates'].max())} updates"
        dashes = "--" if how == GROW else "-"
        axes.plot(curve.index, curve, dashes, color=COLOURS[how], marker="o", markersize=3, label=label)
