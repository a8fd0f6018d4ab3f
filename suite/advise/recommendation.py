"""From a curve of updates and the times of an update to a recommendation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from suite.advise.measured import Timing, Trained, in_trainings, run
from suite.advise.prediction import Curve, one_more, rate_rule
from suite.statistics import Interval

CLOSE = 1.1
"""What costs at most so many times as much as the least counts as equally good."""


def predicted(curve: Curve, timings: Sequence[Timing], trainings: int = 1) -> pd.DataFrame:
    """A row per batch size that was run (index): `update_s` in a training, `peak_bytes`, the `learning_rate` to try,
    and to the target `updates`, `examples` and `time_s`, each with the 95% bounds `_low` and `_high` of the geometric
    mean of so many further `trainings`."""
    longer, variance = in_trainings(timings, curve.trained)
    rows = []
    for timing in run(timings):
        size, update_s = timing.batch_size, timing.update_s * longer
        known = {"batch_size": size, "update_s": update_s, "peak_bytes": timing.peak_bytes}
        updates = curve.updates(size, trainings)
        timed = curve.updates(size, trainings, timing.log_variance + variance)
        rows.append(known | {"learning_rate": rate_rule(curve, size)} | _to_target(size, updates, timed, update_s))
    return pd.DataFrame(rows).set_index("batch_size")


def with_measured(table: pd.DataFrame, trained: Sequence[Trained], timings: Sequence[Timing]) -> pd.DataFrame:
    """`table` with what was measured of the batch sizes that were `trained` and timed: updates and seconds to the
    target, with the bounds of one further training. Of two trainings of one batch size the later counts."""
    noise, table = {timing.batch_size: timing.log_variance for timing in timings}, table.copy()
    for one in trained:
        size, updates, timed = one.batch_size, one_more(one), one_more(one, noise[one.batch_size])
        measured = {"update_s": one.update_s, "learning_rate": one.learning_rate}
        for name, value in (measured | _to_target(size, updates, timed, one.update_s)).items():
            table.loc[size, name] = value
    return table


def _to_target(size: int, updates: Interval, timed: Interval, update_s: float) -> dict:
    """The columns `updates`, `examples` and `time_s` with their bounds; `timed` are the updates with the bounds that
    those of the time follow from."""
    columns = {"updates": (updates, 1), "examples": (updates, size), "time_s": (timed, update_s)}
    return {
        name + bound: value * unit
        for name, (interval, unit) in columns.items()
        for bound, value in (("", interval.estimate), ("_low", interval.low), ("_high", interval.high))
    }


@dataclass(frozen=True)
class Recommendation:
    fastest: int
    """The batch size that reaches the target soonest."""
    cheapest: int
    """The largest that needs at most 10% more examples than the fewest."""
    low: int
    high: int
    """From the one to the other every batch size takes at most 10% more time than the fastest."""


def recommend(table: pd.DataFrame, allowed: Collection[int]) -> Recommendation:
    """From `time_s` and `examples` of every batch size (index); none but those `allowed` is recommended."""
    table = table.sort_index()
    times = table["time_s"]
    fastest = int(times[times.index.isin(allowed)].idxmin())
    close = [size for size in table.index if size in allowed and times[size] <= CLOSE * times[fastest]]
    return Recommendation(fastest, cheapest(table, allowed), *_around(fastest, close, list(table.index)))


def cheapest(table: pd.DataFrame, allowed: Collection[int]) -> int:
    """The largest of those `allowed` that needs at most 10% more examples than the fewest of all; where there is
    none, the one that needs the fewest."""
    examples = table["examples"]
    own = examples[examples.index.isin(allowed)]
    close = own[own <= CLOSE * examples.min()]
    return int(close.index.max() if len(close) else own.idxmin())


def _around(size: int, close: Collection[int], sizes: Sequence[int]) -> tuple[int, int]:
    """The first and the last of the unbroken run of `close` around `size`, one of them, along `sizes`."""
    low = high = sizes.index(size)
    while low > 0 and sizes[low - 1] in close:
        low -= 1
    while high + 1 < len(sizes) and sizes[high + 1] in close:
        high += 1
    return sizes[low], sizes[high]


def neighbours(size: int, sizes: Sequence[int]) -> list[int]:
    """`size` and those beside it among `sizes`, ascending."""
    place = sizes.index(size)
    return list(sizes[max(0, place - 1) : place + 2])
