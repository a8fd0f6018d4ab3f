"""Time for one epoch: Small is slower, Large is faster.

With a batch size of B an epoch makes N / B updates. While an update of a large batch takes hardly longer than one of
a small batch, the epoch gets shorter in proportion. The lecture shows both, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import SEQUENTIAL
from suite.claims.claim import Claim, Comparison, Row
from suite.claims.update_parallel import PIPELINES, rows_of, sparse_batch_sizes, times_table, update_batch_sizes
from suite.evidence import CappedLarge, Evidence, Facts, Problem, Timings, largest_measured, why_none
from suite.experiments.cell import DATALOADER, RESIDENT, Cell, Scope
from suite.figures import (
    BACKEND_COLOURS,
    batch_size_axis,
    draw_process_times,
    draw_published,
    new_figure,
    seconds_axis,
)
from suite.formatting import listed, seconds, sentences, thousands, three_digits
from suite.timing.timed import EPOCH_TIME, UPDATE_TIME
from suite.training.budgets import updates_per_epoch
from suite.workloads import Workload

MAX_PROCESSES = 6
"""An epoch takes long, and six processes are enough for an interval of the median."""


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Epochs, and the updates that the figure shows beside them."""
    measurements = (
        (EPOCH_TIME, min(MAX_PROCESSES, scope.processes), epoch_batch_sizes),
        (UPDATE_TIME, scope.processes, update_batch_sizes),
    )
    return [
        Cell(
            measurement,
            workload.name,
            backend,
            batch_size,
            processes,
            optimizer=workload.optimizer,
            input_pipeline=input_pipeline,
        )
        for measurement, processes, batch_sizes in measurements
        for backend in scope.backends
        for input_pipeline in PIPELINES
        for batch_size in batch_sizes(scope, backend, input_pipeline)
        if not (backend == SEQUENTIAL.name and input_pipeline == DATALOADER)
    ]


def epoch_batch_sizes(scope: Scope, backend: str, input_pipeline: str) -> tuple[int, ...]:
    """Sparse where epochs take long; on `sequential` they do at every batch size."""
    is_slow = backend == SEQUENTIAL.name or input_pipeline == DATALOADER
    return sparse_batch_sizes(scope) if is_slow else scope.coarse_batch_sizes


# What it computes


@dataclass(frozen=True)
class EpochTimes:
    """Epochs on one backend, fed by one input pipeline, with the updates of both."""

    backend: str
    input_pipeline: str
    comparison: Comparison | Problem
    """Time of an epoch at Small over that at `large`, medians over processes."""
    large: int
    """Large, or the largest batch size that was measured."""
    capped: tuple[CappedLarge, ...]
    epochs: Timings
    updates: Timings


@dataclass(frozen=True)
class Findings:
    facts: Facts
    pipelines: tuple[EpochTimes, ...]


def analyse(evidence: Evidence) -> Findings:
    epochs, updates = evidence.of(EPOCH_TIME.name), evidence.of(UPDATE_TIME.name)
    pipelines = [
        _epoch_times(evidence.facts, rows, Timings.of(rows_of(updates, backend, input_pipeline)))
        for backend in evidence.rows["backend"].unique()
        for input_pipeline in PIPELINES
        if len(rows := rows_of(epochs, backend, input_pipeline))
    ]
    return Findings(evidence.facts, tuple(pipelines))


def _epoch_times(facts: Facts, rows: pd.DataFrame, updates: Timings) -> EpochTimes:
    epochs = Timings.of(rows)
    comparison, large, capped = why_none(rows), facts.large, ()
    if facts.small in epochs.medians:
        large, capped = largest_measured(facts, rows)
        effect = epochs.ratio(facts.small, large)
        comparison = Comparison(effect, epochs.medians[facts.small], epochs.medians[large])
    (backend,), (input_pipeline,) = rows["backend"].unique(), rows["input_pipeline"].unique()
    return EpochTimes(backend, input_pipeline, comparison, large, capped, epochs, updates)


# How it is judged


def judge(findings: Findings) -> list[Row]:
    return [
        Row.of(
            times.comparison,
            backend=times.backend,
            protocol=PIPELINES[times.input_pipeline],
            small=findings.facts.small,
            large=times.large,
            measure="time of an epoch, Small / Large",
            unit="s",
            headline=times.input_pipeline == RESIDENT,
            flags=times.capped,
        )
        for times in findings.pipelines
    ]


# How it is shown


def answer(findings: Findings) -> str:
    small, resident = (
        findings.facts.small,
        [times for times in findings.pipelines if times.input_pipeline == RESIDENT],
    )
    ratios = [
        f"{three_digits(times.comparison.effect.estimate)} times as long as at {thousands(times.large)} on "
        f"{times.backend}"
        for times in resident
        if isinstance(times.comparison, Comparison) and times.large != small
    ]
    if ratios:
        return f"An epoch at batch size {thousands(small)} takes {listed(ratios)}."
    return f"The time of an epoch was not measured: {'; '.join(_problem_text(times) for times in resident)}."


def _problem_text(times: EpochTimes) -> str:
    """Why the epochs on a backend are not compared, where Large is missing or the comparison is."""
    problem = times.comparison if isinstance(times.comparison, Problem) else times.capped[0].problem
    return f"{times.backend}: {problem}"


def figure(findings: Findings) -> Figure | None:
    """The lecture's two panels: an update gets slower with the batch size, an epoch faster."""
    if not any(times.updates.medians or times.epochs.medians for times in findings.pipelines):
        return None
    figure = new_figure(9.6, 4.2)
    update_axes, epoch_axes = figure.subplots(1, 2)
    for times in findings.pipelines:
        _draw_times(update_axes, times, times.updates)
        _draw_times(epoch_axes, times, times.epochs)
    for axes, measurement, unit in ((update_axes, UPDATE_TIME, "update"), (epoch_axes, EPOCH_TIME, "epoch")):
        draw_published(axes, findings.facts, measurement.name)
        batch_size_axis(axes, findings.facts)
        seconds_axis(axes, f"time of one {unit}")
    entries = {}
    for axes in (epoch_axes, update_axes):
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))
    return figure


def _draw_times(axes: Axes, times: EpochTimes, timings: Timings) -> None:
    if not timings.medians:
        return
    label, style = (
        (times.backend, "-") if times.input_pipeline == RESIDENT else (f"{times.backend}, DataLoader", "--")
    )
    draw_process_times(axes, timings, label, color=BACKEND_COLOURS[times.backend], linestyle=style)


def explain(findings: Findings) -> str:
    facts = findings.facts
    compared = [times for times in findings.pipelines if isinstance(times.comparison, Comparison)]
    if not compared:
        return ""
    small_updates, large_updates = (
        thousands(updates_per_epoch(facts.train_examples, size)) for size in (facts.small, facts.large)
    )
    return sentences(
        f"An epoch of {thousands(facts.train_examples)} examples is {small_updates} updates at batch size "
        f"{thousands(facts.small)}, and {large_updates} updates at batch size {thousands(facts.large)}.",
        *(_epoch_sentence(facts, times) for times in compared),
    )


def _epoch_sentence(facts: Facts, times: EpochTimes) -> str:
    fed = "" if times.input_pipeline == RESIDENT else ", fed by a DataLoader,"
    return (
        f"On {times.backend}{fed} it takes {seconds(times.comparison.small)} at batch size {thousands(facts.small)} "
        f"and {seconds(times.comparison.large)} at {thousands(times.large)}."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    return times_table(
        {f"{times.backend}, {PIPELINES[times.input_pipeline]}": times.epochs for times in findings.pipelines}
    )


claim = Claim(
    name="epoch_time",
    row=3,
    title="Time for one epoch",
    small="Slower",
    large="Faster",
    says="One pass through the data takes longer with a small batch than with a large one.",
    rule=(
        "Holds when the 95% interval of the ratio (median epoch time at Small) / (median epoch time at Large), from "
        "a bootstrap over the processes that timed it, lies above 1."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
