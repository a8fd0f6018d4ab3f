"""How noisy the gradient becomes over a training, and from which batch size on more examples save no updates.

The noise scale along one training predicts the critical batch; updates to the target at several batch sizes show it
(McCandlish et al. 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims import momentum_speed_up
from suite.claims.claim import Evidence, Facts
from suite.claims.drawing import (
    GREY,
    LIGHT_GREY,
    SMALL_COLOUR,
    bounds,
    new_figure,
    thousands,
    three_digits,
)
from suite.claims.trained import at_target, left_out, without_value
from suite.instruments.noise_scale import NOISE_SCALE, effective, plain_mean
from suite.statistics import Interval, mean_interval
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol, TargetLoss
from suite.training.tuning import TRIAL, TUNED_TRAINING
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LOOKS = 1.2
"""Looked at after 0, 1, 2, ... updates and then when there are so many times as many."""
TRIED_WITH = 2
"""Replicas that each rate is tried with."""
START, MEAN, EFFECTIVE, CRITICAL = (
    "noise scale at the start",
    "noise scale, mean over updates",
    "effective noise scale",
    "critical batch",
)
PUBLISHED = {
    START: ("noise scale", "start"),
    MEAN: ("noise scale", "average"),
    CRITICAL: ("critical batch", "average"),
}
"""Which of the published values stands beside each."""
TITLE = "The noise scale along a training"
SAYS = (
    "The noise scale tr(Σ) / |G|², exact at every look, over a training at a tuned rate; in a batch of as many "
    "examples, noise and gradient are equally long. Left: each seed, and their geometric mean. Right: what it comes "
    "to, geometric means over seeds with 95% intervals. The effective noise scale b is the one with which S (1 + b "
    "/ B) predicts the updates of SGD with batch size B to the target: the sum of b / (1 + b / B) over that of 1 / "
    "(1 + b / B), over the updates of this training at its B. The critical batch is what the updates to the target, "
    "at several batch sizes and the rate tuned for each, say it is."
)


def batch_size(workload: Workload) -> int:
    """A third of the way up those trained with: one update of it is nearly all noise, so that little is lost between
    looks, and a training is still short."""
    sizes = workload.training_batch_sizes or workload.batch_sizes
    return sizes[len(sizes) // 3]


def cells(workload: Workload, scope: Scope, seeds: int) -> list[Cell]:
    """One training along which the noise scale is measured, and those at tuned rates; none where the
    workload leaves `momentum_speed_up` out, since it trains too slowly."""
    if workload.claims is not None and momentum_speed_up.claim.name not in workload.claims:
        return []
    target = TargetLoss(workload.target_loss, workload.max_updates, LOOKS)
    protocol = Protocol.of(workload, target, Tuned(seeds=TRIED_WITH))
    along = Cell(NOISE_SCALE, workload.name, scope.training_backend, batch_size(workload), seeds, protocol)
    tuned = [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, size, scope.seeds, tuned_protocol(workload))
        for size in momentum_speed_up.batch_sizes(workload, scope)
    ]
    return [along, *tuned]


def tuned_protocol(of: Facts | Workload) -> Protocol:
    """The trainings at tuned rates that show the critical batch size: with the workload's own optimizer, which
    `momentum_speed_up` trains too."""
    return Protocol.of(of, TargetLoss(of.target_loss, of.max_updates), Tuned())


def measured(evidence: Evidence) -> pd.DataFrame:
    """The looks at every seed, however it ended; a single row where there are none; no row where none was planned."""
    return evidence.rows[evidence.rows["measurement"] == NOISE_SCALE.name]


def course(evidence: Evidence) -> pd.DataFrame:
    """The looks at every seed that reached the target."""
    rows = measured(evidence)
    return rows[rows["status"] == "ok"].sort_values(["seed", "updates"])


def of_each_seed(evidence: Evidence) -> pd.DataFrame:
    """A row per seed: START, MEAN and EFFECTIVE, up to where the loss crosses the target, and `updates` there."""
    looks = course(evidence)
    rows = {}
    for seed, own in looks.groupby("seed"):
        until = at_target(own, evidence.facts, "updates").iloc[0, 0]
        along, size = (own["updates"], own["noise_scale"]), own["batch_size"].iloc[0]
        rows[seed] = {
            "updates": until,
            START: own["noise_scale"].iloc[0],
            MEAN: plain_mean(*along, until),
            EFFECTIVE: effective(*along, size, until).noise_scale,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def found(evidence: Evidence) -> dict[str, Interval]:
    """START, MEAN, EFFECTIVE and, where three batch sizes were trained, CRITICAL: geometric means over seeds."""
    each = of_each_seed(evidence)
    summed = {what: mean_interval(np.log(each[what])).map(np.exp) for what in (START, MEAN, EFFECTIVE)}
    updates = updates_to_target(evidence)
    if updates.shape[1] > 2 and len(updates.dropna()):
        summed[CRITICAL] = momentum_speed_up.critical_interval(updates)
    return summed


def updates_to_target(evidence: Evidence) -> pd.DataFrame:
    """At the rate tuned for each: a row per seed, a column per batch size."""
    rows = evidence.rows[evidence.rows["protocol"] == tuned_protocol(evidence.facts).key]
    return at_target(rows[rows["stage"] != TRIAL], evidence.facts, "updates")


def draw(evidence: Evidence) -> Figure | None:
    """None where no seed reached the target."""
    if course(evidence).empty:
        return None
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_course(left, evidence)
    _draw_found(right, evidence)
    return figure


def _draw_course(axes: Axes, evidence: Evidence) -> None:
    from matplotlib.ticker import FuncFormatter

    looks, size = course(evidence), int(course(evidence)["batch_size"].iloc[0])
    by_update = looks.pivot(index="updates", columns="seed", values="noise_scale")
    for seed in by_update:
        own = by_update[seed].dropna()
        axes.plot(own.index, own, color=SMALL_COLOUR, alpha=0.3, linewidth=1)
    shared = by_update.dropna()
    mean = np.exp(np.log(shared).mean(axis=1))
    axes.plot(mean.index, mean, color=SMALL_COLOUR, linewidth=2.5, label="mean over seeds")
    axes.axhline(size, color=GREY, linestyle=":", label=f"batch size {thousands(size)}, trained with")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    axes.set_yscale("log")
    plain_ticks(axes.yaxis)
    axes.set_xlabel(f"updates, at learning rate {looks['learning_rate'].iloc[0]:g}")
    axes.set_ylabel("noise scale (examples)")
    axes.legend(loc="best")


def _draw_found(axes: Axes, evidence: Evidence) -> None:
    facts, summed = evidence.facts, found(evidence)
    places = range(len(summed))
    ends = [[one.estimate - one.low for one in summed.values()], [one.high - one.estimate for one in summed.values()]]
    axes.errorbar([one.estimate for one in summed.values()], places, xerr=ends, fmt="o", color="black", capsize=3)
    published = [
        (facts.published_noise[what][when], place)
        for place, name in enumerate(summed)
        if name in PUBLISHED and facts.published_noise
        for what, when in [PUBLISHED[name]]
    ]
    if published:
        axes.plot(*zip(*published, strict=True), "D", color=LIGHT_GREY, label=facts.published_noise_by)
        axes.legend(loc="best")
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    axes.set_yticks(places, list(summed))
    axes.set_ylim(len(summed) - 0.5, -0.5)
    axes.set_xlabel("examples")


def plain_ticks(axis: Axis) -> None:
    """Of a log axis: numbers written out, two to a power of ten, or three where the axis is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, subs=(1, 3) if high > 20 * low else (1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def sentence(evidence: Evidence) -> str:
    """What the noise scale comes to, or why it has no value, and what stands beside it; empty where nothing does."""
    return " ".join(filter(None, (_measured(evidence), _published(evidence))))


def _measured(evidence: Evidence) -> str:
    rows = measured(evidence)
    if rows.empty:
        return ""
    if course(evidence).empty:
        return f"The noise scale along a training has no value ({without_value(rows)})."
    return f"{_comes_to(evidence)}{left_out(rows)}"


def _comes_to(evidence: Evidence) -> str:
    looks, each = course(evidence), of_each_seed(evidence)
    first = looks.iloc[0]
    edge = ", on the edge of its grid," if looks["on_edge"].any() else ""
    told = {
        what: f"{three_digits(one.estimate)} ({bounds(one, three_digits)})" for what, one in found(evidence).items()
    }
    critical = (
        f" The critical batch with {evidence.facts.optimizer}, from the updates that other batch sizes take to the "
        f"same loss at their own tuned rates, is {told[CRITICAL]}."
        if CRITICAL in told
        else ""
    )
    return (
        f"Along a training with batch size {thousands(first['batch_size'])} at its tuned rate "
        f"{first['learning_rate']:g}{edge} to a training loss of {evidence.facts.target_loss:g}, "
        f"{thousands(each['updates'].mean())} updates, the noise scale is {told[START]} at the start and "
        f"{told[MEAN]} on average over the updates, all weighing the same; weighed for what it predicts, the updates "
        f"of every batch size, it is {told[EFFECTIVE]}.{_theory(evidence.facts)}{critical}"
    )


def _theory(facts: Facts) -> str:
    """Whose theory the prediction is; empty where it is that of the workload's optimizer."""
    if facts.optimizer.plain_sgd:
        return ""
    return (
        f" That weighing is the theory of SGD without momentum; {facts.name} is trained with {facts.optimizer.label}."
    )


def _published(evidence: Evidence) -> str:
    facts = evidence.facts
    if not facts.published_noise:
        return ""
    scale, critical = facts.published_noise["noise scale"], facts.published_noise["critical batch"]
    said = (
        f"{facts.published_noise_by} has a noise scale of {thousands(scale['start'])} at the start and "
        f"{thousands(scale['average'])} on average, and critical batches of {thousands(critical['start'])} and "
        f"{thousands(critical['average'])}, of another network, at other rates and to another loss"
    )
    if course(evidence).empty:
        return f"{said}."
    summed = found(evidence)
    factors = [summed[START].estimate / scale["start"], summed[MEAN].estimate / scale["average"]]
    return (
        f"{said}: here it is {three_digits(factors[0])} and {three_digits(factors[1])} times theirs. It grows as the "
        "loss falls, so that an average depends on where the training stops."
    )
