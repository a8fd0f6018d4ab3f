"""Speed for one update (no parallel): Small is faster, Large is slower.

One example after another, the time of an update is the number of examples times a fixed time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.backends import SEQUENTIAL
from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import CappedLarge, Evidence, Facts, Problem, Timings, largest_measured, relative_times, why_none
from suite.experiments.cell import Cell, Scope
from suite.figures import BACKEND_COLOURS, batch_size_axis, draw_process_times, new_figure, seconds_axis
from suite.formatting import bounds, decimals, seconds, thousands, three_digits, with_bounds
from suite.statistics import Interval, median_interval, power_law_exponent
from suite.timing.timed import UPDATE_TIME
from suite.workloads import Workload

# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Updates one example at a time."""
    if SEQUENTIAL.name not in scope.backends:
        return []
    return [
        Cell(UPDATE_TIME, workload.name, SEQUENTIAL.name, batch_size, scope.processes, optimizer=workload.optimizer)
        for batch_size in sequential_batch_sizes(scope)
    ]


def sequential_batch_sizes(scope: Scope) -> tuple[int, ...]:
    """The coarse batch sizes, as large ones take long, with the two smallest, between which an update stops being
    flat."""
    return tuple(sorted({*scope.coarse_batch_sizes, *scope.batch_sizes[:2]}))


# What it computes


@dataclass(frozen=True)
class PowerLaw:
    """The fit t(B) = scale_s · B^exponent."""

    exponent: Interval
    """Median over processes."""
    scale_s: float
    """Of the line through the medians over processes."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    comparison: Comparison | Problem
    """Time of an update at `large` over that at Small, medians over processes."""
    large: int
    """Large, or the largest batch size that was measured."""
    capped: tuple[CappedLarge, ...]
    timings: Timings
    intervals: dict[int, Interval]
    """Seconds by batch size, medians over processes."""
    power_law: PowerLaw | None
    """None where fewer than two batch sizes were measured."""


def analyse(evidence: Evidence) -> Findings:
    facts, planned = evidence.facts, evidence.of(UPDATE_TIME.name)
    timings = Timings.of(planned)
    comparison, large, capped = why_none(planned), facts.large, ()
    if facts.small in timings.medians:
        large, capped = largest_measured(facts, planned)
        comparison = Comparison(
            timings.ratio(large, facts.small), timings.medians[facts.small], timings.medians[large]
        )
    intervals = {size: median_interval(times_s) for size, times_s in timings.processes.items()}
    return Findings(facts, comparison, large, capped, timings, intervals, _power_law(planned, timings))


def _power_law(rows: pd.DataFrame, timings: Timings) -> PowerLaw | None:
    if len(timings.medians) < 2:
        return None
    relative = relative_times(rows)
    exponent = median_interval([power_law_exponent(relative.columns, times) for times in relative.to_numpy()])
    log_sizes, log_times = np.log(list(timings.medians)), np.log(list(timings.medians.values()))
    return PowerLaw(exponent, float(np.exp(np.mean(log_times - exponent.estimate * log_sizes))))


# How it is judged


def judge(findings: Findings) -> list[Row]:
    return [
        Row.of(
            findings.comparison,
            backend=SEQUENTIAL.name,
            protocol="data already on the device",
            small=findings.facts.small,
            large=findings.large,
            measure="time of an update, Large / Small",
            unit="s",
            flags=findings.capped,
        )
    ]


# How it is shown


def answer(findings: Findings) -> str:
    small = findings.facts.small
    if isinstance(findings.comparison, Problem):
        return f"The time of an update one example at a time was not measured: {findings.comparison}."
    if findings.large == small:
        return f"Only batch size {thousands(small)} was measured one example at a time: {findings.capped[0].problem}."
    return (
        f"When examples are processed one at a time, an update at batch size {thousands(findings.large)} takes "
        f"{three_digits(findings.comparison.effect.estimate)} times as long as at batch size {thousands(small)}."
    )


def figure(findings: Findings) -> Figure | None:
    """The time of an update over the batch size, with the power law as a line."""
    if not findings.timings.medians:
        return None
    figure = new_figure(5.8, 3.9)
    axes = figure.subplots()
    draw_process_times(axes, findings.timings, "sequential, measured", color=BACKEND_COLOURS[SEQUENTIAL.name])
    if law := findings.power_law:
        sizes = np.array(list(findings.timings.medians), float)
        label = f"fit: time ∝ B$^{{{law.exponent.estimate:.2f}}}$"
        axes.plot(sizes, law.scale_s * sizes**law.exponent.estimate, "k--", linewidth=1, label=label)
    batch_size_axis(axes, findings.facts)
    seconds_axis(axes, "time of one update")
    axes.legend(loc="upper left")
    return figure


def explain(findings: Findings) -> str:
    law, comparison = findings.power_law, findings.comparison
    if isinstance(comparison, Problem) or law is None:
        return ""
    return (
        f"An update takes {seconds(comparison.small)} at batch size {thousands(findings.facts.small)} and "
        f"{seconds(comparison.large)} at {thousands(findings.large)}. A power law fitted to the "
        f"times of all batch sizes has the exponent {with_bounds(law.exponent, decimals(2))}."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    intervals = findings.intervals
    return pd.DataFrame(
        {
            "batch size": [thousands(size) for size in intervals],
            "time of one update": [seconds(interval.estimate) for interval in intervals.values()],
            "95% interval": [bounds(interval, seconds) for interval in intervals.values()],
            "per example": [seconds(interval.estimate / size) for size, interval in intervals.items()],
        }
    )


claim = Claim(
    name="update_sequential",
    row=1,
    title="Speed for one update (no parallel)",
    small="Faster",
    large="Slower",
    says="Without parallel computation, an update from a small batch is faster than one from a large batch.",
    rule=(
        "Holds when the 95% interval of the ratio (median update time at Large) / (median update time at Small), "
        "from a bootstrap over the processes that timed it, lies above 1."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
