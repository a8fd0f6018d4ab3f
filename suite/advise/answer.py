"""A recommendation in five lines of plain words."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from suite.advise.advisor import Recommendation
from suite.advise.measurements import fit, half_performance, loop_overhead, successful
from suite.advise.memory import with_unit
from suite.advise.prediction import Prediction
from suite.advise.verification import Check
from suite.formatting import bounds, listed, seconds, thousands, three_digits, with_bounds


def lines(recommendation: Recommendation, target_loss: float) -> list[str]:
    """The answer in words: five lines, or fewer where there is no choice."""
    if recommendation.status == "out_of_memory":
        return [f"No batch size fits into memory, not even one example: {recommendation.timings[0].reason}."]
    if recommendation.status == "reached_at_start":
        return [
            f"No recommendation: the training loss is at most {target_loss:g} before the first update. Lower "
            "`target_loss`."
        ]
    if recommendation.status == "target_not_reached":
        limit = _memory_limit(recommendation) or f"The update time is {_update_times(recommendation)}."
        return [_not_reached(recommendation, target_loss), limit]
    return [
        _fastest(recommendation, target_loss),
        _cheapest(recommendation),
        _range(recommendation),
        _evidence(recommendation),
        _verification(recommendation),
    ]


def learning_rates(recommendation: Recommendation) -> dict[int, float]:
    """A measured learning rate for each batch size: that of its run, or else, of all rates that were tried, the one
    nearest to the predicted rate."""
    rates = {size: run.learning_rate for size, run in recommendation.latest_runs.items()}
    if refined := recommendation.refined_run:
        rates[refined.batch_size] = refined.learning_rate
    tried = {rate for run in recommendation.prediction.runs for rate in run.learning_rates}
    for size, predicted in recommendation.checked_table["learning_rate"].items():
        rates.setdefault(size, _nearest(tried, predicted))
    return rates


def _nearest(rates: set[float], predicted: float) -> float:
    return min(rates, key=lambda rate: abs(math.log(rate / predicted)))


def _fastest(recommendation: Recommendation, target_loss: float) -> str:
    size = recommendation.choice.fastest
    row, rate = recommendation.table.loc[size], learning_rates(recommendation)[size]
    source = "" if recommendation.with_checks else ", as predicted"
    return (
        f"Fastest: batch size {thousands(size)} at learning rate {rate:.3g} reaches a training loss of "
        f"{target_loss:g} with averaged parameters in {three_digits(row['updates'])} updates and "
        f"{seconds(row['time_s'])}{source} "
        f"({_training_bounds(row, 'time_s', seconds)}). An update takes {with_unit(row['peak_bytes'])} of memory."
    )


def _training_bounds(row: pd.Series, name: str, form: Callable[[float], str]) -> str:
    """The 95% interval of one further training."""
    if math.isnan(row[f"{name}_low"]):
        return "no interval from one seed"
    return f"95% of trainings: {form(row[f'{name}_low'])} to {form(row[f'{name}_high'])}"


def _cheapest(recommendation: Recommendation) -> str:
    choice, table = recommendation.choice, recommendation.table
    row, rate = table.loc[choice.cheapest], learning_rates(recommendation)[choice.cheapest]
    comparison = "it is also the fastest"
    if choice.cheapest != choice.fastest:
        comparison = f"the fastest batch size needs {three_digits(table.loc[choice.fastest, 'examples'])} examples"
    return (
        f"Cheapest: batch size {thousands(choice.cheapest)} at learning rate {rate:.3g} needs about the fewest "
        f"examples, {three_digits(row['examples'])}, and takes {seconds(row['time_s'])}; {comparison}."
    )


def _range(recommendation: Recommendation) -> str:
    low, high = recommendation.choice.low, recommendation.choice.high
    sizes = (
        f"batch sizes {thousands(low)} to {thousands(high)}" if low < high else f"batch size {thousands(low)} alone"
    )
    candidates = "trained" if recommendation.with_checks else "timed"
    limit = f" {text}" if (text := _memory_limit(recommendation)) else ""
    return f"{range_label(recommendation).capitalize()}: {sizes}, of the {candidates} batch sizes.{limit}"


def range_label(recommendation: Recommendation) -> str:
    """The criterion of `Choice.low` and `Choice.high`."""
    return "within 10% of the fastest" + (" before its rate was refined" if recommendation.refined_run else "")


def _memory_limit(recommendation: Recommendation) -> str:
    """The batch sizes that do not fit into memory; empty where all fit."""
    failed = [timing for timing in recommendation.timings if timing.status != "ok"]
    if not failed:
        return ""
    largest = max(timing.batch_size for timing in successful(recommendation.timings))
    return f"Batch sizes above {thousands(largest)} do not fit into memory ({failed[0].reason})."


def _evidence(recommendation: Recommendation) -> str:
    prediction = recommendation.prediction
    runs = listed(
        [
            f"{len(run.updates)} trainings at batch size {thousands(run.batch_size)} (rate {run.learning_rate:.3g})"
            for run in prediction.runs
        ]
    )
    failed = "".join(
        f" (some trainings at batch size {thousands(run.batch_size)} never reached the target)"
        for run in recommendation.failed_runs
    )
    overhead, _ = loop_overhead(recommendation.timings, prediction.runs)
    return (
        f"Based on: {runs}{failed}; {_noise_scale(prediction)}; an update time of "
        f"{_update_times(recommendation)}, "
        f"and {overhead:.3g} times as long in a training."
    )


def _noise_scale(prediction: Prediction) -> str:
    interval, pilot = prediction.noise_scale, f"batch size {thousands(prediction.pilot.batch_size)}"
    if prediction.is_determined:
        return (
            f"a critical batch size of {with_bounds(prediction.critical_batch_size)}, from these trainings and their "
            f"gradient noise scale of {with_bounds(interval)} at {pilot}"
        )
    if math.isinf(interval.low):
        text = "its interval has no bounds"
    elif math.isnan(interval.low):
        text = "one seed gives no interval"
    else:
        text = f"its interval is {bounds(interval)}"
    return (
        f"a gradient noise scale that the trainings at {pilot} do not determine ({text}), so that only the updates "
        "measured count"
    )


def _update_times(recommendation: Recommendation) -> str:
    update_s, example_s = fit(recommendation.timings)
    size = half_performance(recommendation.timings)
    knee = f"half-performance batch {three_digits(size)}" if math.isfinite(size) else "no growth with the batch size"
    return f"{seconds(update_s)} plus {seconds(example_s)} per example ({knee})"


def _verification(recommendation: Recommendation) -> str:
    if not recommendation.with_checks:
        return "Not checked: omit --no-verify to train and time the recommended batch sizes."
    checks = "; ".join(map(_check, sorted(recommendation.checks, key=lambda check: check.run.batch_size)))
    if recommendation.missed:
        return (
            "Checked: some measurements lie outside their predicted intervals, and the recommendation follows the "
            f"measurements: {checks}.{_refinement(recommendation)}"
        )
    return f"Checked, all as predicted: {checks}.{_refinement(recommendation)}"


def _refinement(recommendation: Recommendation) -> str:
    if not recommendation.refined_run:
        return ""
    refined = recommendation.refined_run
    before = recommendation.latest_runs[refined.batch_size]
    return (
        f" With its learning rate refined from {before.learning_rate:.3g} to {refined.learning_rate:.3g}, batch size "
        f"{thousands(refined.batch_size)} took {three_digits(refined.typical_updates)} updates."
    )


def _check(check: Check) -> str:
    run, predicted = check.run, check.predicted
    if not run.reached:
        return f"some trainings at batch size {thousands(run.batch_size)} never reached the target"
    return (
        f"batch size {thousands(run.batch_size)} took {three_digits(run.typical_updates)} updates and "
        f"{seconds(run.time_s)} (predicted: {three_digits(predicted['updates'])} and {seconds(predicted['time_s'])}"
        f"{'' if check.as_predicted else '; outside its interval'})"
    )


def _not_reached(recommendation: Recommendation, target_loss: float) -> str:
    run = recommendation.failed_check or recommendation.pilot
    if not run.lowest_loss > target_loss:
        return (
            f"No recommendation: at batch size {thousands(run.batch_size)} some seeds never reached a training loss "
            f"of {target_loss:g}, down to a learning rate of {run.learning_rate:.3g}. Raise `target_loss`."
        )
    rates = f"{run.learning_rates[0]:.3g} to {run.learning_rates[-1]:.3g}"
    return (
        f"No recommendation: at batch size {thousands(run.batch_size)} no learning rate from {rates} reached a "
        f"training loss of {target_loss:g} with every seed (the lowest loss was {three_digits(run.lowest_loss)}). "
        "Raise `target_loss` or `max_updates` of the workload."
    )
