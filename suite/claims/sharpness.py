"""Flat and sharp minima: the lecture's reason why a large batch should generalize worse.

Keskar et al. (2017): a small batch ends in a flat minimum of the training loss, a large one in a sharp one, where a
testing loss that is shifted a little is much higher. Here both are trained to the same training loss, and the loss
around them is measured in four ways, three of which change when a layer is multiplied by a number and the next
divided by it, though the model stays the same (Dinh et al. 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims import minima_line
from suite.claims.claim import Claim, Evidence, Facts, Illustration, Row, backend_of
from suite.claims.drawing import (
    GREY,
    LARGE_COLOUR,
    SMALL_COLOUR,
    bounds,
    new_figure,
    ratios_below_one_another,
    thousands,
    three_digits,
)
from suite.claims.trained import troubles
from suite.instruments.sharpness import EXAMPLES, SHARPNESS
from suite.statistics import Interval, mean_interval, probability_above_zero, verdict
from suite.training.protocol import Protocol, TargetLoss
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "largest Hessian eigenvalue, Large / Small"
MEASURES = {
    "largest_eigenvalue": "largest eigenvalue of the Hessian",
    "trace": "trace of the Hessian",
    "keskar": "Keskar's sharpness",
    "invariant": "eigenvalue that rescaled layers leave alone",
}
MOST_SEEDS = 5
LOOKS = 1.03
"""Looked at so often that both end close below the target: on digits at 0.0915 and 0.0986 for 0.1."""


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Small and Large, trained to the target loss; and the line between them."""
    protocol = target_protocol(workload)
    sharp = [
        Cell(SHARPNESS, workload.name, scope.training_backend, batch_size, min(MOST_SEEDS, scope.seeds), protocol)
        for batch_size in (workload.small, workload.large)
        if batch_size in scope.training_batch_sizes
    ]
    return [*sharp, *minima_line.cells(workload, scope, protocol)]


def target_protocol(of: Facts | Workload) -> Protocol:
    return Protocol.of(of, TargetLoss(of.target_loss, of.max_updates, LOOKS))


def measured(evidence: Evidence) -> pd.DataFrame:
    """The rows of the solutions themselves."""
    return evidence.rows[evidence.rows["measurement"] == SHARPNESS.name]


def ratios(evidence: Evidence, measure: str) -> np.ndarray:
    """Log of the measure at Large over that at Small, seed by seed; measures that are not positive left out."""
    small, large = (values(evidence, size, measure) for size in sizes(evidence.facts))
    return np.log((large / small).where((large > 0) & (small > 0)).dropna().to_numpy())


def values(evidence: Evidence, batch_size: int, measure: str) -> pd.Series:
    rows = measured(evidence)
    rows = rows[(rows["status"] == "ok") & (rows["batch_size"] == batch_size)]
    return rows.set_index("seed")[measure].sort_index()


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the Hessian's largest eigenvalue at Large over that at Small, both trained until the training loss
    falls below the same target, lies above 1 with its whole interval.

    The geometric mean over seeds: Student's t on the differences of logs, paired by initial parameters and split.
    """
    facts, rows = evidence.facts, measured(evidence)
    shared = {
        "backend": backend_of(rows),
        "protocol": str(target_protocol(facts)),
        "small": facts.small,
        "large": facts.large,
        "measure": MEASURE,
        "unit": "largest eigenvalue",
    }
    status, reason = troubles(rows, facts)
    if status != "ok":
        return [Row(**shared, status=status, flags=reason)]
    small, large = (np.exp(np.log(values(evidence, size, "largest_eigenvalue")).mean()) for size in sizes(facts))
    others = effects(evidence)
    interval = others.pop("largest_eigenvalue")
    flags = ", ".join(f"{MEASURES[measure]} {verdict(other, 1)}" for measure, other in others.items())
    return [
        Row.judged(
            interval,
            **shared,
            value_small=float(small),
            value_large=float(large),
            flags=f"by other measures: {flags}",
        )
    ]


def sizes(facts: Facts) -> tuple[int, int]:
    return facts.small, facts.large


def effects(evidence: Evidence) -> dict[str, Interval]:
    """Each measure at Large over that at Small, geometric mean over seeds."""
    return {measure: mean_interval(ratios(evidence, measure)).map(np.exp) for measure in MEASURES}


def draw(evidence: Evidence) -> Figure:
    """The largest eigenvalue of every seed, Small beside Large; and the ratio of each of the four measures."""
    figure = new_figure(9.6, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    facts = evidence.facts
    pair = [values(evidence, size, "largest_eigenvalue") for size in sizes(facts)]
    for seed in pair[0].index.intersection(pair[1].index):
        left.plot([0, 1], [pair[0][seed], pair[1][seed]], color=GREY, alpha=0.5, linewidth=1, zorder=1)
    for place, (one, colour) in enumerate(zip(pair, (SMALL_COLOUR, LARGE_COLOUR), strict=True)):
        left.plot([place] * len(one), one, "o", color=colour)
    left.set_xticks([0, 1], [f"Small\n{thousands(facts.small)}", f"Large\n{thousands(facts.large)}"])
    left.set_xlabel("batch size (examples)")
    left.set_xlim(-0.4, 1.4)
    left.set_ylim(bottom=0)
    left.set_ylabel("largest eigenvalue of the Hessian")
    ratios_below_one_another(right, {MEASURES[measure]: ratio for measure, ratio in effects(evidence).items()})
    right.set_xlabel("Large / Small, mean over seeds with 95% interval")
    return figure


def explain(evidence: Evidence, rows: list[Row]) -> str:
    facts, row = evidence.facts, rows[0]
    if row.status != "ok":
        return (
            f"Trained to a training loss of {facts.target_loss:g}, the comparison cannot be made: {row.flags}. "
            f"{minima_line.sentence(evidence)}"
        )
    wins = probability_above_zero(ratios(evidence, "largest_eigenvalue"))
    losses = [values(evidence, size, "train_loss").mean() for size in sizes(facts)]
    others = ", ".join(
        f"{MEASURES[measure]} ×{three_digits(interval.estimate)} ({bounds(interval, three_digits)})"
        for measure, interval in effects(evidence).items()
        if measure != "largest_eigenvalue"
    )
    return (
        f"Trained to a training loss of {facts.target_loss:g} (they stopped at {three_digits(losses[0])} and "
        f"{three_digits(losses[1])}), the Hessian's largest eigenvalue is {three_digits(row.value_small)} with batch "
        f"size {thousands(row.small)} and {three_digits(row.value_large)} with {thousands(row.large)}. The large "
        f"batch ended sharper in {wins.estimate:.0%} of {wins.n} seeds. Other measures, Large over Small: {others}. "
        f"All are of the training loss in evaluation mode, on at most {thousands(EXAMPLES)} examples; where they "
        f"disagree, sharp has no one meaning. {minima_line.sentence(evidence)}"
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    table = []
    for measure, interval in effects(evidence).items():
        small, large = (values(evidence, size, measure) for size in sizes(evidence.facts))
        table.append(
            {
                "measure": MEASURES[measure],
                "Small, median": three_digits(small.median()),
                "Large, median": three_digits(large.median()),
                "Large / Small": three_digits(interval.estimate),
                "95% interval": bounds(interval, three_digits),
            }
        )
    return pd.DataFrame(table)


claim = Claim(
    name="sharpness",
    row=7,
    title="Flat and sharp minima",
    small="Flat",
    large="Sharp",
    says="Trained to the same training loss, a small batch ends in a flatter minimum than a large one.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    illustrations=(Illustration(minima_line.draw, minima_line.TITLE, minima_line.SAYS),),
)
