"""The time to the target loss over the batch size: updates to the target times the measured time of an update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from suite.claims.momentum_speed_up import COLOURS
from suite.evidence import Evidence, Facts, Problem, Timings, why_none
from suite.evidence.tuned_trainings import averaged_cells, batch_sizes, protocols
from suite.evidence.tuned_updates import TunedUpdates
from suite.experiments.cell import Cell, Scope
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.figures import batch_size_axis, new_figure, seconds_axis
from suite.formatting import listed, seconds, sentences, thousands
from suite.studies.study import Study
from suite.timing.timed import UPDATE_TIME
from suite.workloads import Workload


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The trainings of averaged parameters to the target and the time of an update; none where their backend is not
    timed."""
    if scope.training_backend not in scope.backends:
        return []
    backend, optimizer = scope.training_backend, workload.optimizer
    timed = [
        Cell(UPDATE_TIME, workload.name, backend, size, scope.processes, optimizer=optimizer)
        for size in batch_sizes(workload, scope)
    ]
    return [*averaged_cells(workload, scope), *timed]


NEAR = 0.1


@dataclass(frozen=True)
class TimeToTarget:
    """Seconds to the target by batch size."""

    seeds: dict[int, tuple[float, ...]]
    """Of every seed that reached the target."""
    medians: dict[int, float]
    """Over seeds, where they are finite."""
    fastest: int
    """The batch size with the lowest median."""
    near: tuple[int, ...]
    """The other batch sizes whose median exceeds it by at most the share NEAR."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    times: dict[str, TimeToTarget]
    """Without and with momentum, where they were measured."""
    problem: Problem | None
    """Why there are no times."""


def analyse(evidence: Evidence) -> Findings:
    facts, timings = evidence.facts, evidence.of(UPDATE_TIME.name)
    update_s = Timings.of(timings).medians
    tuned = {name: TunedUpdates.of(evidence, protocol) for name, protocol in protocols(facts).items()}
    timed = {name: _times(of_name, update_s) for name, of_name in tuned.items()}
    times = {name: of_name for name, of_name in timed.items() if of_name}
    problem = None if times else why_none(evidence.of(TUNED_TRAINING.name) if update_s else timings)
    return Findings(facts, times, problem)


def _times(tuned: TunedUpdates, update_s: dict[int, float]) -> TimeToTarget | None:
    """None where no batch size has both a median number of updates and a time."""
    finite = [size for size, median in tuned.medians.items() if math.isfinite(median) and size in update_s]
    if not finite:
        return None
    medians = {size: tuned.medians[size] * update_s[size] for size in finite}
    reached = {size: tuned.updates[size][np.isfinite(tuned.updates[size])] for size in finite}
    fastest = min(medians, key=medians.get)
    return TimeToTarget(
        seeds={size: tuple(updates * update_s[size]) for size, updates in reached.items()},
        medians=medians,
        fastest=fastest,
        near=tuple(size for size in medians if size != fastest and medians[size] <= (1 + NEAR) * medians[fastest]),
    )


def answer(findings: Findings) -> str:
    if findings.problem:
        return f"The time to the target has no value: {findings.problem}."
    fastest = [
        f"at batch size {thousands(times.fastest)} {name} momentum (median {seconds(times.medians[times.fastest])})"
        for name, times in findings.times.items()
    ]
    near = [
        f"batch size {listed(map(thousands, times.near))} {name} momentum"
        for name, times in findings.times.items()
        if times.near
    ]
    return sentences(
        f"A training loss of {findings.facts.target_loss:g} is reached soonest {listed(fastest)}.",
        f"Also within {NEAR:.0%} of the respective shortest time: {listed(near)}." if near else "",
    )


def figure(findings: Findings) -> Figure | None:
    """The time to the target of every seed and their median, over the batch size."""
    if not findings.times:
        return None
    figure = new_figure(5.2, 4.2)
    axes = figure.subplots()
    for name, times in findings.times.items():
        for size, values in times.seeds.items():
            axes.plot([size] * len(values), values, ".", color=COLOURS[name], alpha=0.3, markersize=4)
        medians = times.medians
        axes.plot(list(medians), list(medians.values()), "o-", color=COLOURS[name], label=f"{name} momentum")
    seconds_axis(axes, f"time to training loss {findings.facts.target_loss:g}")
    batch_size_axis(axes, findings.facts)
    axes.legend(loc="best")
    return figure


def explain(findings: Findings) -> str:
    if not findings.times:
        return ""
    return sentences(
        "The time is the number of updates to the target times the median time of one update.",
        f"An update was timed with {findings.facts.optimizer} and a batch that is already on the device; the extra "
        "cost of momentum is not counted.",
        "Evaluations and the search for the learning rate are not counted.",
    )


study = Study(
    name="time_to_target",
    claim="momentum_speed_up",
    place=1,
    title="Time to the target loss",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
