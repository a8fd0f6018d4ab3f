"""Reshuffled epochs, or batches drawn with replacement? The lecture shuffles the examples anew for every epoch.

Within an epoch every example then counts once, and what one batch has too much of the others lack: the noise of the
updates averages away over an epoch (Gürbüzbalaban, Ozdaglar, Parrilo 2021, "Why random reshuffling beats stochastic
gradient descent"). Batches drawn independently keep theirs. At a fixed rate the noise of the last updates hides much
of the difference; a rate that decays shows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims import decay_or_grow
from suite.claims.claim import Evidence, Facts
from suite.claims.decay_or_grow import CONSTANT, DECAY, starts
from suite.claims.drawing import (
    LARGE_COLOUR,
    SMALL_COLOUR,
    bounds,
    loss_axis,
    new_figure,
    ratios_below_one_another,
    thousands,
)
from suite.claims.trained import by_protocol, log_ratios, without_value
from suite.statistics import Interval, holm, mean_interval, mean_p_value
from suite.training.engine import TRAINING
from suite.training.protocol import Protocol
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = {CONSTANT: "fixed rate", DECAY: "decaying rate"}
RESHUFFLED, REPLACED = "reshuffled", "with replacement"
COLOURS = {RESHUFFLED: SMALL_COLOUR, REPLACED: LARGE_COLOUR}
DASHES = {CONSTANT: "-", DECAY: "--"}
TITLE = "Epochs, or draws with replacement"
SAYS = (
    "Reshuffled epochs, as in the lecture, or every batch drawn from all examples whatever was drawn before: at the "
    "same rates, with as many updates, from the same initial parameters. Left, the geometric mean of the training "
    "loss; right, the ratio at the end with its 95% interval. The decaying rate is that of the figure before. In a "
    "reshuffled epoch the noise of the batches averages away; as many draws with replacement miss 37% of the "
    "examples."
)


def protocols(of: Facts | Workload) -> dict[tuple[str, str], Protocol]:
    """By rate, and how batches are drawn."""
    return {
        (rate, how): replace(protocol, with_replacement=how == REPLACED)
        for rate, protocol in decay_or_grow.protocols(of).items()
        if rate in RATES
        for how in COLOURS
    }


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """At Small and the middle batch size; none outside a factorial scope."""
    return [
        Cell(TRAINING, workload.name, scope.training_backend, size, scope.seeds, protocol)
        for size in starts(workload)
        for protocol in protocols(workload).values()
        if scope.factorial and size in scope.training_batch_sizes
    ]


def pairs(evidence: Evidence) -> dict[tuple[int, str], dict[str, pd.DataFrame]]:
    """By batch size and rate, the looks at the trainings with both ways to draw batches, where they were planned."""
    of = protocols(evidence.facts)
    looks = {size: by_protocol(evidence, size, of) for size in starts(evidence.facts)}
    found = {(size, rate): {how: looks[size][rate, how] for how in COLOURS} for size in looks for rate, _ in of}
    return {place: pair for place, pair in found.items() if all(map(len, pair.values()))}


def lacking(evidence: Evidence) -> dict[tuple[int, str], str]:
    """What stands against comparing them; empty where nothing does."""
    return {
        place: " and ".join(filter(None, (without_value(looks, f" {how}") for how, looks in pair.items())))
        for place, pair in pairs(evidence).items()
    }


def differences(evidence: Evidence) -> dict[tuple[int, str], pd.Series]:
    """By batch size and rate, log of each seed's training loss with replacement over that of reshuffled epochs, where
    all seeds were trained."""
    against = lacking(evidence)
    return {
        place: log_ratios(pair[REPLACED], pair[RESHUFFLED], place[0])
        for place, pair in pairs(evidence).items()
        if not against[place]
    }


def ratio(logs: pd.Series) -> Interval:
    return mean_interval(logs).map(np.exp)


def named(size: int, rate: str) -> str:
    return f"batch size {thousands(size)}, {RATES[rate]}"


def sentence(evidence: Evidence) -> str:
    """What drawing with replacement does to the training loss, and where that cannot be told; empty where it was not
    planned."""
    found = {named(*place): logs for place, logs in differences(evidence).items()}
    against = [f"{named(*place)} ({reason})" for place, reason in lacking(evidence).items() if reason]
    if not found and not against:
        return ""
    said = ["Reshuffled epochs or batches drawn with replacement?"]
    if found:
        said.append(_compared(found))
    if against:
        said.append(f"They cannot be compared at {'; '.join(against)}.")
    return " ".join(said)


def _compared(found: dict[str, pd.Series]) -> str:
    each = "; ".join(
        f"{name} ×{ratio(logs).estimate:.3f} ({bounds(ratio(logs), '{:.3f}'.format)})" for name, logs in found.items()
    )
    return (
        "After the same number of updates, the training loss with replacement over that of reshuffled epochs: "
        f"{each}. With Holm's correction, {_found(found)}."
    )


def _found(found: dict[str, pd.Series]) -> str:
    """Where reshuffling certainly ends lower, or higher."""
    safe = pd.Series(holm([mean_p_value(logs) for logs in found.values()]), index=list(found)) < 0.05
    said = []
    for word, sign in (("lower", 1), ("higher", -1)):
        if places := [name for name, logs in found.items() if safe[name] and sign * logs.mean() > 0]:
            said.append(f"reshuffling ends {word} in {len(places)} of {len(found)} ({'; '.join(places)})")
    return " and ".join(said) or "neither can be told to end lower"


def draw(evidence: Evidence) -> Figure | None:
    """The losses at the smallest batch size, and the ratio at the end of each; None where it was not measured."""
    found = differences(evidence)
    if not found:
        return None
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    size = min(size for size, _ in found)
    for (rate, how), looks in by_protocol(evidence, size, protocols(evidence.facts)).items():
        if (size, rate) in found:
            curve = np.exp(np.log(looks["train_loss"].clip(lower=1e-12)).groupby(looks["epoch"]).mean())
            label = f"{how}, {RATES[rate]}"
            left.plot(curve.index, curve, DASHES[rate], color=COLOURS[how], marker="o", markersize=3, label=label)
    loss_axis(left)
    left.set_xlabel("epochs")
    left.set_title(f"batch size {thousands(size)}")
    left.legend(loc="best")
    ratios_below_one_another(right, {named(*place).replace(", ", "\n"): ratio(logs) for place, logs in found.items()})
    right.set_xlabel("training loss at the end, with replacement / reshuffled")
    return figure
