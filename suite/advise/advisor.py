"""The way to an advice: time, train at two batch sizes, predict, recommend, check, refine the rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from suite.advise.measured import Timing, Trained, Trainer, half_performance, run
from suite.advise.prediction import Curve, rate_rule
from suite.advise.recommendation import Recommendation, predicted, recommend, with_measured
from suite.advise.verification import Checked, refine, settled, timed, verify

BELOW, ABOVE = 1 / 4, 4
"""The anchor's batch size over the noise scale at the start, and that of the second training over the noise scale
along the anchor's: well inside either arm of the hyperbola, where that is not dear."""
APART = 4
"""The second batch size is at least so many times the anchor's."""
DEAR = 2
"""A second training that is expected to take more than so many times as long as the anchor's is dear."""


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
    """The same after it, before any rate was refined."""
    checked: tuple[Checked, ...] = ()
    verified: bool = False
    """Whether the answer was to be checked."""
    recommendation: Recommendation | None = None
    """From what was measured before the rate of the fastest was refined; the cheapest is the fastest where that then
    needs fewer examples."""
    refined: Trained | None = None
    """The fastest batch size at a better rate, where one was found."""
    failed: tuple[Trained, ...] = ()
    """What was trained for the prediction and did not always reach the target: it is not recommended unchecked."""

    @cached_property
    def final(self) -> pd.DataFrame:
        """`table` with the fastest batch size at its refined rate."""
        return with_measured(self.table, [self.refined], self.timings) if self.refined else self.table

    @property
    def last_trained(self) -> dict[int, Trained]:
        """The last training of each batch size that always reached the target in it, before any rate was refined."""
        last = {one.batch_size: one for one in (*self.curve.trained, *(one.trained for one in self.checked))}
        return {size: one for size, one in last.items() if one.reached}

    @property
    def missed(self) -> bool:
        """Whether something measured lies outside the interval predicted of it."""
        return not all(one.as_predicted for one in self.checked)


def advise(trainer: Trainer, timings: Sequence[Timing], check: bool, say: Callable[[str], None]) -> Advice:
    """The advice for what `trainer` trains and `timings` has timed; `say` is told what is being done."""
    sizes = [timing.batch_size for timing in run(timings)]
    if not sizes:
        return Advice(tuple(timings), "out_of_memory")
    costs = timings if trainer.as_timed else [replace(one, times_s=(1.0,)) for one in run(timings)]
    small = anchor_size(trainer.noise_scale_at_start(), costs)
    say(f"tuning and training at batch size {small}")
    anchor = trainer.anchored(small)
    if not anchor.reached:
        return Advice(tuple(timings), "target_not_reached", anchor)
    if anchor.at_start:
        return Advice(tuple(timings), "reached_at_start", anchor)
    curve, failed = _with_second(Curve(anchor), costs, trainer, say)
    curve = _timed(curve, trainer)
    table = before = predicted(curve, timings)
    checked, allowed = [], set(sizes) - {one.batch_size for one in failed}
    if check:
        checked = verify(curve, timings, trainer, say)
        table, allowed = settled(curve, checked, timings)
    if not allowed:
        return Advice(tuple(timings), "target_not_reached", checked[0].trained)
    chosen = recommend(table, allowed)
    advice = Advice(tuple(timings), "ok", anchor, curve, before, table, tuple(checked), check, chosen, failed=failed)
    return _refined(advice, trainer, say) if check else advice


def _refined(advice: Advice, trainer: Trainer, say: Callable[[str], None]) -> Advice:
    """`advice` with the fastest batch size at a better rate, where there is one."""
    chosen = advice.recommendation
    refined = refine(advice.last_trained[chosen.fastest], trainer, say)
    if refined and refined.batch_size * refined.typical_updates < advice.table.loc[chosen.cheapest, "examples"]:
        chosen = replace(chosen, cheapest=chosen.fastest)
    return replace(advice, refined=refined, recommendation=chosen)


def anchor_size(noise_scale: float, costs: Sequence[Timing]) -> int:
    """The largest batch size that exceeds neither a quarter of the noise scale nor the half-performance batch nor an
    eighth of the largest; the middle of the lower half where the noise scale is not above zero.

    A training with the half-performance batch takes less than twice as long as the fastest, however large the noise
    scale: (1 + b / B) (a + c B) at B = a / c is at most twice its minimum over B.
    """
    sizes = [timing.batch_size for timing in run(costs)]
    if not noise_scale > 0:
        return sizes[len(sizes) // 4]
    most = min(BELOW * noise_scale, half_performance(costs), sizes[-1] / 8)
    return max([size for size in sizes if size <= most], default=sizes[0])


def second_size(curve: Curve, costs: Sequence[Timing]) -> int:
    """Of the batch sizes far from the anchor's that are not dear, the nearest to four times its noise scale; the
    smallest of the far ones where all are dear, the largest there is where none is far."""
    time_s = {one.batch_size: one.update_s * curve.hyperbola(one.batch_size) for one in run(costs)}
    far = [size for size in time_s if size >= APART * curve.anchor.batch_size]
    cheap = [size for size in far if time_s[size] <= DEAR * time_s[curve.anchor.batch_size]] or far[:1]
    return min(cheap, key=lambda size: abs(math.log(size / (ABOVE * curve.b))), default=max(time_s))


def _with_second(
    curve: Curve, costs: Sequence[Timing], trainer: Trainer, say: Callable[[str], None]
) -> tuple[Curve, tuple[Trained, ...]]:
    """`curve` with a second training, or that training apart where it did not always reach the target; `curve` as it
    is where there is no other size."""
    large = second_size(curve, costs)
    if large == curve.anchor.batch_size:
        return curve, ()
    say(f"training at batch size {large}")
    second = trainer.trained(large, rate_rule(curve, large), curve.hyperbola(large), fresh=False)
    return (Curve(curve.anchor, (second,)), ()) if second.reached else (curve, (second,))


def _timed(curve: Curve, trainer: Trainer) -> Curve:
    """`curve` with the seconds of an update in its trainings."""
    anchor, *others = timed(trainer, curve.trained)
    return replace(curve, anchor=anchor, others=tuple(others))
