"""How the time of an update grows with the batch size: flat at first, then in proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence import Timings, relative_times
from suite.formatting import decimals, thousands
from suite.statistics import (
    Interval,
    affine_fit,
    flat_batch_size,
    half_performance_batch,
    median_interval,
    percentile_interval,
    resampled_medians,
)

FLAT_FACTOR = 1.5
"""An update is flat while it takes at most this many times as long as at the smallest batch size."""
LEAST_FLAT_RATIO = 10
"""The flat range in parallel is long where it ends at more than this many times the end one example at a time."""


@dataclass(frozen=True)
class Scaling:
    """Updates on one backend, fed by one input pipeline."""

    flat: Interval
    """Batch size up to which an update stays flat, from the medians over processes; where it never stops, the largest
    batch size, open above."""
    is_lower_bound: bool
    """Whether an update is still flat at the largest batch size."""
    half_performance: Interval
    """Batch size at half of the peak throughput, median over processes."""
    fixed_s: float
    """a of the fit a + b B to the medians over processes."""
    per_example_s: float
    """b of the same fit."""

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Scaling | None:
        """From the stored samples in `rows`; None where there are none."""
        timings = Timings.of(rows)
        if not timings.medians:
            return None
        relative = relative_times(rows)
        halves = [half_performance_batch(relative.columns, times) for times in relative.to_numpy()]
        fixed_s, per_example_s = affine_fit(list(timings.medians), list(timings.medians.values()))
        return cls(
            flat=flat_range(timings),
            is_lower_bound=math.isinf(flat_end(timings)),
            half_performance=median_interval(halves),
            fixed_s=fixed_s,
            per_example_s=per_example_s,
        )


def flat_end(timings: Timings) -> float:
    """The batch size up to which an update stays flat; infinite where it never stops."""
    return float(_ends(timings, np.array(list(timings.medians.values()))))


def flat_range(timings: Timings) -> Interval:
    """The batch size up to which an update stays flat."""
    (ends,) = _resampled_ends(timings)
    return _open_above(timings, ends, 1, 1, _processes(timings))


def flat_range_ratio(parallel: Timings, sequential: Timings) -> Interval:
    """The end of the flat range in `parallel` over that of `sequential`, which is finite."""
    ends, units = _resampled_ends(parallel, sequential)
    return _open_above(parallel, ends, flat_end(sequential), units, _processes(parallel, sequential))


def _ends(timings: Timings, medians: np.ndarray) -> np.ndarray:
    """The end [...] of the flat range for each row of `medians` [..., batch sizes]."""
    return flat_batch_size(list(timings.medians), medians, FLAT_FACTOR)


def _resampled_ends(*timings: Timings) -> list[np.ndarray]:
    """The ends of the flat ranges [RESAMPLES] of each of `timings`, the processes of each batch size resampled."""
    resampled = resampled_medians([times_s for each in timings for times_s in each.processes.values()])
    parts = np.split(resampled, np.cumsum([len(each.processes) for each in timings])[:-1], axis=1)
    return [_ends(each, medians) for each, medians in zip(timings, parts, strict=True)]


def _processes(*timings: Timings) -> int:
    """The smallest number of processes at any batch size."""
    return min(len(times_s) for each in timings for times_s in each.processes.values())


def _open_above(timings: Timings, ends: np.ndarray, unit: float, units: np.ndarray | float, n: int) -> Interval:
    """The end of the flat range of `timings` over `unit`, with the interval of the resampled `ends` over `units`.

    Where the range never stops, the estimate and the lower bound count it up to the largest batch size, and the upper
    bound is infinite.
    """
    largest = max(timings.medians)
    estimate = min(flat_end(timings), largest) / unit
    low, high = (percentile_interval(estimate, values / units, n) for values in (np.minimum(ends, largest), ends))
    return Interval(estimate, low.low, high.high, n)


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
