"""Momentum: fewer updates to the target, the more so the larger the batch.

The lecture has momentum carry the parameters past where SGD without momentum stops. With the rate tuned for each,
published evidence finds that it hardly helps a small batch, whose updates are limited by noise, and helps a large one
(Shallue et al. 2019, section 4.5; Kidambi et al. 2018). The same trainings show the critical batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.tuned_updates import NeverReached, TunedUpdates, all_never_reached
from suite.experiments.cell import Cell, Scope
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.figures import (
    GREY,
    WITH_COLOUR,
    WITHOUT_COLOUR,
    batch_size_axis,
    draw_intervals,
    new_figure,
    plain_log_ticks,
)
from suite.formatting import bounds, listed, ratio, sentences, thousands, three_digits, with_bounds
from suite.optimizers import sgd
from suite.statistics import Interval, critical_batch_size
from suite.training.learning_rate import FINE_SEARCH
from suite.training.momentum_pair import WITH, WITHOUT, matched_rates, momentum_of, momentum_pair, why_no_momentum
from suite.training.protocol import Protocol
from suite.workloads import Workload

COLOURS = {WITHOUT: WITHOUT_COLOUR, WITH: WITH_COLOUR}


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Trainings to the target at a few batch sizes, without and with momentum."""
    return [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, batch_size, scope.seeds, protocol)
        for protocol in protocols(workload).values()
        for batch_size in batch_sizes(workload, scope)
    ]


def batch_sizes(workload: Workload, scope: Scope) -> list[int]:
    """Every third of the coarse batch sizes that are trained with, or all of them in a full run."""
    sizes = [size for size in scope.training_batch_sizes if size in scope.coarse_batch_sizes]
    if scope.factorial:
        return sizes
    return sorted({*sizes[::3], workload.small, workload.large} & set(sizes))


def protocols(workload: Facts | Workload) -> dict[str, Protocol]:
    """Training to the target at a tuned rate, without and with momentum. The grid of SGD's rates starts 1 − λ times
    as high with momentum, since a movement adds up to 1 / (1 − λ) gradients."""
    rates = matched_rates(workload, workload.learning_rate)
    return {
        name: replace(Protocol.to_target(workload, FINE_SEARCH, optimizer), learning_rate=rates[name])
        for name, optimizer in momentum_pair(workload).items()
    }


# What it computes


@dataclass(frozen=True)
class Hyperbola:
    """S(B) = S_min (1 + B_crit / B), fitted to the updates to the target."""

    min_updates: float
    critical_batch_size: float


@dataclass(frozen=True)
class UpdatesToTarget:
    """Updates to the target by batch size, those of averaged parameters."""

    seeds: dict[int, tuple[float, ...]]
    """Of every seed that reached the target."""
    medians: dict[int, float]
    """Over all seeds; one that never reached the target counts as infinite."""
    rates: dict[int, float]
    """Tuned learning rates."""
    hyperbola: Hyperbola | None
    """Through the finite medians; None where there are fewer than three."""
    never_reached: tuple[NeverReached, ...]


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    comparison: Comparison | Problem
    """Updates to the target at Large, without over with momentum, ratio of medians over seeds."""
    never_reached: tuple[NeverReached, ...]
    """Seeds at Large."""
    updates: dict[str, UpdatesToTarget]
    """Without and with momentum."""
    speed_ups: dict[int, Interval]
    """Updates without over updates with momentum by batch size, where both medians are finite."""
    critical_batch_size: Interval | None
    """Without momentum; None where it cannot be fitted."""


def analyse(evidence: Evidence) -> Findings:
    facts, large = evidence.facts, evidence.facts.large
    tuned = {name: TunedUpdates.of(*rows_of(evidence, protocol)) for name, protocol in protocols(facts).items()}
    updates = {name: _summarised(of_name, name) for name, of_name in tuned.items()}
    speed_ups = {
        size: tuned[WITHOUT].over(tuned[WITH], size)
        for size, median in updates[WITHOUT].medians.items()
        if math.isfinite(median) and math.isfinite(updates[WITH].medians.get(size, math.inf))
    }
    problems = [of_name.problem(large, f"{name} momentum") for name, of_name in tuned.items()]
    problem = next(filter(None, problems), None)
    comparison = problem or Comparison(speed_ups[large], *(each.medians[large] for each in updates.values()))
    return Findings(
        facts=facts,
        backend=backend_of(evidence.rows),
        comparison=comparison,
        never_reached=() if problem else _never_reached(tuned, large),
        updates=updates,
        speed_ups=speed_ups,
        critical_batch_size=tuned[WITHOUT].critical_batch_size(),
    )


def _never_reached(tuned: dict[str, TunedUpdates], batch_size: int) -> tuple[NeverReached, ...]:
    return tuple(
        never for name, of_name in tuned.items() for never in of_name.never_reached(batch_size, f"{name} momentum")
    )


def rows_of(evidence: Evidence, protocol: Protocol) -> tuple[pd.DataFrame, Facts]:
    """The trials and final trainings by `protocol`, and the facts."""
    return evidence.rows[evidence.rows["protocol"] == protocol.key], evidence.facts


def _summarised(tuned: TunedUpdates, name: str) -> UpdatesToTarget:
    finite = {size: median for size, median in tuned.medians.items() if math.isfinite(median)}
    return UpdatesToTarget(
        seeds={int(size): tuple(values[np.isfinite(values)]) for size, values in tuned.updates.items()},
        medians=tuned.medians,
        rates={int(size): float(rate) for size, rate in tuned.rates.items()},
        hyperbola=Hyperbola(*critical_batch_size(list(finite), list(finite.values()))) if len(finite) > 2 else None,
        never_reached=all_never_reached(tuned, f"{name} momentum"),
    )


# How it is judged


def judge(findings: Findings) -> list[Row]:
    facts = findings.facts
    return [
        Row.of(
            findings.comparison,
            backend=findings.backend,
            protocol=protocols(facts)[WITH],
            small=facts.large,
            large=facts.large,
            measure="updates to the target, without / with momentum",
            unit="updates",
            flags=findings.never_reached,
        )
    ]


# How it is shown


def answer(findings: Findings) -> str:
    facts, comparison = findings.facts, findings.comparison
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
    _draw_limits(left, findings.updates[WITHOUT])
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
    if hyperbola := updates.hyperbola:
        sizes = np.geomspace(min(medians), max(medians), 200)
        line = hyperbola.min_updates * (1 + hyperbola.critical_batch_size / sizes)
        axes.plot(sizes, line, "-", color=COLOURS[name], linewidth=1)


def _draw_limits(axes: Axes, updates: UpdatesToTarget) -> None:
    """The limits of the hyperbola for small and for large batches, and the critical batch size where they meet."""
    if updates.hyperbola is None:
        return
    least, critical = updates.hyperbola.min_updates, updates.hyperbola.critical_batch_size
    smallest, largest = min(updates.medians), max(updates.medians)
    halved = [least * critical / smallest, least]
    axes.plot([smallest, critical], halved, ":", color=GREY, label="twice the batch size, half the updates")
    axes.plot([critical, largest], [least, least], "--", color=GREY, label="a larger batch saves no updates")
    axes.plot(critical, least, "D", color=GREY, markersize=5, label=f"critical batch size {three_digits(critical)}")


def explain(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return ""
    return sentences(
        "The learning rate is tuned for each batch size, without and with momentum, to within a factor of √2. The "
        "target is reached when the loss of averaged parameters crosses it.",
        _small_sentence(findings),
        NOISE_OR_CURVATURE if findings.facts.optimizer.label == sgd().label else "",
        _critical_sentence(findings.critical_batch_size),
        _never_reached_sentence(findings),
    )


NOISE_OR_CURVATURE = (
    "Momentum helps where curvature limits progress, not where gradient noise does (Kidambi et al. 2018; Shallue et "
    "al. 2019)."
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


def _critical_sentence(critical: Interval | None) -> str:
    if critical is None:
        return ""
    return (
        f"The critical batch size without momentum is {with_bounds(critical, three_digits)}: far below it, doubling "
        "the batch size halves the updates; far above it, doubling saves none."
    )


def _never_reached_sentence(findings: Findings) -> str:
    never = [str(never) for updates in findings.updates.values() for never in updates.never_reached]
    return f"Of the trainings, {listed(never)}." if never else ""


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
    unfit=why_no_momentum,
)
