"""Checking an answer: what it recommends and what lies beside that is trained to the target, and timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from suite.advise.measured import Timing, Trained, Trainer
from suite.advise.prediction import Curve, one_more
from suite.advise.recommendation import cheapest, neighbours, predicted, recommend, to_target

MOST = 6
"""Batch sizes that are checked at most: one that turns out to be faster has neighbours of its own."""


@dataclass(frozen=True)
class Checked:
    """A batch size, as predicted before any check and as measured."""

    trained: Trained
    predicted: pd.Series
    """The row of `recommendation.predicted`."""
    update_s: float = math.inf
    """Mean seconds of an update in its training; infinite where the target was not reached."""

    @property
    def time_s(self) -> float:
        """Seconds to the target: updates, in their geometric mean over the seeds, times that."""
        return self.trained.typical_updates * self.update_s

    @property
    def as_predicted(self) -> bool:
        """Whether both updates and seconds lie in the predicted intervals."""
        values = {"updates": self.trained.typical_updates, "time_s": self.time_s}
        return all(
            not (value < self.predicted[f"{name}_low"] or value > self.predicted[f"{name}_high"])
            for name, value in values.items()
        )


def verify(curve: Curve, timings: Sequence[Timing], trainer: Trainer, say: Callable[[str], None]) -> list[Checked]:
    """Train and time the recommended batch size, its neighbours and the cheapest; then the neighbours of whichever
    turns out to be the fastest."""
    table = predicted(curve, timings)
    sizes, known, checked = list(table.index), curve, []
    beside = set(neighbours(recommend(table, sizes).fastest, sizes))
    untuned = {cheapest(table, sizes)} - beside
    wanted = beside | untuned
    while missing := sorted(wanted - {one.trained.batch_size for one in checked})[: MOST - len(checked)]:
        trained = []
        for size in missing:
            say(f"checking batch size {size}")
            how = (size, *predicted(known, timings).loc[size, ["learning_rate", "updates"]])
            trained.append(trainer.at_rate(*how) if size in untuned else trainer.trained(*how))
            known = informed(known, trained[-1:])
        timed = iter(trainer.update_seconds([one for one in trained if one.reached]))
        update_s = [next(timed) if one.reached else math.inf for one in trained]
        checked += map(Checked, trained, (table.loc[size] for size in missing), update_s)
        wanted |= set(neighbours(min(checked, key=lambda one: one.time_s).trained.batch_size, sizes))
    return checked


def informed(curve: Curve, further: Sequence[Trained]) -> Curve:
    """The curve that knows of what was trained besides."""
    return replace(curve, others=(*curve.others, *(one for one in further if one.reached)))


def settled(curve: Curve, checked: Sequence[Checked], timings: Sequence[Timing]) -> tuple[pd.DataFrame, set[int]]:
    """`recommendation.predicted` after the check, from the curve that knows of it, and the batch sizes that were
    trained. Where a prediction missed its own interval, what was measured stands instead of what any curve says, and
    only those batch sizes count."""
    known = informed(curve, [one.trained for one in checked])
    table, trained = predicted(known, timings), {one.batch_size for one in known.trained}
    measured = [one for one in checked if one.trained.reached]
    if all(one.as_predicted for one in checked) or not measured:
        return table, trained
    for one in measured:
        updates = one_more(one.trained)
        for name, value in to_target(one.trained.batch_size, updates, updates, one.update_s).items():
            table.loc[one.trained.batch_size, name] = value
    return table, {one.trained.batch_size for one in measured}
