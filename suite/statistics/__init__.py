"""Statistics: `inference` has intervals, tests and verdicts, `resampling` intervals of medians by the bootstrap, and
`curves` fits times and updates to the batch size."""

from suite.statistics.curves import (
    affine_fit,
    critical_batch_size,
    flat_batch_size,
    half_performance_batch,
    power_law_exponent,
    value_at_crossing,
)
from suite.statistics.inference import (
    CONFIDENCE,
    MAX_SEEDS,
    Interval,
    Verdict,
    holm,
    mean_interval,
    mean_p_value,
    median_interval,
    probability_above_zero,
    ratio_interval,
    seeds_to_decide,
    verdict,
)
from suite.statistics.resampling import choice_draws, median_draws, percentile_interval

__all__ = [
    "CONFIDENCE",
    "MAX_SEEDS",
    "Interval",
    "Verdict",
    "affine_fit",
    "choice_draws",
    "critical_batch_size",
    "flat_batch_size",
    "half_performance_batch",
    "holm",
    "mean_interval",
    "mean_p_value",
    "median_draws",
    "median_interval",
    "percentile_interval",
    "power_law_exponent",
    "probability_above_zero",
    "ratio_interval",
    "seeds_to_decide",
    "value_at_crossing",
    "verdict",
]
