"""Momentum: fewer updates to the target, the more so the larger the batch.

The lecture has momentum carry the parameters past where SGD without momentum stops. With the rate tuned for each,
published evidence finds that it hardly helps a small batch, whose updates are limited by noise, and helps a large one
(Shallue et al. 2019, section 4.5; Kidambi et al. 2018). The loss is that of averaged parameters; that of the last
iterate is the second reading. The same trainings show the critical batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.critical_batch import CriticalBatch
from suite.evidence.tuned_trainings import LAST_ITERATE_SEEDS, averaged_cells, last_iterate_protocols, protocols
from suite.evidence.tuned_updates import NeverReached, TunedUpdates, never_reached_sentence
from suite.evidence.updates_to_target import UpdatesToTarget
from suite.experiments.cell import Cell, Scope
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.figures import (
    GREY,
    WITH_COLOUR,
    WITHOUT_COLOUR,
    batch_size_axis,
    draw_critical_batch,
    draw_hyperbola,
    draw_intervals,
    new_figure,
    plain_log_ticks,
)
from suite.formatting import bounds, ratio, sentences, thousands, three_digits, with_bounds
from suite.optimizers import sgd
from suite.statistics import Interval
from suite.training.momentum_pair import WITH, WITHOUT, momentum_of, why_no_momentum
from suite.workloads import Workload

COLOURS = {WITHOUT: WITHOUT_COLOUR, WITH: WITH_COLOUR}

# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Trainings to the target without and with momentum: of averaged parameters at a few batch sizes, and of the last
    iterate at Large."""
    seeds = min(LAST_ITERATE_SEEDS, scope.seeds)
    last_iterate = [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, workload.large, seeds, protocol)
        for protocol in last_iterate_protocols(workload).values()
        if workload.large in scope.training_batch_sizes
    ]
    return [*averaged_cells(workload, scope), *last_iterate]


# What it computes


@dataclass(frozen=True)
class Reading:
    """The updates to the target at Large, by averaged parameters or by the last iterate."""

    comparison: Comparison | Problem
    """Without over with momentum, ratio of medians over seeds."""
    never_reached: tuple[NeverReached, ...]

    @classmethod
    def of(cls, tuned: dict[str, TunedUpdates], large: int) -> Reading:
        """Of the trainings WITHOUT and WITH momentum."""
        trainings = {f"{name} momentum": of_name for name, of_name in tuned.items()}
        problems = (of_name.problem(large, where) for where, of_name in trainings.items())
        if problem := next(filter(None, problems), None):
            return cls(problem, ())
        medians = (of_name.medians[large] for of_name in trainings.values())
        never = (of_name.never_reached(large, where) for where, of_name in trainings.items())
        return cls(Comparison(tuned[WITHOUT].over(tuned[WITH], large), *medians), tuple(chain.from_iterable(never)))


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    averaged: Reading
    last_iterate: Reading
    updates: dict[str, UpdatesToTarget]
    """Without and with momentum, by averaged parameters."""
    speed_ups: dict[int, Interval]
    """Updates without over updates with momentum by batch size, where both medians are finite."""


def analyse(evidence: Evidence) -> Findings:
    facts = evidence.facts
    averaged, last_iterate = (
        {name: TunedUpdates.of(evidence, protocol) for name, protocol in pair(facts).items()}
        for pair in (protocols, last_iterate_protocols)
    )
    updates = {name: UpdatesToTarget.of(tuned, f"{name} momentum") for name, tuned in averaged.items()}
    speed_ups = {
        size: averaged[WITHOUT].over(averaged[WITH], size)
        for size, median in updates[WITHOUT].medians.items()
        if math.isfinite(median) and math.isfinite(updates[WITH].medians.get(size, math.inf))
    }
    return Findings(
        facts=facts,
        backend=backend_of(evidence.rows),
        averaged=Reading.of(averaged, facts.large),
        last_iterate=Reading.of(last_iterate, facts.large),
        updates=updates,
        speed_ups=speed_ups,
    )


# How it is judged


@dataclass(frozen=True)
class OfLastIterate:
    """The ratio where the loss is that of the parameters after the last update."""

    ratio: Interval

    def __str__(self) -> str:
        return f"of the last iterate {with_bounds(self.ratio, ratio)}"


def judge(findings: Findings) -> list[Row]:
    """A row for each reading: averaged parameters, and the last iterate."""
    facts, last = findings.facts, findings.last_iterate.comparison
    flags = (OfLastIterate(last.effect),) if isinstance(last, Comparison) else ()
    readings = (
        (findings.averaged, protocols(facts)[WITH], flags),
        (findings.last_iterate, last_iterate_protocols(facts)[WITH], ()),
    )
    return [
        Row.of(
            reading.comparison,
            backend=findings.backend,
            protocol=protocol,
            small=facts.large,
            large=facts.large,
            measure="updates to the target, without / with momentum",
            unit="updates",
            flags=(*reading.never_reached, *flags),
            headline=reading is findings.averaged,
        )
        for reading, protocol, flags in readings
    ]


# How it is shown


def answer(findings: Findings) -> str:
    facts, comparison = findings.facts, findings.averaged.comparison
    if isinstance(comparison, Problem):
        return f"The updates to a training loss of {facts.target_loss:g} cannot be compared: {comparison}."
    return (
        f"To reach a training loss of {facts.target_loss:g} at batch size {thousands(facts.large)}, "
        f"{facts.optimizer.label} needs {three_digits(comparison.small)} updates without momentum and "
        f"{three_digits(comparison.large)} with {facts.optimizer.form.momentum_symbol} = {momentum_of(facts):g} "
        "(medians)."
    )


def figure(findings: Findings) -> Figure | None:
    """Updates to the target over the batch size, and the updates that momentum saves."""
    counts = [values for updates in findings.updates.values() for values in updates.seeds.values()]
    if not counts:
        return None
    figure = new_figure(9.6, 4.6)
    left, right = figure.subplots(1, 2)
    for name, updates in findings.updates.items():
        _draw_updates(left, updates, name)
    without = findings.updates[WITHOUT]
    if isinstance(without.critical_batch, CriticalBatch):
        draw_critical_batch(left, without.critical_batch, list(without.medians))
    left.set_yscale("log")
    left.set_ylim(bottom=0.6 * min(map(min, counts)))
    plain_log_ticks(left.yaxis)
    left.set_ylabel(f"updates to training loss {findings.facts.target_loss:g}")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    right.axhline(1, color=GREY, linewidth=1)
    draw_intervals(right, list(findings.speed_ups), list(findings.speed_ups.values()), fmt="o-")
    right.set_ylabel("updates, without / with momentum")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        batch_size_axis(axes, findings.facts)
    return figure


def _draw_updates(axes: Axes, updates: UpdatesToTarget, name: str) -> None:
    """Every seed that reached the target as a dot, the finite medians, and the hyperbola through them."""
    for size, values in updates.seeds.items():
        axes.plot([size] * len(values), values, ".", color=COLOURS[name], alpha=0.3, markersize=4)
    medians = {size: median for size, median in updates.medians.items() if math.isfinite(median)}
    axes.plot(list(medians), list(medians.values()), "o", color=COLOURS[name], markersize=5, label=f"{name} momentum")
    if isinstance(updates.critical_batch, CriticalBatch):
        draw_hyperbola(axes, updates.critical_batch, list(medians), color=COLOURS[name])


def explain(findings: Findings) -> str:
    if isinstance(findings.averaged.comparison, Problem):
        return ""
    return sentences(
        "The learning rate is tuned for each batch size, without and with momentum, to within a factor of √2. The "
        "target is reached when the loss of averaged parameters crosses it.",
        _last_iterate_sentence(findings.last_iterate),
        _small_sentence(findings),
        NOISE_OR_CURVATURE if findings.facts.optimizer.label == sgd().label else "",
        _critical_sentence(findings.updates[WITHOUT].critical_batch),
        never_reached_sentence(findings.updates[WITHOUT].never_reached + findings.updates[WITH].never_reached),
    )


NOISE_OR_CURVATURE = (
    "Shallue et al. (2019) found that momentum saves updates with large batches only. Kidambi et al. (2018) found "
    "stochastic problems on which SGD with heavy-ball momentum, however it is set, is no faster than SGD without "
    "momentum. In the model of Zhang et al. (2019) momentum helps where curvature limits progress."
)


def _last_iterate_sentence(last_iterate: Reading) -> str:
    """What the second reading says; empty where it says nothing."""
    if isinstance(last_iterate.comparison, Problem):
        return ""
    return (
        "If the parameters after the last update must reach the target, instead of averaged ones, training "
        f"without momentum takes {with_bounds(last_iterate.comparison.effect)} times as many updates as with it."
    )


def _small_sentence(findings: Findings) -> str:
    small = findings.facts.small
    if small not in findings.speed_ups:
        return ""
    return (
        f"At batch size {thousands(small)} {findings.facts.optimizer.label} needs "
        f"{with_bounds(findings.speed_ups[small], three_digits)} times as many updates without momentum as with "
        "momentum."
    )


def _critical_sentence(critical: CriticalBatch | Problem) -> str:
    if isinstance(critical, Problem):
        return ""
    return (
        f"The critical batch size without momentum is {with_bounds(critical.interval)}: far below it, doubling "
        "the batch size halves the updates; far above it, doubling saves almost none."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    table = []
    for size, speed_up in findings.speed_ups.items():
        line = {"batch size": thousands(size)}
        for name, updates in findings.updates.items():
            line[f"tuned rate, {name}"] = f"{updates.rates[size]:.3g}"
            line[f"updates, {name}"] = three_digits(updates.medians[size])
        table.append(line | {"without / with": ratio(speed_up.estimate), "95% interval": bounds(speed_up)})
    return pd.DataFrame(table)


claim = Claim(
    name="momentum_speed_up",
    row=11,
    title="Momentum saves updates",
    small="More updates",
    large="Fewer updates",
    says="Trained to the same loss at tuned rates, a large batch needs fewer updates with momentum than without.",
    rule=(
        "Holds when the 95% interval of the ratio (updates to the target loss without momentum) / (updates with "
        "momentum), at Large and at separately tuned learning rates, lies above 1; it is a ratio of medians, in "
        "which seeds that never reach the target count as infinite."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
    columns=("Without momentum", "With"),
    source="Shallue et al. (2019)",
    unfit=why_no_momentum,
)
