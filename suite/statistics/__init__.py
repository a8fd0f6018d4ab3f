"""Statistics: `inference` has intervals, tests and verdicts, `bootstrap` intervals for statistics of medians, and
`curves` fits times and updates to the batch size."""

from suite.statistics.bootstrap import (
    median_ratio_interval,
    paired_medians,
    percentile_interval,
    resampled_choices,
    resampled_medians,
)
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
    HOLM_LEVEL,
    MAX_SEEDS,
    Interval,
    Verdict,
    equivalence,
    holm,
    mean_interval,
    mean_p_value,
    median_interval,
    probability_above_zero,
    ratio_interval,
    ratio_of_estimates,
    seeds_to_decide,
    verdict,
)

__all__ = [
    "CONFIDENCE",
    "HOLM_LEVEL",
    "MAX_SEEDS",
    "Interval",
    "Verdict",
    "affine_fit",
    "critical_batch_size",
    "equivalence",
    "flat_batch_size",
    "half_performance_batch",
    "holm",
    "mean_interval",
    "mean_p_value",
    "median_interval",
    "median_ratio_interval",
    "paired_medians",
    "percentile_interval",
    "power_law_exponent",
    "probability_above_zero",
    "ratio_interval",
    "ratio_of_estimates",
    "resampled_choices",
    "resampled_medians",
    "seeds_to_decide",
    "value_at_crossing",
    "verdict",
]
