"""Tables of updates, examples and time to the target over the batch size: predicted, and with measured rows."""

from collections.abc import Sequence

import pandas as pd

from suite.advise.measurements import Timing, TrainingRun, loop_overhead, successful
from suite.advise.prediction import Prediction, further_training_interval, predicted_rate
from suite.statistics import Interval


def prediction_table(prediction: Prediction, timings: Sequence[Timing], trainings: int = 1) -> pd.DataFrame:
    """A row per batch size (index) that fits into memory.

    Columns: `update_s` within a training, `peak_bytes`, the `learning_rate` to try, and `updates`, `examples` and
    `time_s` to the target, each with the 95% bounds `_low` and `_high` of the geometric mean of further `trainings`.
    """
    overhead, overhead_variance = loop_overhead(timings, prediction.runs)
    rows = []
    for timing in successful(timings):
        size, update_s = timing.batch_size, timing.update_s * overhead
        updates = prediction.updates(size, trainings)
        updates_for_time = prediction.updates(size, trainings, timing.log_variance + overhead_variance)
        rows.append(
            {
                "batch_size": size,
                "update_s": update_s,
                "peak_bytes": timing.peak_bytes,
                "learning_rate": predicted_rate(prediction, size),
                **_to_target(size, updates, updates_for_time, update_s),
            }
        )
    return pd.DataFrame(rows).set_index("batch_size")


def with_measurements(table: pd.DataFrame, runs: Sequence[TrainingRun], timings: Sequence[Timing]) -> pd.DataFrame:
    """`table` with the measured values of `runs`, and with the bounds of one further training.

    Of two runs at one batch size the later counts.
    """
    time_variances, table = {timing.batch_size: timing.log_variance for timing in timings}, table.copy()
    for run in runs:
        size = run.batch_size
        updates = further_training_interval(run)
        updates_for_time = further_training_interval(run, time_variances[size])
        values = {"update_s": run.update_s, "learning_rate": run.learning_rate}
        for name, value in (values | _to_target(size, updates, updates_for_time, run.update_s)).items():
            table.loc[size, name] = value
    return table


def _to_target(size: int, updates: Interval, updates_for_time: Interval, update_s: float) -> dict[str, float]:
    """The columns `updates`, `examples` and `time_s` with their bounds.

    The bounds of `updates_for_time` include the variance of the update time.
    """
    columns = {"updates": (updates, 1), "examples": (updates, size), "time_s": (updates_for_time, update_s)}
    return {
        name + bound: value * unit
        for name, (interval, unit) in columns.items()
        for bound, value in (("", interval.estimate), ("_low", interval.low), ("_high", interval.high))
    }
