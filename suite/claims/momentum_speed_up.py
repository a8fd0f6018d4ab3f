"""Momentum: fewer updates to the target, the more so the larger the batch.

The lecture has momentum carry the parameters past where SGD without momentum stops. With the rate tuned for each,
published evidence finds that it hardly helps a small batch, whose updates are limited by noise, and helps a large one
(Shallue et al. 2019, section 4.5; Kidambi et al. 2018). The same trainings show the critical batch size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.trainings import at_target, left_out_sentence, training_problem
from suite.experiments.cell import Cell, Scope
from suite.experiments.tuned_training import TRIAL, TUNED_TRAINING
from suite.figures import (
    GREY,
    WITH_COLOUR,
    WITHOUT_COLOUR,
    batch_size_axis,
    draw_intervals,
    new_figure,
    plain_log_ticks,
)
from suite.formatting import bounds, ratio, sentences, thousands, three_digits, with_bounds
from suite.optimizers import sgd
from suite.statistics import Interval, critical_batch_size, mean_interval
from suite.status import Status
from suite.training.learning_rate import FINE_SEARCH
from suite.training.momentum_pair import WITH, WITHOUT, matched_rates, momentum_of, momentum_pair, why_no_momentum
from suite.training.protocol import Protocol
from suite.workloads import Workload

MAX_SHARE_LEFT_OUT = 0.1
"""A tuned rate, at the edge of stability, may keep this share of seeds from the target."""
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
    """Updates to the target by batch size."""

    seeds: dict[int, tuple[float, ...]]
    """Of every seed that reached the target."""
    means: dict[int, float]
    """Geometric means over seeds."""
    rates: dict[int, float]
    """Tuned learning rates."""
    hyperbola: Hyperbola | None
    """Through the means; None where there are fewer than three."""


@dataclass(frozen=True)
class LeftOut:
    """Seeds that never reached the target, which the effect leaves out."""

    problem: Problem

    def __str__(self) -> str:
        return f"{self.problem}, left out"


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    comparison: Comparison | Problem
    """Updates to the target at Large, without over with momentum, geometric mean over seeds."""
    left_out: tuple[LeftOut, ...]
    updates: dict[str, UpdatesToTarget]
    """Without and with momentum."""
    speed_ups: dict[int, Interval]
    """Updates without over updates with momentum by batch size, geometric mean over the seeds that reached both."""
    critical_batch_size: Interval | None
    """Without momentum, geometric mean over seeds; None where it has no interval."""


def analyse(evidence: Evidence) -> Findings:
    facts, large = evidence.facts, evidence.facts.large
    rows = {name: final_rows(evidence, protocol) for name, protocol in protocols(facts).items()}
    updates = {name: at_target(trainings, facts, "updates") for name, trainings in rows.items()}
    speed_ups = _speed_ups(updates[WITHOUT], updates[WITH])
    problem, left_out = _problems(rows, large)
    summaries = {name: _summarised(updates[name], rows[name]) for name in rows}
    has_interval = updates[WITHOUT].shape[1] > 2 and len(updates[WITHOUT].dropna()) > 1
    return Findings(
        facts=facts,
        backend=backend_of(evidence.rows),
        comparison=problem or Comparison(speed_ups[large], *(each.means[large] for each in summaries.values())),
        left_out=left_out,
        updates=summaries,
        speed_ups=speed_ups,
        critical_batch_size=_critical_interval(updates[WITHOUT]) if has_interval else None,
    )


def final_rows(evidence: Evidence, protocol: Protocol) -> pd.DataFrame:
    """The evaluations of the trainings by `protocol` at their tuned rates."""
    rows = evidence.rows[evidence.rows["protocol"] == protocol.key]
    return rows[rows["stage"] != TRIAL]


def _speed_ups(without: pd.DataFrame, with_: pd.DataFrame) -> dict[int, Interval]:
    return {
        int(size): mean_interval((np.log(without[size]) - np.log(with_[size])).dropna()).map(np.exp)
        for size in without
        if size in with_
    }


def _critical_interval(updates: pd.DataFrame) -> Interval:
    logs = [np.log(critical_batch_size(updates.columns, seed)[1]) for _, seed in updates.dropna().iterrows()]
    return mean_interval(logs).map(np.exp)


def _problems(rows: dict[str, pd.DataFrame], large: int) -> tuple[Problem | None, tuple[LeftOut, ...]]:
    """Why Large cannot be compared, and which few seeds without momentum are left out."""
    left_out = ()
    for name, trainings in rows.items():
        problem = training_problem(trainings[trainings["batch_size"] == large], f"{name} momentum")
        if problem and name == WITHOUT and _leaves_out_few(problem):
            left_out = (LeftOut(problem),)
        elif problem:
            return problem, ()
    return None, left_out


def _leaves_out_few(problem: Problem) -> bool:
    if problem.status is not Status.TARGET_NOT_REACHED:
        return False
    return problem.replicas <= MAX_SHARE_LEFT_OUT * problem.all_replicas


def _summarised(updates: pd.DataFrame, rows: pd.DataFrame) -> UpdatesToTarget:
    means = np.exp(np.log(updates).mean())
    rates = rows.groupby("batch_size")["learning_rate"].first()
    return UpdatesToTarget(
        seeds={int(size): tuple(updates[size].dropna()) for size in updates},
        means={int(size): float(mean) for size, mean in means.items()},
        rates={int(size): float(rates[size]) for size in updates},
        hyperbola=Hyperbola(*critical_batch_size(means.index, means)) if len(means) > 2 else None,
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
            flags=findings.left_out,
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
        "(geometric means)."
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
    """Every seed as a dot, their geometric mean, and the hyperbola through the means."""
    for size, values in updates.seeds.items():
        axes.plot([size] * len(values), values, ".", color=COLOURS[name], alpha=0.3, markersize=4)
    means = updates.means
    axes.plot(list(means), list(means.values()), "o", color=COLOURS[name], markersize=5, label=f"{name} momentum")
    if hyperbola := updates.hyperbola:
        sizes = np.geomspace(min(means), max(means), 200)
        line = hyperbola.min_updates * (1 + hyperbola.critical_batch_size / sizes)
        axes.plot(sizes, line, "-", color=COLOURS[name], linewidth=1)


def _draw_limits(axes: Axes, updates: UpdatesToTarget) -> None:
    """The limits of the hyperbola for small and for large batches, and the critical batch size where they meet."""
    if updates.hyperbola is None:
        return
    least, critical = updates.hyperbola.min_updates, updates.hyperbola.critical_batch_size
    smallest, largest = min(updates.means), max(updates.means)
    halved = [least * critical / smallest, least]
    axes.plot([smallest, critical], halved, ":", color=GREY, label="twice the batch size, half the updates")
    axes.plot([critical, largest], [least, least], "--", color=GREY, label="a larger batch saves no updates")
    axes.plot(critical, least, "D", color=GREY, markersize=5, label=f"critical batch size {three_digits(critical)}")


def explain(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return ""
    return sentences(
        "The learning rate is tuned for each batch size, without and with momentum.",
        _small_sentence(findings),
        NOISE_OR_CURVATURE if findings.facts.optimizer.label == sgd().label else "",
        _critical_sentence(findings.critical_batch_size),
        left_out_sentence(tuple(flag.problem for flag in findings.left_out)),
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


def numbers(findings: Findings) -> pd.DataFrame:
    table = []
    for size, speed_up in findings.speed_ups.items():
        line = {"batch size": thousands(size)}
        for name, updates in findings.updates.items():
            line[f"tuned rate, {name}"] = f"{updates.rates[size]:.3g}"
            line[f"updates, {name}"] = three_digits(updates.means[size])
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
        "momentum), at Large and at separately tuned learning rates, lies above 1; the ratio is the geometric mean "
        "over seeds."
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
