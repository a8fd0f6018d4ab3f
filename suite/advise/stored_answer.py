"""A recommendation as plain values, to be stored as JSON."""

import math
from collections.abc import Sequence

from suite.advise.advisor import Recommendation
from suite.advise.answer import learning_rates, lines
from suite.advise.measurements import Timing, TrainingRun, fit, loop_overhead, successful

ANSWER = "advice.json"
"""The file that holds `to_dict`."""


def to_dict(
    recommendation: Recommendation, workload: str, backend: str, threads: int, target_loss: float, spent_s: float
) -> dict:
    """The whole recommendation in plain values; a number that is not finite becomes None."""
    answer = {
        "status": recommendation.status,
        "workload": workload,
        "backend": backend,
        "threads": threads,
        "target_loss": target_loss,
        "advisor_s": spent_s,
        "in_words": lines(recommendation, target_loss),
        "timings": [_timing(timing) for timing in recommendation.timings],
    }
    if successful(recommendation.timings):
        answer["update_s"], answer["example_s"] = fit(recommendation.timings)
    if recommendation.choice:
        answer |= _chosen(recommendation)
    return _plain(answer)


def _timing(timing: Timing) -> dict:
    return {
        "batch_size": timing.batch_size,
        "status": timing.status,
        "reason": timing.reason,
        "update_s": timing.update_s,
        "peak_bytes": timing.peak_bytes,
    }


def _chosen(recommendation: Recommendation) -> dict:
    prediction, choice, table = recommendation.prediction, recommendation.choice, recommendation.table
    rates = learning_rates(recommendation)
    noise_scale, critical_batch_size = prediction.noise_scale, prediction.critical_batch_size
    overhead, _ = loop_overhead(recommendation.timings, prediction.runs)
    refined = recommendation.refined_run
    return {
        "recommended": {
            name: {"batch_size": size, "learning_rate": rates[size], **table.loc[size].drop("learning_rate")}
            for name, size in (("fastest", choice.fastest), ("cheapest", choice.cheapest))
        },
        "within_10_percent": [choice.low, choice.high],
        "noise_scale": {
            "status": "determined" if prediction.is_determined else "undetermined",
            "estimate": noise_scale.estimate,
            "low": noise_scale.low,
            "high": noise_scale.high,
        },
        "critical_batch_size": {
            "estimate": critical_batch_size.estimate,
            "low": critical_batch_size.low,
            "high": critical_batch_size.high,
        },
        "in_trainings": overhead,
        "trained": [_run(run) for run in prediction.runs],
        "failed": [_run(run) for run in recommendation.failed_runs],
        "predicted": recommendation.predicted_table.reset_index().to_dict("records"),
        "after_checks": recommendation.checked_table.reset_index().to_dict("records"),
        "checked": [_run(check.run) | {"as_predicted": check.as_predicted} for check in recommendation.checks],
        "refined": _run(refined) if refined else None,
        "verification": _verification(recommendation),
    }


def _run(run: TrainingRun) -> dict:
    return {
        "batch_size": run.batch_size,
        "learning_rate": run.learning_rate,
        "learning_rates": list(run.learning_rates),
        "updates": list(run.updates),
        "update_s": run.update_s,
        "time_s": run.time_s,
    }


def _verification(recommendation: Recommendation) -> str:
    if not recommendation.with_checks:
        return "none"
    return "missed" if recommendation.missed else "as predicted"


def _plain(value):
    """`value` in built-in types: NumPy's numbers become Python's, and numbers that are not finite become None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
