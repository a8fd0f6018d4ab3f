"""From update times to a recommendation: train at two batch sizes, predict, choose, check, refine the rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from suite.advise.choice import Choice, choose
from suite.advise.measurements import Timing, Trainer, TrainingRun, half_performance, successful
from suite.advise.prediction import Prediction, predicted_rate
from suite.advise.tables import prediction_table, with_measurements
from suite.advise.verification import Check, refine, table_after_checks, verify, with_update_times

PILOT_RATIO, SECOND_RATIO = 1 / 4, 4
"""The batch size of the pilot run over the gradient noise scale at initialisation, and that of the second run over
the noise scale along the pilot run: well to either side of the bend of the hyperbola, where cost permits."""
MIN_RATIO = 4
"""The batch size of the second run is at least this many times that of the pilot run."""
MAX_COST = 2
"""Skip a second run whose expected time exceeds MAX_COST times that of the pilot run, if a less expensive batch size
exists."""


@dataclass(frozen=True)
class Recommendation:
    """The chosen batch sizes, and the measurements and predictions behind them."""

    timings: tuple[Timing, ...]
    status: str = "ok"
    """`ok`, or the reason why there is no choice: `out_of_memory` where no batch size fits into memory,
    `target_not_reached`, or `reached_at_start`."""
    pilot: TrainingRun | None = None
    prediction: Prediction | None = None
    predicted_table: pd.DataFrame | None = None
    """`tables.prediction_table` before any check."""
    checked_table: pd.DataFrame | None = None
    """The table after the checks, before the rate was refined."""
    checks: tuple[Check, ...] = ()
    with_checks: bool = False
    """Whether checks were asked for."""
    choice: Choice | None = None
    """From `checked_table`; `cheapest` becomes `fastest` where that needs fewer examples at its refined rate."""
    refined_run: TrainingRun | None = None
    """The fastest batch size at a better rate, where there is one."""
    failed_runs: tuple[TrainingRun, ...] = ()
    """Runs for the prediction in which some replica did not reach the target. Their batch sizes are not chosen
    without a check."""
    failed_check: TrainingRun | None = None
    """The first check, where no checked batch size may be chosen."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """`checked_table` with the fastest batch size at its refined rate."""
        if self.refined_run is None:
            return self.checked_table
        return with_measurements(self.checked_table, [self.refined_run], self.timings)

    @property
    def latest_runs(self) -> dict[int, TrainingRun]:
        """The last run of each batch size, before the rate was refined, where every replica reached the target."""
        runs = {run.batch_size: run for run in (*self.prediction.runs, *(check.run for check in self.checks))}
        return {size: run for size, run in runs.items() if run.reached}

    @property
    def missed(self) -> bool:
        """Whether some check lies outside its predicted interval."""
        return not all(check.as_predicted for check in self.checks)


def advise(
    trainer: Trainer, timings: Sequence[Timing], with_checks: bool, notify: Callable[[str], None]
) -> Recommendation:
    """Recommend batch sizes among those of `timings`, from trainings by `trainer`.

    `notify` is called with a sentence before each step.
    """
    timings = tuple(timings)
    sizes = {timing.batch_size for timing in successful(timings)}
    if not sizes:
        return Recommendation(timings, "out_of_memory")
    costs = timings if trainer.trains_as_timed else _with_equal_times(timings)
    size = pilot_batch_size(trainer.initial_noise_scale(), costs)
    notify(f"tuning and training at batch size {size}")
    pilot = trainer.pilot_run(size)
    if not pilot.reached:
        return Recommendation(timings, "target_not_reached", pilot)
    if pilot.reached_at_start:
        return Recommendation(timings, "reached_at_start", pilot)
    prediction, failed_runs = _with_second_run(Prediction(pilot), costs, trainer, notify)
    prediction = _with_update_times(prediction, trainer)
    table = prediction_table(prediction, timings)
    recommendation = Recommendation(
        timings, "ok", pilot, prediction, table, table, with_checks=with_checks, failed_runs=failed_runs
    )
    if with_checks:
        return _checked(recommendation, trainer, notify)
    return replace(recommendation, choice=choose(table, sizes - {run.batch_size for run in failed_runs}))


def _with_equal_times(timings: Sequence[Timing]) -> list[Timing]:
    """The successful `timings` with one second per update: where update times do not give the cost of a training."""
    return [replace(timing, times_s=(1.0,)) for timing in successful(timings)]


def _checked(recommendation: Recommendation, trainer: Trainer, notify: Callable[[str], None]) -> Recommendation:
    """`recommendation` after its checks, with the fastest batch size at a better rate, where there is one."""
    timings, prediction = recommendation.timings, recommendation.prediction
    checks = verify(prediction, timings, trainer, notify)
    table, allowed = table_after_checks(prediction, checks, timings)
    if not allowed:
        return Recommendation(timings, "target_not_reached", recommendation.pilot, failed_check=checks[0].run)
    choice = choose(table, allowed)
    recommendation = replace(recommendation, checked_table=table, checks=tuple(checks), choice=choice)
    refined = refine(recommendation.latest_runs[choice.fastest], trainer, notify)
    if refined and refined.batch_size * refined.typical_updates < table.loc[choice.cheapest, "examples"]:
        choice = replace(choice, cheapest=choice.fastest)
    return replace(recommendation, refined_run=refined, choice=choice)


def pilot_batch_size(noise_scale: float, costs: Sequence[Timing]) -> int:
    """The largest batch size that exceeds none of PILOT_RATIO times the noise scale, the half-performance batch, and
    an eighth of the largest batch size; the middle of the lower half where the noise scale is not positive.

    A training at the half-performance batch takes less than twice as long as the fastest, at any critical batch size:
    (1 + B_crit / B) (a + c B) at B = a / c is at most twice its minimum over B.
    """
    sizes = [timing.batch_size for timing in successful(costs)]
    if not noise_scale > 0:
        return sizes[len(sizes) // 4]
    limit = min(PILOT_RATIO * noise_scale, half_performance(costs), sizes[-1] / 8)
    return max([size for size in sizes if size <= limit], default=sizes[0])


def second_batch_size(prediction: Prediction, costs: Sequence[Timing]) -> int:
    """The inexpensive batch size nearest to SECOND_RATIO times the critical batch size, among those of at least
    MIN_RATIO times the pilot run's.

    The smallest of these where all are expensive; the largest batch size of all where none is that large.
    """
    time_s = {
        timing.batch_size: timing.update_s * prediction.hyperbola(timing.batch_size) for timing in successful(costs)
    }
    pilot, target = prediction.pilot.batch_size, SECOND_RATIO * prediction.critical_batch_size.estimate
    distant = [size for size in time_s if size >= MIN_RATIO * pilot]
    inexpensive = [size for size in distant if time_s[size] <= MAX_COST * time_s[pilot]] or distant[:1]
    return min(inexpensive, key=lambda size: abs(math.log(size / target)), default=max(time_s))


def _with_second_run(
    prediction: Prediction, costs: Sequence[Timing], trainer: Trainer, notify: Callable[[str], None]
) -> tuple[Prediction, tuple[TrainingRun, ...]]:
    """Return `prediction` with a second run, and no failed run; or without it, and the failed second run.

    `prediction` stays as it is where the pilot run's batch size is the only one.
    """
    size = second_batch_size(prediction, costs)
    if size == prediction.pilot.batch_size:
        return prediction, ()
    notify(f"training at batch size {size}")
    second_run = trainer.tuned_run(size, predicted_rate(prediction, size), prediction.hyperbola(size), held_out=False)
    return prediction.with_runs([second_run]), () if second_run.reached else (second_run,)


def _with_update_times(prediction: Prediction, trainer: Trainer) -> Prediction:
    """`prediction` with the seconds of an update in its runs."""
    pilot, *further_runs = with_update_times(trainer, prediction.runs)
    return Prediction(pilot, tuple(further_runs))
