"""Time for one epoch: Small is slower, Large is faster.

With a batch size of B an epoch makes N / B updates. While an update of a large batch takes hardly longer
than one of a small batch, the epoch gets shorter in proportion. The lecture shows both, side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Claim, Evidence, Row, measured_large, process_medians, relative_times, status_of
from suite.claims.drawing import (
    COLOURS,
    batch_size_axis,
    new_figure,
    published,
    seconds,
    seconds_axis,
    thousands,
    times,
)
from suite.claims.update_parallel import batch_sizes, few
from suite.statistics import median_interval
from suite.timings import EPOCH_TIME, UPDATE_TIME
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "time of an epoch, Small / Large"
PIPELINES = {"resident": "data resident", "dataloader": "DataLoader"}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Epochs, and the updates that the figure shows beside them.

    An epoch is long, and six processes are enough for an interval of the median.
    """
    measurements = (
        (EPOCH_TIME, min(6, scope.processes), epoch_batch_sizes),
        (UPDATE_TIME, scope.processes, batch_sizes),
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
        for measurement, processes, sizes in measurements
        for backend in scope.backends
        for input_pipeline in PIPELINES
        for batch_size in sizes(scope, backend, input_pipeline)
        if not (backend == "sequential" and input_pipeline == "dataloader")
    ]


def epoch_batch_sizes(scope: Scope, backend: str, input_pipeline: str) -> tuple[int, ...]:
    """Fewer of what takes long; on `sequential` that is as long whatever the batch size is."""
    return few(scope) if backend == "sequential" or input_pipeline == "dataloader" else scope.coarse_batch_sizes


def select(rows: pd.DataFrame, measurement: str, backend: str, input_pipeline: str) -> pd.DataFrame:
    return rows[
        (rows["measurement"] == measurement)
        & (rows["backend"] == backend)
        & (rows["input_pipeline"] == input_pipeline)
    ]


def judge(evidence: Evidence) -> list[Row]:
    """Holds when an epoch at Small takes longer than one at Large: their ratio lies above 1 with its whole
    interval.

    Each round of fresh processes gives one ratio; the interval is that of their median. Times are taken over
    the reference update of the same process.
    """
    facts = evidence.facts
    rows = []
    for backend in evidence.rows["backend"].unique():
        for input_pipeline, protocol in PIPELINES.items():
            measured = select(evidence.rows, "epoch_time", backend, input_pipeline)
            if measured.empty:
                continue
            shared = {
                "backend": backend,
                "protocol": protocol,
                "small": facts.small,
                "measure": MEASURE,
                "unit": "s",
                "headline": input_pipeline == "resident",
            }
            medians = process_medians(measured[measured["status"] == "ok"])
            if facts.small not in medians:
                status, reason = status_of(measured)
                rows.append(Row(**shared, large=facts.large, status=status, flags=reason))
                continue
            large, flag = measured_large(facts, measured)
            relative = relative_times(measured[measured["status"] == "ok"])
            rows.append(
                Row.judged(
                    median_interval(relative[facts.small] / relative[large]),
                    **shared,
                    large=large,
                    value_small=medians[facts.small].median(),
                    value_large=medians[large].median(),
                    flags=flag,
                )
            )
    return rows


def draw(evidence: Evidence) -> Figure:
    """The lecture's two panels: an update gets slower with the batch size, an epoch faster."""
    figure = new_figure(9.6, 4.2)
    panels = figure.subplots(1, 2)
    rows = evidence.ok()
    for axes, measurement, what in zip(panels, ("update_time", "epoch_time"), ("update", "epoch"), strict=True):
        for backend in rows["backend"].unique():
            for input_pipeline, style in (("resident", "-"), ("dataloader", "--")):
                medians = process_medians(select(rows, measurement, backend, input_pipeline))
                if not medians.empty:
                    label = backend if input_pipeline == "resident" else f"{backend}, DataLoader"
                    times(axes, medians, label, color=COLOURS[backend], linestyle=style)
        published(axes, evidence.facts, measurement)
        batch_size_axis(axes, evidence.facts)
        seconds_axis(axes, f"time of one {what}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def explain(evidence: Evidence, rows: list[Row]) -> str:
    said = []
    for row in rows:
        if row.status == "ok":
            feed = "" if row.protocol == "data resident" else ", fed by a DataLoader"
            said.append(
                f"On {row.backend}{feed}, an epoch of {thousands(evidence.facts.train_examples)} examples took "
                f"{seconds(row.value_small)} at batch size {thousands(row.small)} and "
                f"{seconds(row.value_large)} at {thousands(row.large)}."
            )
        elif row.headline:
            said.append(f"{row.backend}: {row.flags}.")
    return " ".join(said)


def numbers(evidence: Evidence) -> pd.DataFrame:
    rows = evidence.ok()
    table = {}
    for backend in rows["backend"].unique():
        for input_pipeline, protocol in PIPELINES.items():
            medians = process_medians(select(rows, "epoch_time", backend, input_pipeline))
            if not medians.empty:
                table[f"{backend}, {protocol}"] = medians.median().map(seconds)
    frame = pd.DataFrame(table).fillna("–")
    frame.insert(0, "batch size", [thousands(size) for size in frame.index])
    return frame


claim = Claim(
    name="epoch_time",
    row=3,
    title="Time for one epoch",
    small="Slower",
    large="Faster",
    says="A small batch takes longer to go once through the data than a large one.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
)
