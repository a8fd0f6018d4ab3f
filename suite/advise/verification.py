"""Check a choice: train the chosen batch sizes and their neighbours to the target, and time these trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from suite.advise.choice import cheapest, choose, neighbours
from suite.advise.measurements import Timing, Trainer, TrainingRun
from suite.advise.prediction import Prediction
from suite.advise.tables import prediction_table, with_measurements

MAX_CHECKS = 6
"""Batch sizes to check at most: a batch size that turns out to be faster has further neighbours."""


@dataclass(frozen=True)
class Check:
    """A run at a batch size, and its prediction from before any check."""

    run: TrainingRun
    predicted: pd.Series
    """The row of `tables.prediction_table` for as many trainings as `run` has replicas."""

    @property
    def as_predicted(self) -> bool:
        """Whether both updates and seconds lie in the predicted intervals."""
        values = {"updates": self.run.typical_updates, "time_s": self.run.time_s}
        return all(
            not (value < self.predicted[f"{name}_low"] or value > self.predicted[f"{name}_high"])
            for name, value in values.items()
        )


def verify(
    prediction: Prediction, timings: Sequence[Timing], trainer: Trainer, notify: Callable[[str], None]
) -> list[Check]:
    """Train and time the fastest batch size, its neighbours and the cheapest; then the measured fastest and its
    neighbours, until these are known or MAX_CHECKS batch sizes are checked.

    The runs of `prediction` are not repeated, except where their batch size is the fastest.
    """
    table = prediction_table(prediction, timings)
    sizes, informed, checks = list(table.index), prediction, []
    known_sizes = {run.batch_size for run in prediction.runs}
    fastest = choose(table, sizes).fastest
    tuned = set(neighbours(fastest, sizes))
    untuned = {cheapest(table, sizes)} - tuned
    wanted = {fastest} | (tuned | untuned) - known_sizes
    while missing := sorted(wanted - {check.run.batch_size for check in checks})[: MAX_CHECKS - len(checks)]:
        runs = []
        for size in missing:
            notify(f"checking batch size {size}")
            train = trainer.run_at_rate if size in untuned else trainer.tuned_run
            runs.append(train(size, *prediction_table(informed, timings).loc[size, ["learning_rate", "updates"]]))
            informed = informed.with_runs(runs[-1:])
        checks += [Check(run, _predicted_row(prediction, timings, run)) for run in with_update_times(trainer, runs)]
        times_s = {run.batch_size: run.time_s for run in (*prediction.runs, *(check.run for check in checks))}
        fastest = min(times_s, key=times_s.get)
        wanted |= {fastest} | set(neighbours(fastest, sizes)) - known_sizes
    return checks


def _predicted_row(prediction: Prediction, timings: Sequence[Timing], run: TrainingRun) -> pd.Series:
    """The row of `prediction`, which does not contain `run`, to compare `run` with."""
    return prediction_table(prediction, timings, len(run.updates)).loc[run.batch_size]


def refine(run: TrainingRun, trainer: Trainer, notify: Callable[[str], None]) -> TrainingRun | None:
    """Return a run at a better rate, with fewer updates than `run`; None where there is none.

    It keeps the update time of `run`, which does not depend on the rate.
    """
    notify(f"refining the learning rate at batch size {run.batch_size}")
    refined = trainer.refined_run(run)
    return replace(refined, update_s=run.update_s) if refined.typical_updates < run.typical_updates else None


def with_update_times(trainer: Trainer, runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """`runs` with the seconds of an update, where they reached the target."""
    seconds = iter(trainer.update_seconds([run for run in runs if run.reached]))
    return [replace(run, update_s=next(seconds)) if run.reached else run for run in runs]


def table_after_checks(
    prediction: Prediction, checks: Sequence[Check], timings: Sequence[Timing]
) -> tuple[pd.DataFrame, set[int]]:
    """Return the table after `checks`, and the batch sizes that may be chosen.

    Measured batch sizes have their measured values, all others the prediction that contains the checks. Only batch
    sizes of which every replica of every run reached the target may be chosen.
    """
    runs = [check.run for check in checks]
    informed, failed = prediction.with_runs(runs), {run.batch_size for run in runs if not run.reached}
    table = with_measurements(prediction_table(informed, timings), informed.runs, timings)
    return table, {run.batch_size for run in informed.runs} - failed
