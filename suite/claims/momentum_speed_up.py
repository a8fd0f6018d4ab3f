"""Momentum: fewer updates to the target, the more so the larger the batch.

The lecture has momentum carry the parameters past where SGD without momentum stops. With the rate tuned for each,
published evidence finds that it hardly helps a small batch, whose updates are limited by noise, and helps a large one
(Shallue et al. 2019, section 4.5; Kidambi et al. 2018). Both are trained to the same loss here, at a few batch sizes;
the same trainings show how far a larger batch saves updates at all, and, with the measured time of an update, time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Claim, Evidence, Facts, Illustration, Row, backend_of, process_medians
from suite.claims.drawing import (
    GREY,
    batch_size_axis,
    bounds,
    intervals,
    new_figure,
    seconds_axis,
    thousands,
    three_digits,
)
from suite.claims.trained import at_target, at_the_end, trouble
from suite.claims.with_momentum import (
    COLOURS,
    COLUMNS,
    PLAIN,
    WITH,
    momentum_of,
    optimizers,
    rates,
    why_unknown,
)
from suite.optimizers import sgd
from suite.statistics import Interval, critical_batch, mean_interval
from suite.timings import UPDATE_TIME
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol, TargetLoss
from suite.training.tuning import TRIAL, TUNED_TRAINING
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 0.1
"""The share of seeds that a tuned rate, at the edge of stability, may keep from the target."""
MEASURE = "updates to the target, without / with momentum"


def protocols(of: Facts | Workload) -> dict[str, Protocol]:
    """To the target at a tuned rate, without and with momentum. With SGD a movement adds up to 1 / (1 - λ) gradients:
    the grid of rates starts that much lower with momentum."""
    target = TargetLoss(of.target_loss, of.max_updates)
    start = rates(of, of.learning_rate)
    return {which: Protocol(start[which], target, Tuned(), optimizer) for which, optimizer in optimizers(of).items()}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Both at the same batch sizes, and the time of an update."""
    timed = [
        Cell(
            UPDATE_TIME,
            workload.name,
            scope.training_backend,
            size,
            scope.processes,
            optimizer=workload.optimizer,
        )
        for size in batch_sizes(workload, scope)
        if scope.training_backend in scope.backends
    ]
    return [*trained(workload, scope, PLAIN), *trained(workload, scope, WITH), *timed]


def batch_sizes(workload: Workload, scope: Scope) -> list[int]:
    """Every third of the coarse batch sizes that are trained with, all of them in a full run."""
    sizes = [size for size in scope.training_batch_sizes if size in scope.coarse_batch_sizes]
    if scope.factorial:
        return sizes
    return sorted({*sizes[::3], workload.small, workload.large} & set(sizes))


def trained(workload: Workload, scope: Scope, which: str) -> list[Cell]:
    """The trainings without or with momentum."""
    protocol = protocols(workload)[which]
    return [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, size, scope.seeds, protocol)
        for size in batch_sizes(workload, scope)
    ]


def finals(evidence: Evidence, which: str) -> pd.DataFrame:
    """The looks at what was trained in the end, without or with momentum."""
    rows = evidence.rows[evidence.rows["protocol"] == protocols(evidence.facts)[which].key]
    return rows[rows["stage"] != TRIAL]


def updates(evidence: Evidence, which: str) -> pd.DataFrame:
    """Updates at the crossing of the target: a row per seed, a column per batch size."""
    return at_target(finals(evidence, which), evidence.facts, "updates")


def speed_ups(evidence: Evidence) -> dict[int, Interval]:
    """By batch size, updates without over updates with momentum: geometric mean over the seeds that reached the
    target with both."""
    plain, momentum = updates(evidence, PLAIN), updates(evidence, WITH)
    return {
        size: mean_interval((np.log(plain[size]) - np.log(momentum[size])).dropna()).map(np.exp)
        for size in plain
        if size in momentum
    }


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the updates to the target loss without momentum over those with it, at Large and the rate tuned for
    each, lie above 1 with their whole interval.

    The geometric mean over seeds, paired by initial parameters and split; Student's t on the differences of logs.
    Where few seeds never get there without momentum, they are left out, which can only make the effect smaller.
    """
    facts = evidence.facts
    shared = {
        "backend": backend_of(evidence.rows),
        "protocol": str(protocols(facts)[WITH]),
        "small": facts.large,
        "large": facts.large,
        "measure": MEASURE,
        "unit": "updates",
    }
    flags = ""
    for which in (PLAIN, WITH):
        rows = finals(evidence, which)
        rows = rows[rows["batch_size"] == facts.large]
        status, reason = trouble(rows, f"{which} momentum")
        if which == PLAIN and status == "target_not_reached" and missing(rows) <= FEW:
            flags = f"{reason}, left out"
        elif status != "ok":
            return [Row(**shared, status=status, flags=reason)]
    values = [float(np.exp(np.log(updates(evidence, which)[facts.large]).mean())) for which in (PLAIN, WITH)]
    return [
        Row.judged(
            speed_ups(evidence)[facts.large],
            **shared,
            value_small=values[0],
            value_large=values[1],
            flags=flags,
        )
    ]


def missing(rows: pd.DataFrame) -> float:
    """The share of seeds that did not reach the target."""
    return float((at_the_end(rows)["status"] == "target_not_reached").mean())


def draw(evidence: Evidence) -> Figure:
    """Updates to the target over the batch size, and what momentum saves."""
    figure = new_figure(9.6, 4.6)
    left, right = figure.subplots(1, 2)
    by_rule = {which: updates(evidence, which) for which in COLOURS}
    for which, found in by_rule.items():
        _draw_updates(left, found, which)
    _draw_limits(left, by_rule[PLAIN])
    left.set_yscale("log")
    if fewest := [found.min().min() for found in by_rule.values() if not found.empty]:
        left.set_ylim(bottom=0.6 * min(fewest))
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    left.set_ylabel(f"updates to training loss {evidence.facts.target_loss:g}")
    found = speed_ups(evidence)
    right.axhline(1, color=GREY, linewidth=1)
    intervals(right, found, found.values(), fmt="o-")
    right.set_ylabel("updates without / with momentum")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        batch_size_axis(axes, evidence.facts)
    return figure


def _draw_updates(axes: Axes, found: pd.DataFrame, which: str) -> None:
    """Every seed as a dot, their geometric mean, and the hyperbola through it."""
    for _, seed in found.iterrows():
        axes.plot(found.columns, seed, ".", color=COLOURS[which], alpha=0.3, markersize=4)
    means = np.exp(np.log(found).mean())
    axes.plot(means.index, means, "o", color=COLOURS[which], markersize=5, label=f"{which} momentum")
    if len(means) > 2:
        least, critical = critical_batch(means.index, means)
        fine = np.geomspace(means.index.min(), means.index.max(), 200)
        axes.plot(fine, least * (1 + critical / fine), "-", color=COLOURS[which], linewidth=1)


def _draw_limits(axes: Axes, found: pd.DataFrame) -> None:
    """What the hyperbola comes down to for small and for large batches, and the critical batch where these meet."""
    if found.shape[1] < 3:
        return
    least, critical = critical_batch(found.columns, np.exp(np.log(found).mean()))
    sizes = np.array([found.columns.min(), critical, found.columns.max()])
    axes.plot(sizes[:2], least * critical / sizes[:2], ":", color=GREY, label="twice the batch, half the updates")
    axes.plot(sizes[1:], [least, least], "--", color=GREY, label="a larger batch saves no updates")
    axes.plot(critical, least, "D", color=GREY, markersize=5, label=f"critical batch, {three_digits(critical)}")


def draw_times(evidence: Evidence) -> Figure | None:
    """Updates to the target times the measured time of one; None where either was not measured."""
    timed = evidence.ok()
    update_s = process_medians(timed[timed["measurement"] == UPDATE_TIME.name]).median()
    both = {which: updates(evidence, which) for which in COLOURS}
    both = {which: found[[size for size in found if size in update_s]] for which, found in both.items()}
    if all(found.empty for found in both.values()):
        return None
    figure = new_figure(5.2, 4.2)
    axes = figure.subplots()
    for which, found in both.items():
        spent = found * update_s[found.columns]
        for _, seed in spent.iterrows():
            axes.plot(spent.columns, seed, ".", color=COLOURS[which], alpha=0.3, markersize=4)
        axes.plot(spent.columns, np.exp(np.log(spent).mean()), "o-", color=COLOURS[which], label=f"{which} momentum")
    seconds_axis(axes, f"time to training loss {evidence.facts.target_loss:g}")
    batch_size_axis(axes, evidence.facts)
    axes.legend(loc="best")
    return figure


def critical_interval(found: pd.DataFrame) -> Interval:
    """The critical batch from each seed's updates, geometric mean over seeds."""
    complete = found.dropna()
    return mean_interval([np.log(critical_batch(found.columns, seed)[1]) for _, seed in complete.iterrows()]).map(
        np.exp
    )


def explain(evidence: Evidence, rows: list[Row]) -> str:
    facts, large = evidence.facts, rows[0]
    if large.status != "ok":
        return f"Trained to a training loss of {facts.target_loss:g}, the comparison cannot be made: {large.flags}."
    why = (
        " Where noise holds a batch size up, momentum only averages it, as a lower rate would; where curvature does, "
        "it helps (Kidambi et al. 2018; Shallue et al. 2019)."
        if facts.optimizer.label == sgd().label
        else ""
    )
    return (
        f"To a training loss of {facts.target_loss:g}, each at its own tuned rate, batch size "
        f"{thousands(facts.large)} takes {three_digits(large.value_small)} updates of {facts.optimizer.label} "
        f"without momentum, {three_digits(large.value_large)} with {facts.optimizer.form.momentum_symbol} "
        f"{momentum_of(facts):g}"
        f"{_at_small(evidence)}.{why}{_critical(evidence)}"
    )


def _at_small(evidence: Evidence) -> str:
    size = evidence.facts.small
    found = speed_ups(evidence).get(size)
    if found is None:
        return ""
    return f"; at batch size {thousands(size)} ×{three_digits(found.estimate)} ({bounds(found, three_digits)})"


def _critical(evidence: Evidence) -> str:
    found = updates(evidence, PLAIN)
    if found.shape[1] < 3 or len(found.dropna()) < 2:
        return ""
    critical = critical_interval(found)
    return (
        " The hyperbola S (1 + b / B) through the updates without momentum has a critical batch b of "
        f"{three_digits(critical.estimate)} ({bounds(critical, three_digits)}): far below it twice the batch takes "
        "half the updates, far above it as many."
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    table, found = [], speed_ups(evidence)
    for size, speed_up in found.items():
        line = {"batch size": thousands(size)}
        for which in (PLAIN, WITH):
            rows = finals(evidence, which)
            rates = rows.loc[rows["batch_size"] == size, "learning_rate"]
            line[f"tuned rate, {which}"] = f"{rates.iloc[0]:.3g}"
            line[f"updates, {which}"] = three_digits(np.exp(np.log(updates(evidence, which)[size]).mean()))
        line |= {
            "without / with": f"×{three_digits(speed_up.estimate)}",
            "95% interval": bounds(speed_up, three_digits),
        }
        table.append(line)
    return pd.DataFrame(table)


TIMES_SAY = (
    "Updates to the target times the time of one update, measured with the workload's own optimizer and used for "
    "both curves."
)

claim = Claim(
    name="momentum_speed_up",
    row=11,
    title="Momentum saves updates",
    small="More updates",
    large="Fewer updates",
    says="Trained to the same loss at tuned rates, a large batch needs fewer updates with momentum than without.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    columns=COLUMNS,
    unfit=why_unknown,
    illustrations=(Illustration(draw_times, "In seconds", TIMES_SAY),),
)
