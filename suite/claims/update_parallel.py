"""Speed for one update (with parallel): the same for Small and Large, as long as Large is not too large.

Computed at once, a batch costs a fixed time and a time per example, t(B) = a + b B: flat up to about the
half-performance batch a / b (Hockney's n-half), then in proportion to B. The yardstick is how far an update stays
flat one example at a time: up to about batch size 1.5 on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import BACKENDS, CPU, SEQUENTIAL
from suite.claims.claim import Claim, Comparison, Row
from suite.claims.update_sequential import sequential_batch_sizes
from suite.evidence import CappedLarge, Evidence, Facts, Problem, Timings, largest_measured, why_none
from suite.evidence.scaling import (
    FLAT_FACTOR,
    LEAST_FLAT_RATIO,
    LargeTooLarge,
    Scaling,
    StillFlat,
    flat_end,
    flat_range_ratio,
    size_text,
)
from suite.experiments.cell import DATALOADER, RESIDENT, Cell, Scope
from suite.figures import BACKEND_COLOURS, GREY, batch_size_axis, draw_process_times, new_figure, seconds_axis
from suite.formatting import listed, seconds, sentences, thousands, with_bounds
from suite.timing.timed import UPDATE_TIME
from suite.workloads import Workload

PARALLEL = tuple(name for name, backend in BACKENDS.items() if backend.parallel)
PIPELINES = {RESIDENT: "data already on the device", DATALOADER: "DataLoader"}


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Updates on every parallel backend, and always on `sequential`, the yardstick."""
    return [
        Cell(
            UPDATE_TIME,
            workload.name,
            backend,
            batch_size,
            scope.processes,
            optimizer=workload.optimizer,
            input_pipeline=input_pipeline,
        )
        for backend in (*PARALLEL, SEQUENTIAL.name)
        for input_pipeline in PIPELINES
        for batch_size in update_batch_sizes(scope, backend, input_pipeline)
        if (backend in scope.backends if backend in PARALLEL else input_pipeline == RESIDENT)
    ]


def update_batch_sizes(scope: Scope, backend: str, input_pipeline: str) -> tuple[int, ...]:
    """The batch sizes at which updates are timed."""
    if backend == SEQUENTIAL.name:
        return sequential_batch_sizes(scope)
    return scope.batch_sizes if input_pipeline == RESIDENT else sparse_batch_sizes(scope)


def sparse_batch_sizes(scope: Scope) -> tuple[int, ...]:
    """Every third coarse batch size, and the last."""
    return tuple(sorted({*scope.coarse_batch_sizes[::3], scope.coarse_batch_sizes[-1]}))


# What it computes


@dataclass(frozen=True)
class UpdateTimes:
    """Updates on one backend, fed by one input pipeline."""

    backend: str
    input_pipeline: str
    comparison: Comparison | Problem
    """Batch size up to which an update stays flat, over that of `sequential`; its values are the seconds at Small and
    at `large`."""
    large: int
    """Large, or the largest batch size that was measured."""
    capped: tuple[CappedLarge, ...]
    timings: Timings
    scaling: Scaling | None
    """None where nothing was measured."""
    threads: int | None
    """The fastest number; None on an accelerator, and where nothing was measured."""

    @property
    def is_resident(self) -> bool:
        return self.input_pipeline == RESIDENT

    @property
    def is_compared(self) -> bool:
        return isinstance(self.comparison, Comparison)


@dataclass(frozen=True)
class Findings:
    facts: Facts
    sequential: Timings
    sequential_flat: float | Problem
    """Batch size up to which an update stays flat one example at a time."""
    updates: tuple[UpdateTimes, ...]


def analyse(evidence: Evidence) -> Findings:
    facts, planned = evidence.facts, evidence.of(UPDATE_TIME.name)
    sequential_rows = rows_of(planned, SEQUENTIAL.name, RESIDENT)
    sequential = Timings.of(sequential_rows)
    yardstick = _yardstick(sequential_rows, sequential)
    updates = [
        _update_times(facts, rows, sequential if isinstance(yardstick, float) else yardstick)
        for backend in PARALLEL
        for input_pipeline in PIPELINES
        if len(rows := rows_of(planned, backend, input_pipeline))
    ]
    return Findings(facts, sequential, yardstick, tuple(updates))


def rows_of(rows: pd.DataFrame, backend: str, input_pipeline: str) -> pd.DataFrame:
    """Those of `rows` with this backend and input pipeline."""
    return rows[(rows["backend"] == backend) & (rows["input_pipeline"] == input_pipeline)]


def _yardstick(rows: pd.DataFrame, sequential: Timings) -> float | Problem:
    if not sequential.medians or math.isinf(end := flat_end(sequential)):
        problem = why_none(rows)
        return Problem(problem.status, f"no flat batch size of sequential: {problem}")
    return end


def _update_times(facts: Facts, rows: pd.DataFrame, sequential: Timings | Problem) -> UpdateTimes:
    timings = Timings.of(rows)
    large, capped = facts.large, ()
    if facts.small not in timings.medians:
        comparison = why_none(rows)
    elif isinstance(sequential, Problem):
        comparison = sequential
    else:
        large, capped = largest_measured(facts, rows)
        effect = flat_range_ratio(timings, sequential)
        comparison = Comparison(effect, timings.medians[facts.small], timings.medians[large])
    (backend,), (input_pipeline,) = rows["backend"].unique(), rows["input_pipeline"].unique()
    return UpdateTimes(
        backend,
        input_pipeline,
        comparison,
        large,
        capped,
        timings,
        scaling=Scaling.of(rows),
        threads=int(rows["threads"].max()) if backend == CPU.name and timings.medians else None,
    )


# How it is judged


@dataclass(frozen=True)
class Threads:
    """The number of CPU threads of an update."""

    count: int

    def __str__(self) -> str:
        return f"{counted_threads(self.count)}, the fastest thread count"


def counted_threads(count: int) -> str:
    return f"{thousands(count)} thread{'' if count == 1 else 's'}"


def judge(findings: Findings) -> list[Row]:
    return [_row(findings, times) for times in findings.updates]


def _row(findings: Findings, times: UpdateTimes) -> Row:
    return Row.of(
        times.comparison,
        backend=times.backend,
        protocol=PIPELINES[times.input_pipeline],
        small=findings.facts.small,
        large=times.large,
        measure="flat range of whole batches / flat range with one example at a time",
        unit="s",
        null=LEAST_FLAT_RATIO,
        headline=times.is_resident,
        flags=_flags(times) if times.is_compared else (),
        effect_text=_effect_text(findings, times) if times.is_compared else "",
    )


def _flags(times: UpdateTimes) -> tuple[Any, ...]:
    flags = [*times.capped]
    if times.threads is not None:
        flags.append(Threads(times.threads))
    if times.scaling.is_lower_bound:
        flags.append(StillFlat(max(times.timings.medians)))
    elif times.large > times.scaling.flat.estimate:
        flags.append(LargeTooLarge(times.scaling.flat.estimate))
    return tuple(flags)


def _effect_text(findings: Findings, times: UpdateTimes) -> str:
    alone, threads = (
        _first_not_flat(findings),
        "" if times.threads is None else f" with {counted_threads(times.threads)}",
    )
    return f"flat up to {_flat_range(times.scaling)}{threads}; one example at a time, not flat even at {alone}"


# How it is shown


def _flat_range(scaling: Scaling) -> str:
    """The batch size up to which an update stays flat."""
    return f"{'at least ' if scaling.is_lower_bound else ''}batch size {size_text(scaling.flat.estimate)}"


def _first_not_flat(findings: Findings) -> str:
    """The smallest batch size beyond the flat range of one example at a time."""
    return thousands(int(findings.sequential_flat) + 1)


def answer(findings: Findings) -> str:
    resident = [times for times in findings.updates if times.is_resident]
    ranges = [f"{_flat_range(times.scaling)} on {times.backend}" for times in resident if times.is_compared]
    if ranges:
        return (
            f"The time of an update stays flat, within a factor of {FLAT_FACTOR}, up to {listed(ranges)}. With "
            f"one example at a time it is not flat even at batch size {_first_not_flat(findings)}."
        )
    problems = "; ".join(f"{times.backend}: {times.comparison}" for times in resident)
    return f"How far an update stays flat was not measured ({problems or 'no backend computes a batch at once'})."


def figure(findings: Findings) -> Figure | None:
    """The time of an update over the batch size on each backend, with its fit and the end of its flat range."""
    updates = [times for times in findings.updates if times.is_resident and times.timings.medians]
    if not updates:
        return None
    figure = new_figure(5.8, 3.9)
    axes = figure.subplots()
    if findings.sequential.medians:
        colour = BACKEND_COLOURS[SEQUENTIAL.name]
        draw_process_times(axes, findings.sequential, "sequential, for comparison", color=colour)
    for times in updates:
        _draw_updates(axes, times)
    batch_size_axis(axes, findings.facts)
    seconds_axis(axes, "time of one update")
    axes.legend(loc="upper left")
    return figure


def _draw_updates(axes: Axes, times: UpdateTimes) -> None:
    scaling, medians, colour = times.scaling, times.timings.medians, BACKEND_COLOURS[times.backend]
    draw_process_times(axes, times.timings, f"{times.backend}, measured", color=colour)
    smallest, largest = min(medians), max(medians)
    sizes = np.geomspace(smallest, largest, 200)
    label = f"fit: {seconds(scaling.fixed_s)} + {seconds(scaling.per_example_s)} × B"
    line = scaling.fixed_s + scaling.per_example_s * sizes
    axes.plot(sizes, line, color="black", linewidth=1, linestyle="--", label=label)
    if not scaling.is_lower_bound:
        flat, level = scaling.flat.estimate, FLAT_FACTOR * medians[smallest]
        axes.plot([smallest, flat], [level, level], color=GREY, linewidth=1)
        axes.plot([flat], [level], marker="D", color=colour, markeredgecolor="black", zorder=5)
        axes.annotate(f"flat up to {size_text(flat)}", (flat, level), xytext=(8, -13), textcoords="offset points")


def explain(findings: Findings) -> str:
    compared = [times for times in findings.updates if times.is_resident and times.is_compared]
    if not compared:
        return ""
    return sentences(
        *(_update_sentences(findings.facts, times) for times in compared),
        f"A flat range ends where an update takes {FLAT_FACTOR} times as long as at the smallest batch size. This is "
        "interpolated between the batch sizes that were timed.",
    )


def _update_sentences(facts: Facts, times: UpdateTimes) -> str:
    comparison, scaling, largest = times.comparison, times.scaling, max(times.timings.medians)
    threads = "" if times.threads is None else f" ({Threads(times.threads)})"
    half = scaling.half_performance
    return sentences(
        f"On {times.backend}{threads} an update takes {seconds(comparison.small)} at batch size "
        f"{thousands(facts.small)} and {seconds(comparison.large)} at {thousands(times.large)}.",
        "The whole batch is computed in one call, here on one core only." if times.threads == 1 else "",
        f"The time is still flat at {thousands(largest)}, the largest batch size measured."
        if scaling.is_lower_bound
        else f"The flat range of {times.backend} ends at batch size {with_bounds(scaling.flat, size_text)}.",
        f"A straight line fitted to update time over batch size implies that a batch of "
        f"{with_bounds(half, size_text)} reaches half the throughput of an infinitely large one on {times.backend}."
        if half.estimate <= largest
        else "",
    )


def numbers(findings: Findings) -> pd.DataFrame:
    columns = {f"{SEQUENTIAL.name}, {PIPELINES[RESIDENT]}": findings.sequential}
    columns |= {f"{times.backend}, {PIPELINES[times.input_pipeline]}": times.timings for times in findings.updates}
    return times_table(columns)


def times_table(columns: Mapping[str, Timings]) -> pd.DataFrame:
    """The median times as text, a line per batch size; without the columns that hold no time."""
    columns = {name: timings.medians for name, timings in columns.items() if timings.medians}
    sizes = sorted({size for medians in columns.values() for size in medians})
    table = {"batch size": [thousands(size) for size in sizes]}
    for name, medians in columns.items():
        table[name] = [seconds(medians[size]) if size in medians else "–" for size in sizes]
    return pd.DataFrame(table)


claim = Claim(
    name="update_parallel",
    row=2,
    title="Speed for one update (with parallel)",
    small="Same",
    large="Same (not too large)",
    says="Computed in parallel, a large batch takes no longer to update than a small one, unless it is too large.",
    rule=(
        "Holds when the 95% interval of the ratio (end of the flat range of whole batches) / (end of the flat range "
        f"one example at a time), from a bootstrap over the processes that timed it, lies above {LEAST_FLAT_RATIO}."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
