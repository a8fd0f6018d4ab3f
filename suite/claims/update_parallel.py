"""Speed for one update (with parallel): the same for Small and Large, as long as Large is not too large.

Computed at once, a batch costs a fixed time and a time per example, t(B) = a + b B: flat up to about the
half-performance batch a / b (Hockney's n-half), in proportion to B beyond. How far "the same" reaches is
B_same, the batch size at which an update takes 1.5 times as long as that of a single example. The yardstick
is B_same without parallel computation, which is about 1.5 on any machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.backends import BACKENDS
from suite.cells import Cell, Scope
from suite.claims.claim import Claim, Evidence, Row, measured_large, process_medians, relative_times, status_of
from suite.claims.drawing import (
    COLOURS,
    GREY,
    batch_size_axis,
    bounds,
    new_figure,
    seconds,
    seconds_axis,
    thousands,
    times,
)
from suite.claims.update_sequential import sequential_batch_sizes
from suite.statistics import (
    Interval,
    affine_fit,
    half_performance_batch,
    median_interval,
    same_time_batch,
)
from suite.timings import UPDATE_TIME
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTOR = 1.5
MEASURE = "B_same over that of sequential"
NULL = 10
PARALLEL = tuple(name for name, backend in BACKENDS.items() if backend.parallel)


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every parallel backend, and always `sequential`, the yardstick."""
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
        for backend in (*PARALLEL, "sequential")
        for input_pipeline in ("resident", "dataloader")
        for batch_size in batch_sizes(scope, backend, input_pipeline)
        if (backend in scope.backends if backend in PARALLEL else input_pipeline == "resident")
    ]


def batch_sizes(scope: Scope, backend: str, input_pipeline: str) -> tuple[int, ...]:
    if backend == "sequential":
        return sequential_batch_sizes(scope)
    return scope.batch_sizes if input_pipeline == "resident" else few(scope)


def few(scope: Scope) -> tuple[int, ...]:
    """Every third coarse one, and the last."""
    return tuple(sorted({*scope.coarse_batch_sizes[::3], scope.coarse_batch_sizes[-1]}))


def of(rows: pd.DataFrame, backend: str, input_pipeline: str = "resident") -> pd.DataFrame:
    """The timings of one backend and input pipeline."""
    return rows[(rows["backend"] == backend) & (rows["input_pipeline"] == input_pipeline)]


def same_time_batches(rows: pd.DataFrame) -> pd.Series:
    """B_same of each round of processes, from times over the reference update."""
    relative = relative_times(rows)
    return relative.apply(lambda times: same_time_batch(relative.columns, times, FACTOR), axis="columns")


def half_performance_batches(rows: pd.DataFrame) -> list[float]:
    """a / b of each round of processes, from times over the reference update."""
    relative = relative_times(rows)
    return [half_performance_batch(relative.columns, times) for times in relative.to_numpy()]


def reach(parallel: pd.Series, sequential: pd.Series, largest: int) -> Interval:
    """B_same over that of `sequential`, round by round.

    Where a round never came to 1.5 times its first time, B_same is at least the `largest` batch measured:
    the lower bound stands on that, and the upper is infinite.
    """
    interval = median_interval(parallel.clip(upper=largest) / sequential)
    if np.isinf(parallel).any():
        return Interval(interval.estimate, interval.low, math.inf, interval.n)
    return interval


def judge(evidence: Evidence) -> list[Row]:
    """Holds when B_same, the batch size up to which an update takes at most 1.5 times as long as one of a
    single example, is more than ten times that of one example at a time, with its whole interval; fails when
    it is less.

    Round by round of fresh processes, against `sequential` in the same run of asv; times are taken over the
    reference update of the same process.
    """
    sequential = same_time_batches(of(evidence.ok(), "sequential"))
    rows = []
    for backend in PARALLEL:
        for input_pipeline in ("resident", "dataloader"):
            of_backend = of(evidence.rows, backend, input_pipeline)
            if len(of_backend):
                rows.append(_judge_backend(evidence, of_backend, sequential, backend, input_pipeline))
    return rows


def _judge_backend(
    evidence: Evidence, of_backend: pd.DataFrame, sequential: pd.Series, backend: str, input_pipeline: str
) -> Row:
    facts = evidence.facts
    shared = {
        "backend": backend,
        "protocol": "data resident" if input_pipeline == "resident" else "DataLoader",
        "small": facts.small,
        "measure": MEASURE,
        "unit": "s",
        "null": NULL,
        "headline": input_pipeline == "resident",
    }
    measured = of_backend[of_backend["status"] == "ok"]
    medians = process_medians(measured)
    if facts.small not in medians:
        status, reason = status_of(of_backend)
        return Row(**shared, large=facts.large, status=status, flags=reason)
    if sequential.empty or not np.isfinite(sequential).all():
        status, reason = status_of(of(evidence.rows, "sequential"))
        return Row(**shared, large=facts.large, status=status, flags=f"no B_same of sequential: {reason}")
    large, flag = measured_large(facts, of_backend)
    same = same_time_batches(measured)
    flags = [flag, _threads(of_backend) if backend == "cpu" else ""]
    if np.isinf(same).any():
        flags.append(f"still flat at {thousands(medians.columns[-1])}: effect is a lower bound")
    elif large > same.median():
        flags.append(f"the same up to {thousands(round(same.median()))}: Large is too large")
    return Row.judged(
        reach(same, sequential, medians.columns[-1]),
        **shared,
        large=large,
        value_small=medians[facts.small].median(),
        value_large=medians[large].median(),
        flags="; ".join(filter(None, flags)),
    )


def _threads(rows: pd.DataFrame) -> str:
    threads = int(rows["threads"].max())
    return "1 thread, the fastest number" if threads == 1 else f"{threads} threads, the fastest number"


def draw(evidence: Evidence) -> Figure:
    figure = new_figure(5.8, 3.9)
    axes = figure.subplots()
    rows = evidence.ok()
    sequential = process_medians(of(rows, "sequential"))
    if not sequential.empty:
        times(axes, sequential, "sequential, for comparison", color=COLOURS["sequential"])
    for backend in PARALLEL:
        medians = process_medians(of(rows, backend))
        if medians.empty:
            continue
        times(axes, medians, f"{backend}, measured", color=COLOURS[backend])
        middle = medians.median()
        a, b = affine_fit(medians.columns, middle)
        fine = np.geomspace(medians.columns[0], medians.columns[-1], 200)
        axes.plot(
            fine,
            a + b * fine,
            color="black",
            linewidth=1,
            linestyle="--",
            label=f"fit: {seconds(a)} + {seconds(b)} × B",
        )
        same = same_time_batches(of(rows, backend)).median()
        if math.isfinite(same):
            level = FACTOR * middle.iloc[0]
            axes.plot([medians.columns[0], same], [level, level], color=GREY, linewidth=1)
            axes.plot([same], [level], marker="D", color=COLOURS[backend], markeredgecolor="black", zorder=5)
            axes.annotate(
                f"$B_{{\\mathrm{{same}}}}$ = {same:.0f}",
                (same, level),
                xytext=(8, -13),
                textcoords="offset points",
            )
    batch_size_axis(axes, evidence.facts)
    seconds_axis(axes, "time of one update")
    axes.legend(loc="upper left")
    return figure


def explain(evidence: Evidence, rows: list[Row]) -> str:
    said = []
    for row in rows:
        if row.status != "ok" and row.headline:
            said.append(f"{row.backend}: {row.flags}.")
        elif row.headline:
            measured = of(evidence.ok(), row.backend)
            threads = f" ({_threads(measured)})" if row.backend == "cpu" else ""
            same = median_interval(same_time_batches(measured).clip(upper=measured["batch_size"].max()))
            half = median_interval(half_performance_batches(measured))
            said.append(
                f"On {row.backend}{threads} an update took {seconds(row.value_small)} at batch size "
                f"{thousands(row.small)} and {seconds(row.value_large)} at {thousands(row.large)}. It stays "
                f"within {FACTOR} times the time of a single example up to batch size {same.estimate:.0f} "
                f"({bounds(same, thousands)}), and reaches half of its peak throughput at "
                f"{half.estimate:.0f} ({bounds(half, thousands)})."
            )
    return " ".join(said)


def numbers(evidence: Evidence) -> pd.DataFrame:
    table = {}
    for backend in ("sequential", *PARALLEL):
        for input_pipeline in ("resident", "dataloader"):
            medians = process_medians(of(evidence.ok(), backend, input_pipeline))
            if not medians.empty:
                name = f"{backend}, {input_pipeline}"
                table[name] = medians.median().map(seconds)
    frame = pd.DataFrame(table).fillna("–")
    frame.insert(0, "batch size", [thousands(size) for size in frame.index])
    return frame


claim = Claim(
    name="update_parallel",
    row=2,
    title="Speed for one update (with parallel)",
    small="Same",
    large="Same (not too large)",
    says="Computed in parallel, a large batch takes no longer to update than a small one, unless it is too large.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
)
