"""An advice in five lines of plain words, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from suite.advise.advisor import Advice
from suite.advise.measured import fit, half_performance, in_trainings, run
from suite.advise.memory import in_words
from suite.advise.prediction import Curve
from suite.advise.verification import Checked
from suite.claims.drawing import seconds, thousands, three_digits

ANSWER = "advice.json"
"""The file that holds `to_dict`."""


def lines(advice: Advice, target_loss: float) -> list[str]:
    """The answer in words: five lines, or fewer where there is nothing to recommend."""
    if advice.status == "out_of_memory":
        return [f"No batch size fits into memory, not even one example: {advice.timings[0].reason}."]
    if advice.status == "reached_at_start":
        return [f"No advice: the training loss is {target_loss:g} or less before any update: lower `target_loss`."]
    if advice.status == "target_not_reached":
        return [_not_reached(advice, target_loss), _limit(advice) or f"{_rests_on_times(advice)}."]
    return [
        _fastest(advice, target_loss),
        _cheapest(advice),
        _range(advice),
        _rests_on(advice),
        _verification(advice),
    ]


def _rate(advice: Advice, size: int) -> float:
    return learning_rates(advice)[size]


def learning_rates(advice: Advice) -> dict[int, float]:
    """A rate that was run for each batch size: the one it was trained with, or else, of all rates that were tried,
    the nearest to the one predicted."""
    rates = {size: trained.learning_rate for size, trained in advice.last_trained.items()}
    if advice.refined:
        rates[advice.refined.batch_size] = advice.refined.learning_rate
    run = {rate for trained in advice.curve.trained for rate in trained.rates}
    for size, wanted in advice.table["learning_rate"].items():
        rates.setdefault(size, min(run, key=lambda rate: abs(math.log(rate / wanted))))
    return rates


def _fastest(advice: Advice, target_loss: float) -> str:
    size = advice.recommendation.fastest
    row = advice.final.loc[size]
    how = "" if advice.verified else ", as predicted"
    return (
        f"Fastest: batch size {thousands(size)} at learning rate {_rate(advice, size):.3g} reaches a training loss "
        f"of {target_loss:g} in {three_digits(row['updates'])} updates and {seconds(row['time_s'])}{how} "
        f"({_bounds(row, 'time_s', seconds)}); an update takes {in_words(row['peak_bytes'])} of memory."
    )


def _bounds(row: pd.Series, name: str, form) -> str:
    """The 95% interval of one further training."""
    if math.isnan(row[f"{name}_low"]):
        return "no interval from one seed"
    return f"95% of trainings: {form(row[f'{name}_low'])} to {form(row[f'{name}_high'])}"


def _cheapest(advice: Advice) -> str:
    size = advice.recommendation.cheapest
    row, fastest = advice.final.loc[size], advice.final.loc[advice.recommendation.fastest]
    return (
        f"Cheapest: batch size {thousands(size)} at learning rate {_rate(advice, size):.3g} needs about the "
        f"fewest examples, {three_digits(row['examples'])} (the fastest {three_digits(fastest['examples'])}), in "
        f"{seconds(row['time_s'])}."
    )


def _range(advice: Advice) -> str:
    low, high = advice.recommendation.low, advice.recommendation.high
    which = (
        f"batch sizes {thousands(low)} to {thousands(high)}" if low < high else f"batch size {thousands(low)} alone"
    )
    of = "that were trained" if advice.verified else "that were timed"
    limit = f" {beyond}" if (beyond := _limit(advice)) else ""
    return f"{within_range(advice).capitalize()}, of those {of}: {which}.{limit}"


def within_range(advice: Advice) -> str:
    """What the range of batch sizes is within."""
    return "within 10% of the fastest" + (" before its rate was refined" if advice.refined else "")


def _limit(advice: Advice) -> str:
    """What memory had no room for; empty where it had room for all."""
    beyond = [timing for timing in advice.timings if timing.status != "ok"]
    if not beyond:
        return ""
    largest = max(timing.batch_size for timing in run(advice.timings))
    return f"Batch sizes above {thousands(largest)} do not fit into memory ({beyond[0].reason})."


def _rests_on(advice: Advice) -> str:
    curve = advice.curve
    trained = " and ".join(
        f"{len(one.updates)} trainings at batch size {thousands(one.batch_size)} (rate {one.learning_rate:.3g})"
        for one in curve.trained
    )
    times = f"{_rests_on_times(advice)}, {_in_trainings(advice):.3g} times as long in a training"
    return f"Rests on: {trained}{_failed(advice)}; {_noise_scale(curve)}; {times}."


def _failed(advice: Advice) -> str:
    return "".join(
        f" (at batch size {thousands(one.batch_size)} some never reached the target)" for one in advice.failed
    )


def _noise_scale(curve: Curve) -> str:
    interval = curve.noise_scale
    if curve.determined:
        bounds = f"{three_digits(interval.low)} to {three_digits(interval.high)}"
        return (
            f"a critical batch of {three_digits(interval.estimate)} ({bounds}) from the noise scale along the first"
        )
    if math.isinf(interval.low):
        bounds = "has no bounds"
    elif math.isnan(interval.low):
        bounds = "from one seed has no interval"
    else:
        bounds = f"reaches from {three_digits(interval.low)} to {three_digits(interval.high)}"
    return f"a noise scale that these seeds do not determine (it {bounds}), so that only what was trained counts"


def _rests_on_times(advice: Advice) -> str:
    a, b = fit(advice.timings)
    size = half_performance(advice.timings)
    half = f"a half-performance batch of {three_digits(size)}" if math.isfinite(size) else "no growth was seen"
    return f"updates of {seconds(a)} and {seconds(b)} more an example ({half})"


def _in_trainings(advice: Advice) -> float:
    return in_trainings(advice.timings, advice.curve.trained)[0]


def _verification(advice: Advice) -> str:
    if not advice.verified:
        return "Not checked: leave out --no-verify to train and time what is recommended."
    found = "; ".join(map(_checked, sorted(advice.checked, key=lambda one: one.trained.batch_size)))
    if advice.missed:
        return (
            "Checked: not everything lies in the interval predicted of it, so this is recommended from what was "
            f"measured: {found}.{_refined(advice)}"
        )
    return f"Checked, all as predicted: {found}.{_refined(advice)}"


def _refined(advice: Advice) -> str:
    if not advice.refined:
        return ""
    before, after = advice.last_trained[advice.refined.batch_size], advice.refined
    return (
        f" With its rate refined from {before.learning_rate:.3g} to {after.learning_rate:.3g}, batch size "
        f"{thousands(after.batch_size)} took {three_digits(after.typical_updates)} updates."
    )


def _checked(one: Checked) -> str:
    row, trained = one.predicted, one.trained
    size = f"batch size {thousands(trained.batch_size)}"
    if not trained.reached:
        return f"{size} never reached the target"
    return (
        f"{size} predicted {three_digits(row['updates'])} updates and {seconds(row['time_s'])}, measured "
        f"{three_digits(trained.typical_updates)} and {seconds(trained.time_s)}"
        + ("" if one.as_predicted else " (outside its interval)")
    )


def _not_reached(advice: Advice, target_loss: float) -> str:
    tried = advice.tried
    if not tried.lowest_loss > target_loss:
        return (
            f"No advice: at batch size {thousands(tried.batch_size)} some seeds never reached a training loss of "
            f"{target_loss:g}, down to a learning rate of {tried.learning_rate:.3g}: raise `target_loss`."
        )
    rates = f"{tried.rates[0]:.3g} to {tried.rates[-1]:.3g}"
    return (
        f"No advice: at batch size {thousands(tried.batch_size)} no learning rate from {rates} reached a training "
        f"loss of {target_loss:g} with every seed (the lowest seen was {three_digits(tried.lowest_loss)}): raise "
        "`target_loss` or `max_updates` of the workload."
    )


def to_dict(advice: Advice, workload: str, backend: str, threads: int, target_loss: float, spent_s: float) -> dict:
    """Everything above in plain values; what is no number is null."""
    answer = {
        "status": advice.status,
        "workload": workload,
        "backend": backend,
        "threads": threads,
        "target_loss": target_loss,
        "advisor_s": spent_s,
        "in_words": lines(advice, target_loss),
        "timings": [_timing(timing) for timing in advice.timings],
    }
    if run(advice.timings):
        answer["update_s"], answer["example_s"] = fit(advice.timings)
    if advice.recommendation:
        answer |= _recommended(advice)
    return _plain(answer)


def _timing(timing) -> dict:
    return {
        "batch_size": timing.batch_size,
        "status": timing.status,
        "reason": timing.reason,
        "update_s": timing.update_s,
        "peak_bytes": timing.peak_bytes,
    }


def _recommended(advice: Advice) -> dict:
    curve, chosen, rates = advice.curve, advice.recommendation, learning_rates(advice)
    return {
        "recommended": {
            name: {"batch_size": size, "learning_rate": rates[size], **advice.final.loc[size].drop("learning_rate")}
            for name, size in (("fastest", chosen.fastest), ("cheapest", chosen.cheapest))
        },
        "within_10_percent": [chosen.low, chosen.high],
        "noise_scale": {
            "status": "determined" if curve.determined else "undetermined",
            "estimate": curve.noise_scale.estimate,
            "low": curve.noise_scale.low,
            "high": curve.noise_scale.high,
        },
        "in_trainings": _in_trainings(advice),
        "trained": [_trained(trained) for trained in curve.trained],
        "failed": [_trained(trained) for trained in advice.failed],
        "predicted": advice.before.reset_index().to_dict("records"),
        "after_checks": advice.table.reset_index().to_dict("records"),
        "checked": [_trained(one.trained) | {"as_predicted": one.as_predicted} for one in advice.checked],
        "refined": _trained(advice.refined) if advice.refined else None,
        "verification": "none" if not advice.verified else "missed" if advice.missed else "as predicted",
    }


def _trained(trained) -> dict:
    return {
        "batch_size": trained.batch_size,
        "learning_rate": trained.learning_rate,
        "learning_rates": list(trained.rates),
        "updates": list(trained.updates),
        "update_s": trained.update_s,
        "time_s": trained.time_s,
    }


def _plain(value):
    """`value` with built-in types only: numpy's numbers as Python's, and none that is not finite."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
