"""Checking an answer: what it recommends and what lies beside that is trained to the target, and timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from suite.advise.measured import Timing, Trained, Trainer
from suite.advise.prediction import Curve
from suite.advise.recommendation import cheapest, neighbours, predicted, recommend, with_measured

MOST = 6
"""Batch sizes that are checked at most: one that turns out to be faster has neighbours of its own."""


@dataclass(frozen=True)
class Checked:
    """A batch size, as predicted before any check and as measured."""

    trained: Trained
    predicted: pd.Series
    """The row of `recommendation.predicted` for as many trainings."""

    @property
    def as_predicted(self) -> bool:
        """Whether both updates and seconds lie in the predicted intervals."""
        values = {"updates": self.trained.typical_updates, "time_s": self.trained.time_s}
        return all(
            not (value < self.predicted[f"{name}_low"] or value > self.predicted[f"{name}_high"])
            for name, value in values.items()
        )


def verify(curve: Curve, timings: Sequence[Timing], trainer: Trainer, say: Callable[[str], None]) -> list[Checked]:
    """Train and time the recommended batch size, its neighbours and the cheapest; then whichever turns out to be the
    fastest, with its neighbours. What the curve rests on was trained and timed before: of that only the fastest is
    trained afresh."""
    table = predicted(curve, timings)
    sizes, known, checked, before = list(table.index), curve, [], {one.batch_size for one in curve.trained}
    fastest = recommend(table, sizes).fastest
    beside = set(neighbours(fastest, sizes))
    untuned = {cheapest(table, sizes)} - beside
    wanted = {fastest} | (beside | untuned) - before
    while missing := sorted(wanted - {one.trained.batch_size for one in checked})[: MOST - len(checked)]:
        trained = []
        for size in missing:
            say(f"checking batch size {size}")
            how = (size, *predicted(known, timings).loc[size, ["learning_rate", "updates"]])
            trained.append(trainer.at_rate(*how) if size in untuned else trainer.trained(*how))
            known = informed(known, trained[-1:])
        trained = timed(trainer, trained)
        checked += [Checked(one, _expected(curve, timings, one)) for one in trained]
        times_s = {one.batch_size: one.time_s for one in (*curve.trained, *(one.trained for one in checked))}
        fastest = min(times_s, key=times_s.get)
        wanted |= {fastest} | set(neighbours(fastest, sizes)) - before
    return checked


def refine(trained: Trained, trainer: Trainer, say: Callable[[str], None]) -> Trained | None:
    """What was `trained`, at a rate that takes its replicas fewer updates; None where none was found. It is not timed
    again: an update takes as long at any rate."""
    say(f"refining the rate at batch size {trained.batch_size}")
    found = trainer.refined(trained)
    return replace(found, update_s=trained.update_s) if found.typical_updates < trained.typical_updates else None


def _expected(curve: Curve, timings: Sequence[Timing], trained: Trained) -> pd.Series:
    """What `curve`, which does not know of it, predicts of what was `trained`."""
    return predicted(curve, timings, len(trained.updates)).loc[trained.batch_size]


def timed(trainer: Trainer, trained: Sequence[Trained]) -> list[Trained]:
    """The same with the seconds of their updates, where they reached the target."""
    seconds = iter(trainer.update_seconds([one for one in trained if one.reached]))
    return [replace(one, update_s=next(seconds)) if one.reached else one for one in trained]


def informed(curve: Curve, further: Sequence[Trained]) -> Curve:
    """The curve that knows of what was trained besides."""
    return replace(curve, others=(*curve.others, *(one for one in further if one.reached)))


def settled(curve: Curve, checked: Sequence[Checked], timings: Sequence[Timing]) -> tuple[pd.DataFrame, set[int]]:
    """`recommendation.predicted` after the check, and the batch sizes that may be recommended: those that were
    trained and always reached the target. What was measured of them stands instead of what any curve says; of the
    others, what the curve says that knows of it."""
    trained = [one.trained for one in checked]
    known, failed = informed(curve, trained), {one.batch_size for one in trained if not one.reached}
    table = with_measured(predicted(known, timings), known.trained, timings)
    return table, {one.batch_size for one in known.trained} - failed
