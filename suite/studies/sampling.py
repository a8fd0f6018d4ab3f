"""Reshuffled epochs, or batches drawn with replacement? The lecture shuffles the examples anew for every epoch.

In a reshuffled epoch every example is drawn once: an example in one batch is missing from the others, and the noise
of the updates averages away over the epoch (Gürbüzbalaban, Ozdaglar, Parrilo 2021, "Why random reshuffling beats
stochastic gradient descent"). That of batches drawn independently does not. At a fixed rate the noise of the last
updates hides much of the difference; a decaying rate shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import (
    by_protocol,
    final_log_loss,
    mean_loss_curve,
    problems_in_words,
    seeds_without_log_loss,
)
from suite.experiments.cell import Cell, Scope
from suite.experiments.training import TRAINING
from suite.figures import LARGE_COLOUR, SMALL_COLOUR, draw_ratios, loss_axis, new_figure
from suite.formatting import decimals, listed, ratio, sentences, thousands, with_bounds
from suite.statistics import HOLM_LEVEL, Interval, Verdict, holm, mean_interval, mean_p_value
from suite.studies import decay_or_grow
from suite.studies.decay_or_grow import CONSTANT, DECAY, start_batch_sizes
from suite.studies.study import Study
from suite.training.protocol import Protocol
from suite.workloads import Workload

RATES = {CONSTANT: "fixed rate", DECAY: "decaying rate"}
LINES = {CONSTANT: "-", DECAY: "--"}
RESHUFFLED, REPLACED = "reshuffled", "with replacement"
COLOURS = {RESHUFFLED: SMALL_COLOUR, REPLACED: LARGE_COLOUR}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """At Small and the middle batch size; none outside a factorial scope."""
    return [
        Cell(TRAINING, workload.name, scope.training_backend, size, scope.seeds, protocol)
        for size in start_batch_sizes(workload)
        for protocol in protocols(workload).values()
        if scope.factorial and size in scope.training_batch_sizes
    ]


def protocols(workload: Facts | Workload) -> dict[tuple[str, str], Protocol]:
    """By rate (CONSTANT or DECAY) and sampling (RESHUFFLED or REPLACED)."""
    return {
        (rate, sampling): replace(protocol, with_replacement=sampling == REPLACED)
        for rate, protocol in decay_or_grow.protocols(workload).items()
        if rate in RATES
        for sampling in COLOURS
    }


@dataclass(frozen=True)
class Pair:
    """Trainings with both ways of sampling, at one batch size and rate."""

    batch_size: int
    rate: str
    """CONSTANT or DECAY."""
    losses: dict[str, dict[float, float]]
    """Geometric mean over seeds of the training loss after each epoch, by RESHUFFLED and REPLACED."""
    loss_ratio: Interval
    """Final training loss with replacement over reshuffled, geometric mean over seeds."""
    p_value: float
    """That the log of the ratio is zero, with Holm's correction over all pairs."""
    reshuffled_lower: Verdict
    """Whether reshuffling ends at the lower loss, by that p-value."""

    def __str__(self) -> str:
        return f"batch size {thousands(self.batch_size)}, {RATES[self.rate]}"


@dataclass(frozen=True)
class Unpaired:
    """Trainings that cannot be compared."""

    batch_size: int
    rate: str
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        return f"batch size {thousands(self.batch_size)}, {RATES[self.rate]} ({problems_in_words(self.problems)})"


@dataclass(frozen=True)
class Findings:
    facts: Facts
    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]


def analyse(evidence: Evidence) -> Findings:
    trainings = _planned_trainings(evidence)
    problems = {
        place: tuple(problem for name, rows in pair.items() for problem in seeds_without_log_loss(rows, name))
        for place, pair in trainings.items()
    }
    logs = {
        (size, rate): final_log_loss(pair[REPLACED], size) - final_log_loss(pair[RESHUFFLED], size)
        for (size, rate), pair in trainings.items()
        if not problems[size, rate]
    }
    p_values = dict(zip(logs, holm([mean_p_value(values) for values in logs.values()]), strict=True))
    pairs = tuple(_pair(*place, trainings[place], logs[place], p_values[place]) for place in logs)
    unpaired = tuple(Unpaired(*place, problems[place]) for place in trainings if problems[place])
    return Findings(evidence.facts, pairs, unpaired)


def _planned_trainings(evidence: Evidence) -> dict[tuple[int, str], dict[str, pd.DataFrame]]:
    """By batch size and rate, the evaluations of the trainings with both ways of sampling."""
    trainings = {}
    for size in start_batch_sizes(evidence.facts):
        rows = by_protocol(evidence, size, protocols(evidence.facts))
        for rate in dict.fromkeys(rate for rate, _ in rows):
            trainings[size, rate] = {sampling: rows[rate, sampling] for sampling in COLOURS}
    return {place: pair for place, pair in trainings.items() if all(map(len, pair.values()))}


def _pair(size: int, rate: str, trainings: dict[str, pd.DataFrame], logs: pd.Series, p_value: float) -> Pair:
    verdict = Verdict.UNDECIDED
    if p_value < HOLM_LEVEL:
        verdict = Verdict.HOLDS if logs.mean() > 0 else Verdict.FAILS
    return Pair(
        batch_size=size,
        rate=rate,
        losses={sampling: mean_loss_curve(rows, "epoch") for sampling, rows in trainings.items()},
        loss_ratio=mean_interval(logs).map(np.exp),
        p_value=p_value,
        reshuffled_lower=verdict,
    )


def answer(findings: Findings) -> str:
    if not findings.pairs:
        reason = "; ".join(map(str, findings.unpaired)) or "their trainings were not measured"
        return f"Reshuffled epochs and draws with replacement cannot be compared: {reason}."
    parts = []
    for word, verdict in (("higher", Verdict.HOLDS), ("lower", Verdict.FAILS)):
        if pairs := [pair for pair in findings.pairs if pair.reshuffled_lower == verdict]:
            ratios = "; ".join(f"{ratio(pair.loss_ratio.estimate)} at {pair}" for pair in pairs)
            parts.append(f"{word} in {len(pairs)} of {len(findings.pairs)} comparisons ({ratios})")
    if not parts:
        return "Neither draws with replacement nor reshuffled epochs end at a significantly lower training loss."
    return (
        "Compared with reshuffled epochs, draws with replacement end at a training loss that is significantly "
        f"{listed(parts)}."
    )


def figure(findings: Findings) -> Figure | None:
    """The losses at the smallest batch size, and the ratio at the end of every pair."""
    if not findings.pairs:
        return None
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    smallest = min(pair.batch_size for pair in findings.pairs)
    for pair in findings.pairs:
        if pair.batch_size == smallest:
            _draw_losses(left, pair)
    loss_axis(left)
    left.set_xlabel("epochs")
    left.set_title(f"batch size {thousands(smallest)}")
    left.legend(loc="best")
    ratios = {
        f"batch size {thousands(pair.batch_size)}\n{RATES[pair.rate]}": pair.loss_ratio for pair in findings.pairs
    }
    draw_ratios(right, ratios)
    right.set_xlabel("final training loss, with replacement / reshuffled")
    return figure


def _draw_losses(axes: Axes, pair: Pair) -> None:
    for sampling, losses in pair.losses.items():
        style = {"color": COLOURS[sampling], "linestyle": LINES[pair.rate], "marker": "o", "markersize": 3}
        axes.plot(list(losses), list(losses.values()), label=f"{sampling}, {RATES[pair.rate]}", **style)


def explain(findings: Findings) -> str:
    if not findings.pairs:
        return ""
    ratios = [f"{with_bounds(pair.loss_ratio, decimals(3))} at {pair}" for pair in findings.pairs]
    return sentences(
        "Both are trained from the same initial parameters, at the same rates and for the same number of updates. "
        f"The ratio of the final training losses, with replacement / reshuffled, is {'; '.join(ratios)}.",
        "Significance is judged at 5% with Holm's correction for these comparisons.",
        "In a reshuffled epoch every example is drawn once, and in theory, while the rate is small, much of the "
        "noise of the batches averages away; the same number of draws with replacement misses about 37% of the "
        "examples.",
        f"No comparison is possible at {'; '.join(map(str, findings.unpaired))}." if findings.unpaired else "",
    )


study = Study(
    name="sampling",
    claim="optimization",
    place=5,
    title="Reshuffled epochs or draws with replacement?",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
