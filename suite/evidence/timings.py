"""Times of an update or an epoch, as each process of a benchmark took them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from suite.evidence.facts import Facts
from suite.evidence.problem import Problem, why_none
from suite.formatting import thousands
from suite.status import Status


@dataclass(frozen=True)
class Timings:
    """Seconds by batch size: the median of each process, and the median over processes."""

    processes: dict[int, tuple[float, ...]]
    medians: dict[int, float]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Timings:
        """From the stored samples in `rows`; empty where there are none."""
        times_s = process_medians(rows[rows["status"] == Status.OK])
        return cls(
            {int(size): tuple(times_s[size].dropna()) for size in times_s},
            {int(size): float(median) for size, median in times_s.median().items()},
        )


def process_medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Median seconds of each process (index) at each batch size (columns)."""
    medians = rows.pivot_table(index="process", columns="batch_size", values="time_s", aggfunc="median")
    return medians.sort_index(axis="columns")


def relative_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Median time of each process (index) at each batch size (columns), divided by that of its reference update.

    Each batch size has processes of its own, and processes differ by more than the times to be compared. So they are
    compared only through the reference update that each of them timed as well.
    """
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
