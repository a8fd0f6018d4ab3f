"""How the time of an update grows with the batch size: flat at first, then in proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence import Timings, relative_times
from suite.formatting import decimals, thousands
from suite.statistics import Interval, affine_fit, flat_batch_size, half_performance_batch, median_interval

FLAT_FACTOR = 1.5
"""An update is flat while it takes at most this many times as long as at the smallest batch size."""


def flat_batch_sizes(rows: pd.DataFrame) -> pd.Series:
    """The batch size up to which an update stays flat, of each process (index); infinite where it never stops."""
    relative = relative_times(rows)
    return pd.Series(
        [flat_batch_size(relative.columns, times, FLAT_FACTOR) for times in relative.to_numpy()],
        relative.index,
        dtype=float,
    )


@dataclass(frozen=True)
class Scaling:
    """Updates on one backend, fed by one input pipeline."""

    flat_median: float
    """Batch size up to which an update stays flat, median over processes; infinite where it never stops."""
    flat: Interval
    """The same; a process that never stops counts with the largest batch size."""
    is_lower_bound: bool
    """Whether half of the processes or more are still flat at the largest batch size."""
    half_performance: Interval
    """Batch size at half of the peak throughput, median over processes."""
    fixed_s: float
    """a of the fit a + b B to the medians over processes."""
    per_example_s: float
    """b of the same fit."""

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Scaling | None:
        """From the stored samples in `rows`; None where there are none."""
        medians = Timings.of(rows).medians
        if not medians:
            return None
        flat, relative = flat_batch_sizes(rows), relative_times(rows)
        halves = [half_performance_batch(relative.columns, times) for times in relative.to_numpy()]
        fixed_s, per_example_s = affine_fit(list(medians), list(medians.values()))
        return cls(
            flat_median=float(flat.median()),
            flat=median_interval(flat.clip(upper=max(medians))),
            is_lower_bound=bool(np.isinf(flat.median())),
            half_performance=median_interval(halves),
            fixed_s=fixed_s,
            per_example_s=per_example_s,
        )


@dataclass(frozen=True)
class StillFlat:
    """An update is flat at every batch size, so that the effect is a lower bound."""

    largest: int

    def __str__(self) -> str:
        return f"still flat at {thousands(self.largest)}, the largest batch size: the effect is a lower bound"


@dataclass(frozen=True)
class LargeTooLarge:
    """Large is beyond the flat range."""

    flat: float

    def __str__(self) -> str:
        return f"Large is beyond the flat range, which ends at {size_text(self.flat)}"


def size_text(batch_size: float) -> str:
    """An interpolated batch size, a small one with a decimal place.

    >>> size_text(1.71), size_text(336.4)
    ('1.7', '336')
    """
    if math.isinf(batch_size):
        return "∞"
    return thousands(batch_size) if batch_size >= 10 else decimals(1)(batch_size)
