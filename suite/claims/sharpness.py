"""Flat and sharp minima: the lecture's reason why a large batch should generalize worse.

Keskar et al. (2017): a small batch ends in a flat minimum of the training loss, a large one in a sharp one, where a
testing loss that is shifted a little is much higher. Here both are trained to the same training loss, and the loss
around the points where they reach it is measured in four ways, three of which change when a layer is multiplied by a
number and the next divided by it, though the model stays the same (Dinh et al. 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.trainings import comparison_problem
from suite.experiments.cell import Cell, Scope
from suite.experiments.sharpness import EXAMPLES, SHARPNESS
from suite.figures import GREY, LARGE_COLOUR, SMALL_COLOUR, draw_ratios, new_figure
from suite.formatting import bounds, ratio, sentences, thousands, three_digits, with_bounds
from suite.statistics import Interval, Verdict, mean_interval, verdict
from suite.status import Status
from suite.training.budgets import TargetLoss
from suite.training.protocol import Protocol
from suite.workloads import Workload

EIGENVALUE = "largest_eigenvalue"
"""The measure that the row judges."""
NAMES = {
    EIGENVALUE: "largest eigenvalue of the Hessian",
    "trace": "trace of the Hessian",
    "keskar": "Keskar's sharpness",
    "invariant": "rescaling-invariant eigenvalue",
}
MAX_SEEDS = 5
EVALUATION_GROWTH = 1.03
"""Updates at an evaluation over those at the evaluation before.

A training ends at the first evaluation below the target. With evaluations this close Small and Large both end close
below it: on digits at 0.0915 and 0.0986 for a target of 0.1.
"""


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Small and Large, trained to the target loss."""
    protocol, seeds = target_protocol(workload), min(MAX_SEEDS, scope.seeds)
    return [
        Cell(SHARPNESS, workload.name, scope.training_backend, batch_size, seeds, protocol)
        for batch_size in (workload.small, workload.large)
        if batch_size in scope.training_batch_sizes
    ]


def target_protocol(workload: Facts | Workload) -> Protocol:
    """The training to the target loss."""
    return Protocol.of(workload, TargetLoss(workload.target_loss, workload.max_updates, EVALUATION_GROWTH))


# What it computes


@dataclass(frozen=True)
class Measure:
    """One measure of sharpness at the solutions of Small and Large."""

    small: dict[int, float]
    """By seed."""
    large: dict[int, float]
    small_median: float
    large_median: float
    large_over_small: Interval
    """Geometric mean over the seeds in which both are positive."""
    verdict: Verdict


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    comparison: Comparison | Problem
    """The largest eigenvalue at Large over that at Small."""
    measures: dict[str, Measure]
    """By the names in NAMES."""
    sharper_seeds: int
    """Seeds in which the largest eigenvalue is higher at Large."""
    losses: tuple[float, float]
    """The training loss at which Small and Large stopped, means over seeds."""


def analyse(evidence: Evidence) -> Findings:
    facts, planned = evidence.facts, evidence.of(SHARPNESS.name)
    measures = {name: _measure(planned, facts, name) for name in NAMES}
    problem = comparison_problem(planned, facts)
    pair = [_values(planned, size, EIGENVALUE) for size in (facts.small, facts.large)]
    small_loss, large_loss = (_values(planned, size, "train_loss") for size in (facts.small, facts.large))
    return Findings(
        facts,
        backend_of(planned),
        comparison=problem or Comparison(measures[EIGENVALUE].large_over_small, *map(_geometric_mean, pair)),
        measures=measures,
        sharper_seeds=int((_log_ratios(*pair) > 0).sum()),
        losses=(float(small_loss.mean()), float(large_loss.mean())),
    )


def _measure(rows: pd.DataFrame, facts: Facts, name: str) -> Measure:
    small, large = (_values(rows, size, name) for size in (facts.small, facts.large))
    interval = mean_interval(_log_ratios(small, large)).map(np.exp)
    return Measure(
        small=small.to_dict(),
        large=large.to_dict(),
        small_median=float(small.median()),
        large_median=float(large.median()),
        large_over_small=interval,
        verdict=verdict(interval, 1),
    )


def _values(rows: pd.DataFrame, batch_size: int, column: str) -> pd.Series:
    """`column` of each seed (index) that reached the target."""
    rows = rows[(rows["status"] == Status.OK) & (rows["batch_size"] == batch_size)]
    values = rows.set_index(rows["seed"].astype(int)).reindex(columns=[column])[column]
    return values.astype(float).sort_index()


def _log_ratios(small: pd.Series, large: pd.Series) -> np.ndarray:
    """Log of `large` over `small`, seed by seed; seeds in which one is not positive are left out."""
    return np.log((large / small).where((large > 0) & (small > 0)).dropna().to_numpy())


def _geometric_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values).mean()))


# How it is judged


@dataclass(frozen=True)
class OtherMeasures:
    """The verdicts by the other measures of sharpness."""

    verdicts: dict[str, Verdict]
    """By the names in NAMES."""

    def __str__(self) -> str:
        verdicts = [f"{NAMES[name]} {by_measure}" for name, by_measure in self.verdicts.items()]
        return f"by other measures: {', '.join(verdicts)}"


def judge(findings: Findings) -> list[Row]:
    facts = findings.facts
    verdicts = {name: measure.verdict for name, measure in _other_measures(findings).items()}
    return [
        Row.of(
            findings.comparison,
            backend=findings.backend,
            protocol=target_protocol(facts),
            small=facts.small,
            large=facts.large,
            measure="largest Hessian eigenvalue, Large / Small",
            unit="largest eigenvalue",
            flags=(OtherMeasures(verdicts),) if isinstance(findings.comparison, Comparison) else (),
        )
    ]


def _other_measures(findings: Findings) -> dict[str, Measure]:
    return {name: measure for name, measure in findings.measures.items() if name != EIGENVALUE}


# How it is shown


def answer(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return f"The sharpness at the two batch sizes could not be compared: {findings.comparison}."
    eigenvalue = findings.measures[EIGENVALUE]
    where = f"measured where training reached loss {findings.facts.target_loss:g}"
    if eigenvalue.verdict == Verdict.UNDECIDED:
        return (
            f"Whether the large batch ends at the sharper point is undecided, {where}: its largest Hessian "
            f"eigenvalue is {with_bounds(eigenvalue.large_over_small)} times that of the small batch."
        )
    shape = "sharper" if eigenvalue.verdict == Verdict.HOLDS else "flatter"
    agreeing = sum(measure.verdict == eigenvalue.verdict for measure in findings.measures.values())
    return (
        f"By {agreeing} of {len(findings.measures)} measures the large batch ends at the {shape} point, {where}: its "
        f"largest Hessian eigenvalue is {three_digits(eigenvalue.large_over_small.estimate)} times that of the small "
        "batch."
    )


def figure(findings: Findings) -> Figure | None:
    """The largest eigenvalue of every seed, Small beside Large; and the ratio of each of the four measures."""
    eigenvalue, facts = findings.measures[EIGENVALUE], findings.facts
    if not eigenvalue.small and not eigenvalue.large:
        return None
    figure = new_figure(9.6, 3.6)
    pair_axes, ratio_axes = figure.subplots(1, 2, width_ratios=(1, 1.6))
    _draw_pairs(pair_axes, eigenvalue)
    pair_axes.set_xticks([0, 1], [f"Small\n{thousands(facts.small)}", f"Large\n{thousands(facts.large)}"])
    draw_ratios(ratio_axes, {NAMES[name]: measure.large_over_small for name, measure in findings.measures.items()})
    ratio_axes.set_xlabel("Large / Small, mean over seeds with 95% interval")
    return figure


def _draw_pairs(axes: Axes, measure: Measure) -> None:
    for seed in sorted(measure.small.keys() & measure.large.keys()):
        values = [measure.small[seed], measure.large[seed]]
        axes.plot([0, 1], values, color=GREY, alpha=0.5, linewidth=1, zorder=1)
    for place, values, colour in ((0, measure.small, SMALL_COLOUR), (1, measure.large, LARGE_COLOUR)):
        axes.plot([place] * len(values), list(values.values()), "o", color=colour)
    axes.set_xlabel("batch size (examples)")
    axes.set_xlim(-0.4, 1.4)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(NAMES[EIGENVALUE])


def explain(findings: Findings) -> str:
    facts, comparison = findings.facts, findings.comparison
    if isinstance(comparison, Problem):
        return ""
    small_loss, large_loss = map(three_digits, findings.losses)
    ratios = [
        f"{NAMES[name]} {with_bounds(measure.large_over_small, ratio)}"
        for name, measure in _other_measures(findings).items()
    ]
    return sentences(
        f"Trained to a training loss of {facts.target_loss:g} (the trainings stopped at {small_loss} and "
        f"{large_loss}), the largest eigenvalue is {three_digits(comparison.small)} with batch size "
        f"{thousands(facts.small)} and {three_digits(comparison.large)} with {thousands(facts.large)}.",
        f"The largest eigenvalue is higher with the large batch in {findings.sharper_seeds} of "
        f"{findings.measures[EIGENVALUE].large_over_small.n} seeds.",
        f"For the other measures the ratio Large / Small is: {', '.join(ratios)}.",
        _disagreement_sentence(findings),
        f"All four are computed from the training loss of at most {thousands(EXAMPLES)} examples in evaluation mode.",
    )


def _disagreement_sentence(findings: Findings) -> str:
    if len({measure.verdict for measure in findings.measures.values()}) == 1:
        return ""
    return "The measures disagree: “sharp” has no single meaning here."


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "measure": NAMES[name],
            "Small, median": _number(measure.small_median),
            "Large, median": _number(measure.large_median),
            "Large / Small": _number(measure.large_over_small.estimate),
            "95% interval": bounds(measure.large_over_small),
        }
        for name, measure in findings.measures.items()
    )


def _number(value: float) -> str:
    return "–" if math.isnan(value) else three_digits(value)


claim = Claim(
    name="sharpness",
    row=7,
    title="Flat and sharp minima",
    small="Flat",
    large="Sharp",
    says="Trained to the same training loss, a small batch ends at a flatter point than a large one.",
    rule=(
        "Holds when the 95% interval of the ratio (largest Hessian eigenvalue at Large) / (largest Hessian "
        "eigenvalue at Small), both trained to the same training loss, lies above 1; the ratio is the geometric mean "
        "over seeds."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
