"""Speed for one update (no parallel): Small is faster, Large is slower.

One example after another, the time of an update is the number of examples times a fixed time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Claim, Evidence, Row, measured_large, process_medians, relative_times, status_of
from suite.claims.drawing import COLOURS, batch_size_axis, bounds, new_figure, seconds, seconds_axis, thousands, times
from suite.statistics import Interval, median_interval, power_law_exponent
from suite.timings import UPDATE_TIME
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "time of an update, Large / Small"


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    return [
        Cell(UPDATE_TIME, workload.name, "sequential", batch_size, scope.processes, optimizer=workload.optimizer)
        for batch_size in sequential_batch_sizes(scope)
        if "sequential" in scope.backends
    ]


def sequential_batch_sizes(scope: Scope) -> tuple[int, ...]:
    """Few, as updates grow slow; with the two smallest, between which the time is no longer the same."""
    return tuple(sorted({*scope.coarse_batch_sizes, *scope.batch_sizes[:2]}))


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the time of an update at Large over that at Small lies above 1 with its whole interval.

    Each round of fresh processes gives one ratio of medians; the interval is that of their median. Times are
    taken over the reference update of the same process.
    """
    facts = evidence.facts
    shared = {"backend": "sequential", "protocol": "data resident", "small": facts.small, "measure": MEASURE}
    medians = process_medians(evidence.ok())
    if facts.small not in medians:
        status, reason = status_of(evidence.rows)
        return [Row(**shared, large=facts.large, unit="s", status=status, flags=reason)]
    large, flag = measured_large(facts, evidence.rows)
    relative = relative_times(evidence.ok())
    return [
        Row.judged(
            median_interval(relative[large] / relative[facts.small]),
            **shared,
            large=large,
            unit="s",
            value_small=medians[facts.small].median(),
            value_large=medians[large].median(),
            flags=flag,
        )
    ]


def exponent(relative: pd.DataFrame) -> Interval:
    """p of t ~ B^p, from each round of processes."""
    return median_interval([power_law_exponent(relative.columns, times) for times in relative.to_numpy()])


def draw(evidence: Evidence) -> Figure:
    figure = new_figure(5.8, 3.9)
    axes = figure.subplots()
    medians = process_medians(evidence.ok())
    times(axes, medians, "sequential, measured", color=COLOURS["sequential"])
    power = exponent(relative_times(evidence.ok())).estimate
    sizes = np.array(medians.columns, float)
    through = np.exp(np.mean(np.log(medians.median()) - power * np.log(sizes)))
    axes.plot(sizes, through * sizes**power, "k--", linewidth=1, label=f"fit: time ∝ B$^{{{power:.2f}}}$")
    batch_size_axis(axes, evidence.facts)
    seconds_axis(axes, "time of one update")
    axes.legend(loc="upper left")
    return figure


def explain(evidence: Evidence, rows: list[Row]) -> str:
    row = rows[0]
    if row.status != "ok":
        return f"Not measured: {row.flags}."
    power = exponent(relative_times(evidence.ok()))
    return (
        f"One example at a time, an update took {seconds(row.value_small)} at batch size "
        f"{thousands(row.small)} and {seconds(row.value_large)} at {thousands(row.large)}. Over all batch sizes "
        f"the time grows like B to the power {power.estimate:.2f} ({bounds(power, '{:.2f}'.format)}): "
        "1 would be exactly in proportion, and what is missing is the fixed cost of an update."
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    medians = process_medians(evidence.ok())
    intervals = [median_interval(medians[size]) for size in medians]
    return pd.DataFrame(
        {
            "batch size": [thousands(size) for size in medians],
            "time of one update": [seconds(interval.estimate) for interval in intervals],
            "95% interval": [bounds(interval, seconds) for interval in intervals],
            "per example": [
                seconds(interval.estimate / size) for size, interval in zip(medians, intervals, strict=True)
            ],
        }
    )


claim = Claim(
    name="update_sequential",
    row=1,
    title="Speed for one update (no parallel)",
    small="Faster",
    large="Slower",
    says="Without parallel computation, an update from a small batch is faster than one from a large batch.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
)
