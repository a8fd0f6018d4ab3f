"""The time to the target loss over the batch size: updates to the target times the measured time of an update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.claims import momentum_speed_up
from suite.claims.momentum_speed_up import COLOURS, batch_sizes, final_rows, protocols
from suite.evidence import Evidence, Facts, Problem, Timings, why_none
from suite.evidence.trainings import at_target
from suite.experiments.cell import Cell, Scope
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.figures import batch_size_axis, new_figure, seconds_axis
from suite.formatting import listed, seconds, sentences, thousands
from suite.studies.study import Study
from suite.timing.timed import UPDATE_TIME
from suite.workloads import Workload


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The trainings of `momentum_speed_up` and the time of an update; none where their backend is not timed."""
    if scope.training_backend not in scope.backends:
        return []
    backend, optimizer = scope.training_backend, workload.optimizer
    timed = [
        Cell(UPDATE_TIME, workload.name, backend, size, scope.processes, optimizer=optimizer)
        for size in batch_sizes(workload, scope)
    ]
    return [*momentum_speed_up.cells(workload, scope), *timed]


@dataclass(frozen=True)
class TimeToTarget:
    """Seconds to the target by batch size."""

    seeds: dict[int, tuple[float, ...]]
    """Of every seed that reached the target."""
    means: dict[int, float]
    """Geometric means over seeds."""
    fastest: int
    """The batch size with the lowest mean."""


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
    updates = {
        name: at_target(final_rows(evidence, protocol), facts, "updates")
        for name, protocol in protocols(facts).items()
    }
    times = {name: _times(counts, update_s) for name, counts in updates.items() if set(counts) & set(update_s)}
    problem = None if times else why_none(evidence.of(TUNED_TRAINING.name) if update_s else timings)
    return Findings(facts, times, problem)


def _times(updates: pd.DataFrame, update_s: dict[int, float]) -> TimeToTarget:
    times_s = pd.DataFrame({int(size): updates[size] * update_s[size] for size in updates if size in update_s})
    means = np.exp(np.log(times_s).mean())
    return TimeToTarget(
        seeds={size: tuple(times_s[size].dropna()) for size in times_s},
        means={size: float(mean) for size, mean in means.items()},
        fastest=int(means.idxmin()),
    )


def answer(findings: Findings) -> str:
    if findings.problem:
        return f"The time to the target has no value: {findings.problem}."
    fastest = [
        f"{seconds(times.means[times.fastest])} {name} momentum at batch size {thousands(times.fastest)}"
        for name, times in findings.times.items()
    ]
    return f"The shortest time to a training loss of {findings.facts.target_loss:g} is {listed(fastest)}."


def figure(findings: Findings) -> Figure | None:
    """The time to the target of every seed and their geometric mean, over the batch size."""
    if not findings.times:
        return None
    figure = new_figure(5.2, 4.2)
    axes = figure.subplots()
    for name, times in findings.times.items():
        for size, values in times.seeds.items():
            axes.plot([size] * len(values), values, ".", color=COLOURS[name], alpha=0.3, markersize=4)
        means = times.means
        axes.plot(list(means), list(means.values()), "o-", color=COLOURS[name], label=f"{name} momentum")
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
