"""The way to an advice: time, train at two batch sizes, predict, recommend, check."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from suite.advise.measured import Timing, Trained, Trainer, fit, run
from suite.advise.prediction import Curve, rate_rule
from suite.advise.recommendation import Recommendation, predicted, recommend
from suite.advise.verification import Checked, settled, timed, verify

BELOW, ABOVE = 1 / 4, 4
"""The anchor's batch size over the noise scale at the start, and that of the second training over the noise scale
along the anchor's: well inside either arm of the hyperbola."""
DEAR = 2
"""The second training is expected to take at most so many times as long as the anchor."""


@dataclass(frozen=True)
class Advice:
    """The answer, and what it rests on."""

    timings: tuple[Timing, ...]
    status: str = "ok"
    """`ok`, or why there is none: `out_of_memory` where not one batch size could be run, `target_not_reached`, or
    `reached_at_start`."""
    tried: Trained | None = None
    """The anchor, also where it did not reach the target."""
    curve: Curve | None = None
    before: pd.DataFrame | None = None
    """`recommendation.predicted` before any check."""
    table: pd.DataFrame | None = None
    """The same after it."""
    checked: tuple[Checked, ...] = ()
    verified: bool = False
    """Whether the answer was to be checked."""
    recommendation: Recommendation | None = None

    @property
    def missed(self) -> bool:
        """Whether a prediction lies outside its own interval."""
        return not all(one.as_predicted for one in self.checked)


def advise(trainer: Trainer, timings: Sequence[Timing], check: bool, say: Callable[[str], None]) -> Advice:
    """The advice for what `trainer` trains and `timings` has timed; `say` is told what is being done."""
    sizes = [timing.batch_size for timing in run(timings)]
    if not sizes:
        return Advice(tuple(timings), "out_of_memory")
    small = anchor_size(trainer.noise_scale_at_start(), timings)
    say(f"tuning and training at batch size {small}")
    anchor = trainer.anchored(small)
    if not anchor.reached:
        return Advice(tuple(timings), "target_not_reached", anchor)
    if anchor.at_start:
        return Advice(tuple(timings), "reached_at_start", anchor)
    curve = _timed(_with_second(Curve(anchor), timings, trainer, say), trainer)
    table = before = predicted(curve, timings)
    checked, allowed = [], sizes
    if check:
        checked = verify(curve, timings, trainer, say)
        table, allowed = settled(curve, checked, timings)
    recommendation = recommend(table, allowed)
    return Advice(tuple(timings), "ok", anchor, curve, before, table, tuple(checked), check, recommendation)


def anchor_size(noise_scale: float, timings: Sequence[Timing]) -> int:
    """The largest batch size up to a quarter of the noise scale, an eighth of the largest and the half-performance
    batch: below the noise scale a training needs as many examples whatever its batch, and above the half-performance
    batch these hardly get cheaper. The middle of the lower half where the noise scale is not above zero."""
    sizes = [timing.batch_size for timing in run(timings)]
    if not noise_scale > 0:
        return sizes[len(sizes) // 4]
    update_s, example_s = fit(timings)
    most = min(BELOW * noise_scale, sizes[-1] / 8, update_s / example_s if example_s else math.inf)
    return max([size for size in sizes if size <= most], default=sizes[0])


def second_size(curve: Curve, timings: Sequence[Timing]) -> int:
    """Of the batch sizes at least four times the anchor's, the nearest to four times its noise scale with which a
    training is not expected to be dear, the smallest where all are; the largest of all where there is none."""
    time_s = {one.batch_size: one.update_s * curve.hyperbola(one.batch_size) for one in run(timings)}
    far = [size for size in time_s if size >= ABOVE * curve.anchor.batch_size]
    cheap = [size for size in far if time_s[size] <= DEAR * time_s[curve.anchor.batch_size]] or far[:1]
    return min(cheap, key=lambda size: abs(math.log(size / (ABOVE * curve.b))), default=max(time_s))


def _with_second(curve: Curve, timings: Sequence[Timing], trainer: Trainer, say: Callable[[str], None]) -> Curve:
    """`curve` with a second training; as it is where there is no other size or that does not reach the target."""
    large = second_size(curve, timings)
    if large == curve.anchor.batch_size:
        return curve
    say(f"training at batch size {large}")
    second = trainer.trained(large, rate_rule(curve, large), curve.hyperbola(large), fresh=False)
    return Curve(curve.anchor, (second,)) if second.reached else curve


def _timed(curve: Curve, trainer: Trainer) -> Curve:
    """`curve` with the seconds of an update in its trainings."""
    anchor, *others = timed(trainer, curve.trained)
    return replace(curve, anchor=anchor, others=tuple(others))
