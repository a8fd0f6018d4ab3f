"""Training without and with momentum at rates that go equally far along a constant gradient.

SGD's weights of all past gradients add up to 1 / (1 − λ): at 1 / (1 − λ) times the rate, SGD without momentum should
take the same path as long as the rate is small. Adam's weights add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.claims.momentum_sum import matched_protocols
from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import by_protocol, final_log_loss, training_problem
from suite.experiments.cell import Cell, Scope
from suite.experiments.training import TRAINING
from suite.figures import GREY, draw_intervals, new_figure
from suite.formatting import bounds, listed, ratio, thousands, three_digits
from suite.statistics import Interval, mean_interval
from suite.studies.study import Study
from suite.training.momentum_pair import WITH, WITHOUT
from suite.training.protocol import Protocol
from suite.workloads import Workload


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Both trainings of every pair; none where the middle batch size is not trained with."""
    middle = workload.middle
    if middle not in scope.training_batch_sizes:
        return []
    return [
        Cell(TRAINING, workload.name, scope.training_backend, middle, scope.seeds, protocol)
        for pair in pairs(workload)
        for protocol in pair.values()
    ]


def pairs(workload: Facts | Workload) -> list[dict[str, Protocol]]:
    """`matched_protocols` at each of the workload's learning rates."""
    return [matched_protocols(workload, learning_rate) for learning_rate in workload.learning_rates]


@dataclass(frozen=True)
class MatchedPair:
    """The trainings at one pair of matched learning rates."""

    rate_without: float
    rate_with: float
    loss_ratio: Interval | Problem
    """Final training loss with momentum over that without, geometric mean over seeds."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    pairs: tuple[MatchedPair, ...]
    """By increasing rate."""

    @property
    def compared(self) -> dict[float, Interval]:
        """The loss ratios that were measured, by the rate without momentum."""
        return {pair.rate_without: pair.loss_ratio for pair in self.pairs if not isinstance(pair.loss_ratio, Problem)}


def analyse(evidence: Evidence) -> Findings:
    compared = [_compared(evidence, pair) for pair in pairs(evidence.facts)]
    return Findings(evidence.facts, tuple(sorted(compared, key=lambda pair: pair.rate_without)))


def _compared(evidence: Evidence, pair: dict[str, Protocol]) -> MatchedPair:
    middle, rates = evidence.facts.middle, (pair[WITHOUT].learning_rate, pair[WITH].learning_rate)
    trainings = by_protocol(evidence, middle, pair)
    for name, rows in trainings.items():
        if problem := training_problem(rows, f"{name} momentum"):
            return MatchedPair(*rates, problem)
    log_ratios = final_log_loss(trainings[WITH], middle) - final_log_loss(trainings[WITHOUT], middle)
    return MatchedPair(*rates, mean_interval(log_ratios).map(np.exp))


def answer(findings: Findings) -> str:
    compared = findings.compared
    if not compared:
        return f"Trainings at matched rates cannot be compared: {findings.pairs[0].loss_ratio}."
    lowest = min(compared, key=lambda rate: compared[rate].estimate)
    highest = max(compared, key=lambda rate: compared[rate].estimate)
    optimizer = findings.facts.optimizer
    matching_rate = "the same rate η" if optimizer.form.averages else "rate η (1 − λ)"
    ratios = [f"{three_digits(compared[rate].estimate)} at η = {rate:g}" for rate in dict.fromkeys((lowest, highest))]
    return (
        f"{optimizer.label} with momentum λ at {matching_rate} is compared with {optimizer.label} without momentum "
        f"at rate η: the ratio of their final training losses is {listed(ratios)}."
    )


def figure(findings: Findings) -> Figure | None:
    """The final training loss with momentum over that without, by the rate without momentum."""
    compared = findings.compared
    if not compared:
        return None
    figure = new_figure(5.2, 4)
    axes = figure.subplots()
    axes.axhline(1, color=GREY, linewidth=1)
    draw_intervals(axes, list(compared), list(compared.values()), fmt="o-")
    axes.set_xscale("log")
    axes.set_xticks(list(compared), [f"{rate:g}" for rate in compared])
    axes.set_xticks([], minor=True)
    matching_rate = "the same rate" if findings.facts.optimizer.form.averages else "η (1 − λ)"
    axes.set_xlabel(f"learning rate η without momentum\n(with momentum, {matching_rate})")
    axes.set_ylabel("training loss, with / without momentum")
    return figure


def explain(findings: Findings) -> str:
    if not findings.compared:
        return ""
    facts = findings.facts
    matching = (
        f"{facts.optimizer.label}'s weights of all past gradients add up to 1, so without momentum it should take "
        "nearly the same path at the same rate, if the rate is small."
        if facts.optimizer.form.averages
        else "The weights of all past gradients add up to 1 / (1 − λ). So SGD with momentum at rate η (1 − λ) should "
        "take nearly the same path as SGD without momentum at rate η, if both rates are small."
    )
    return (
        f"{matching} The figure shows the training loss after {facts.epochs} epochs with batch size "
        f"{thousands(facts.middle)}, as a ratio with / without momentum (geometric mean over seeds, 95% interval)."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rate, without": f"{pair.rate_without:g}",
            "rate, with": f"{pair.rate_with:g}",
            **_loss_ratio_texts(pair.loss_ratio),
        }
        for pair in findings.pairs
    )


def _loss_ratio_texts(loss_ratio: Interval | Problem) -> dict[str, str]:
    compared = not isinstance(loss_ratio, Problem)
    return {
        "training loss, with / without": ratio(loss_ratio.estimate) if compared else "–",
        "95% interval": bounds(loss_ratio) if compared else str(loss_ratio),
    }


study = Study(
    name="matched_rates",
    claim="momentum_sum",
    place=2,
    title="Matched learning rates",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
    numbers=numbers,
)
