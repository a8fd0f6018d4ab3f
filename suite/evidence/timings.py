"""Times of an update or an epoch in each process of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from suite.evidence.facts import Facts
from suite.evidence.problem import Problem, why_none
from suite.formatting import thousands
from suite.statistics import Interval, median_ratio_interval
from suite.status import Status


@dataclass(frozen=True)
class Timings:
    """Seconds by batch size, of each process and the median over processes, all at one speed of the machine.

    Each batch size has processes of its own, and processes differ by more than the times to be compared. So each time
    is divided by the reference update of its process, and multiplied by the median reference update of all processes.
    """

    processes: dict[int, tuple[float, ...]]
    medians: dict[int, float]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Timings:
        """From the stored samples in `rows`; empty where there are none."""
        rows = rows[rows["status"] == Status.OK]
        reference_s = rows.groupby(["batch_size", "process"])["reference_s"].median().median()
        times_s = relative_times(rows) * reference_s
        return cls(
            {int(size): tuple(times_s[size].dropna()) for size in times_s},
            {int(size): float(median) for size, median in times_s.median().items()},
        )

    def ratio(self, above: int, below: int) -> Interval:
        """The median time at batch size `above` over that at `below`."""
        return median_ratio_interval(self.processes[above], self.processes[below])


def relative_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Median time of each process (index) at each batch size (columns), divided by that of its reference update."""
    rows = rows[rows["status"] == Status.OK]
    rows = rows.assign(relative=rows["time_s"] / rows["reference_s"])
    medians = rows.pivot_table(index="process", columns="batch_size", values="relative", aggfunc="median")
    return medians.sort_index(axis="columns")


@dataclass(frozen=True)
class CappedLarge:
    """The comparison is with a smaller batch than Large, which could not be measured."""

    batch_size: int
    problem: Problem

    def __str__(self) -> str:
        return f"compared at batch size {thousands(self.batch_size)} instead of Large: {self.problem}"


def largest_measured(facts: Facts, rows: pd.DataFrame) -> tuple[int, tuple[CappedLarge, ...]]:
    """The largest batch size measured in `rows` up to Large, with a flag where that is not Large itself."""
    sizes = rows.loc[rows["status"] == Status.OK, "batch_size"]
    large = int(sizes[sizes <= facts.large].max())
    if large == facts.large:
        return large, ()
    return large, (CappedLarge(large, why_none(rows[rows["batch_size"] == facts.large])),)
