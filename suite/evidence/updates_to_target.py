"""Updates to the target by batch size, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suite.evidence.critical_batch import CriticalBatch
from suite.evidence.problem import Problem
from suite.evidence.tuned_updates import NeverReached, TunedUpdates


@dataclass(frozen=True)
class UpdatesToTarget:
    """Updates to the target by batch size."""

    seeds: dict[int, tuple[float, ...]]
    """Of every seed that reached the target."""
    medians: dict[int, float]
    """Over all seeds; one that never reached the target counts as infinite."""
    rates: dict[int, float]
    """Tuned learning rates."""
    critical_batch: CriticalBatch | Problem
    never_reached: tuple[NeverReached, ...]

    @classmethod
    def of(cls, tuned: TunedUpdates, where: str) -> UpdatesToTarget:
        """Of the trainings `tuned`, `where` saying which they are."""
        return cls(
            seeds={int(size): tuple(values[np.isfinite(values)]) for size, values in tuned.updates.items()},
            medians=tuned.medians,
            rates={int(size): float(rate) for size, rate in tuned.rates.items()},
            critical_batch=CriticalBatch.of(tuned),
            never_reached=tuned.all_never_reached(where),
        )
