"""The critical batch size that the updates to the target at several batch sizes show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence.problem import Problem, why_none
from suite.evidence.tuned_updates import TunedUpdates
from suite.statistics import Interval, critical_batch_size, percentile_interval
from suite.status import Status

MIN_BATCH_SIZES = 3
"""The fewest batch sizes whose updates are fitted."""
FITS = 200
"""Bootstrap draws of which the critical batch size is fitted."""


@dataclass(frozen=True)
class CriticalBatch:
    """S(B) = S_min (1 + B_crit / B), fitted to the median updates to the target, where these are finite."""

    min_updates: float
    interval: Interval
    """B_crit, in examples."""

    @classmethod
    def of(cls, tuned: TunedUpdates) -> CriticalBatch | Problem:
        """The fit to the trainings, with a percentile interval, or why they show no critical batch size."""
        fit = _fit(pd.Series(tuned.medians, dtype=float))
        if fit is None:
            return _problem(tuned)
        min_updates, estimate = fit
        fits = filter(None, (_fit(draw) for _, draw in tuned.draws.head(FITS).iterrows()))
        seeds = int(tuned.updates.count().min())
        return cls(min_updates, percentile_interval(estimate, [critical for _, critical in fits], seeds))


def _fit(medians: pd.Series) -> tuple[float, float] | None:
    """S_min and B_crit of `medians` by batch size; None where there are too few. Left out are infinite medians, and
    those of 0: draws whose learning rate may cost infinitely many updates."""
    medians = medians[(medians > 0) & np.isfinite(medians)]
    return critical_batch_size(medians.index, medians) if len(medians) >= MIN_BATCH_SIZES else None


def _problem(tuned: TunedUpdates) -> Problem:
    """Why fewer than MIN_BATCH_SIZES medians are finite."""
    if tuned.updates.empty:
        return why_none(tuned.rows)
    if len(tuned.medians) < MIN_BATCH_SIZES:
        return Problem(Status.UNAVAILABLE, "fewer than three batch sizes were trained to the target")
    return Problem(
        Status.TARGET_NOT_REACHED, "more than half of the seeds reached the target at fewer than three batch sizes"
    )
