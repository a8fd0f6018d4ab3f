"""Flat and sharp minima: the lecture's reason why a large batch should generalize worse.

Keskar et al. (2017): a small batch ends in a flat minimum of the training loss, a large one in a sharp one, where a
testing loss that is shifted a little is much higher. Here both are annealed to the same low training loss, and the
loss around the ends is measured in four ways, three of which change when a layer is multiplied by a number and the
next divided by it, though the model stays the same (Dinh et al. 2017). At a constant rate the noise of small batches
leaves a gradient at the end, whose slope is then most of Keskar's sharpness.
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
from suite.evidence.annealed import annealing_problem, at_mean_loss, left_out, losses, of_size
from suite.experiments.cell import Cell, Scope
from suite.experiments.sharpness import EXAMPLES, SHARPNESS
from suite.figures import (
    GREY,
    LARGE_COLOUR,
    SMALL_COLOUR,
    draw_intervals,
    draw_ratios,
    new_figure,
    plain_log_ticks,
    training_loss_axis,
)
from suite.formatting import bounds, listed, ratio, sentences, thousands, three_digits, with_bounds
from suite.statistics import HOLM_LEVEL, Interval, Verdict, holm, mean_interval, mean_p_value, verdict
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
IN_WORDS = {
    "trace": "the trace of the Hessian",
    "keskar": "Keskar's sharpness",
    "invariant": "the rescaling-invariant eigenvalue",
}
MAX_SEEDS = 5


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Small and Large, annealed until the training examples are fitted."""
    seeds = min(MAX_SEEDS, scope.seeds)
    return [
        Cell(SHARPNESS, workload.name, scope.training_backend, batch_size, seeds, Protocol.annealed_to_fit(workload))
        for batch_size in (workload.small, workload.large)
        if batch_size in scope.training_batch_sizes
    ]


# What it computes


@dataclass(frozen=True)
class Measure:
    """One measure of sharpness of Small and Large at the fitted loss."""

    small: dict[int, float]
    """By seed."""
    large: dict[int, float]
    small_median: float
    large_median: float
    large_over_small: Interval
    """Geometric mean over the seeds in which both are positive."""
    verdict: Verdict
    """Of the largest eigenvalue, which the row judges, by its interval; of the others after Holm's correction over
    all measures."""
    course: dict[float, Interval]
    """Large over Small by training loss, from the target loss to the fitted loss."""


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
    left_out: tuple[Problem, ...]
    """Seeds that the comparison leaves out."""


def analyse(evidence: Evidence) -> Findings:
    facts, planned = evidence.facts, evidence.of(SHARPNESS.name)
    p_values = holm([mean_p_value(_log_ratios(*_pair(planned, facts, name, facts.fitted_loss))) for name in NAMES])
    measures = {
        name: _measure(planned, facts, name, is_judged=name == EIGENVALUE or p_holm < HOLM_LEVEL)
        for name, p_holm in zip(NAMES, p_values, strict=True)
    }
    problem = annealing_problem(planned, facts, facts.fitted_loss)
    pair = _pair(planned, facts, EIGENVALUE, facts.fitted_loss)
    return Findings(
        facts,
        backend_of(planned),
        comparison=problem or Comparison(measures[EIGENVALUE].large_over_small, *map(_geometric_mean, pair)),
        measures=measures,
        sharper_seeds=int((_log_ratios(*pair) > 0).sum()),
        left_out=() if problem else left_out(planned, facts, facts.fitted_loss),
    )


def _measure(rows: pd.DataFrame, facts: Facts, name: str, is_judged: bool) -> Measure:
    """Undecided where it is not to be judged, after the correction."""
    small, large = _pair(rows, facts, name, facts.fitted_loss)
    course = {float(loss): _ratio(rows, facts, name, loss) for loss in losses(facts)}
    interval = course[facts.fitted_loss]
    return Measure(
        small=small.to_dict(),
        large=large.to_dict(),
        small_median=float(small.median()),
        large_median=float(large.median()),
        large_over_small=interval,
        verdict=verdict(interval, 1) if is_judged else Verdict.UNDECIDED,
        course=course,
    )


def _ratio(rows: pd.DataFrame, facts: Facts, name: str, loss: float) -> Interval:
    """Large over Small where the training loss is `loss`, geometric mean over seeds."""
    return mean_interval(_log_ratios(*_pair(rows, facts, name, loss))).map(np.exp)


def _pair(rows: pd.DataFrame, facts: Facts, name: str, loss: float) -> tuple[pd.Series, pd.Series]:
    """`_values` of Small and of Large."""
    small, large = (_values(rows, size, name, loss) for size in (facts.small, facts.large))
    return small, large


def _values(rows: pd.DataFrame, batch_size: int, name: str, loss: float) -> pd.Series:
    """The measure of each seed (index) where the mean training loss falls to `loss`; its log is interpolated between
    lengths."""
    ends = of_size(rows, batch_size)
    values = ends.reindex(columns=[name])[name].astype(float)
    logs = at_mean_loss(ends.assign(log=np.log(values.where(values > 0))), loss, "log")
    return np.exp(logs.dropna()).rename(index=int)


def _log_ratios(small: pd.Series, large: pd.Series) -> np.ndarray:
    """Log of `large` over `small`, seed by seed."""
    return np.log((large / small).dropna().to_numpy())


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
    others = OtherMeasures({name: measure.verdict for name, measure in _other_measures(findings).items()})
    return [
        Row.of(
            findings.comparison,
            backend=findings.backend,
            protocol=Protocol.annealed_to_fit(facts),
            small=facts.small,
            large=facts.large,
            measure="largest Hessian eigenvalue, Large / Small",
            unit="largest eigenvalue",
            flags=(*findings.left_out, others) if isinstance(findings.comparison, Comparison) else (),
        )
    ]


def _other_measures(findings: Findings) -> dict[str, Measure]:
    return {name: measure for name, measure in findings.measures.items() if name != EIGENVALUE}


# How it is shown


def answer(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return f"The sharpness at the two batch sizes could not be compared: {findings.comparison}."
    eigenvalue = findings.measures[EIGENVALUE]
    until = f"Annealed to a training loss of {three_digits(findings.facts.fitted_loss)}"
    if eigenvalue.verdict == Verdict.UNDECIDED:
        return (
            f"{until}, it is undecided which batch size ends at the sharper point: the largest Hessian eigenvalue of "
            f"the large batch is {with_bounds(eigenvalue.large_over_small)} times that of the small one."
        )
    shape = "sharper" if eigenvalue.verdict == Verdict.HOLDS else "flatter"
    return (
        f"{until}, the large batch ends at the {shape} point: its largest Hessian eigenvalue is "
        f"{three_digits(eigenvalue.large_over_small.estimate)} times that of the small batch. "
        f"{_agreement(findings, shape)}"
    )


def _agreement(findings: Findings, shape: str) -> str:
    """Which of the other measures have the same verdict."""
    others, eigenvalue = _other_measures(findings), findings.measures[EIGENVALUE]
    agreeing = [IN_WORDS[name] for name, measure in others.items() if measure.verdict == eigenvalue.verdict]
    measures = f"Of {len(others)} other measures, {listed(agreeing) if agreeing else 'none'}"
    shows = "show" if len(agreeing) > 1 else "shows"
    return f"{measures} also {shows} the large batch as significantly {shape} (with Holm's correction)."


def figure(findings: Findings) -> Figure | None:
    """The largest eigenvalue of every seed, Small beside Large; the ratios of two measures over the training loss;
    and those of all four at the fitted loss."""
    eigenvalue, facts = findings.measures[EIGENVALUE], findings.facts
    if not eigenvalue.small and not eigenvalue.large:
        return None
    figure = new_figure(9.6, 7.2)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    (pair_axes, course_axes), ratio_axes = upper.subplots(1, 2, width_ratios=(1, 1.4)), lower.subplots()
    _draw_pairs(pair_axes, eigenvalue)
    pair_axes.set_xticks([0, 1], [f"Small\n{thousands(facts.small)}", f"Large\n{thousands(facts.large)}"])
    _draw_courses(course_axes, findings)
    draw_ratios(ratio_axes, {NAMES[name]: measure.large_over_small for name, measure in findings.measures.items()})
    ratio_axes.set_xlabel(f"Large / Small at training loss {three_digits(facts.fitted_loss)}, mean with 95% interval")
    return figure


def _draw_courses(axes: Axes, findings: Findings) -> None:
    """Large over Small by the largest eigenvalue and by Keskar's measure, over the training loss."""
    for name, place, style in ((EIGENVALUE, 1, {"color": "C0"}), ("keskar", 0.96, {"color": "C3", "fmt": "s--"})):
        course = findings.measures[name].course
        places = [place * loss for loss in course]
        draw_intervals(axes, places, list(course.values()), **{"fmt": "o-", "label": NAMES[name]} | style)
    axes.axhline(1, color="black", linewidth=1)
    training_loss_axis(axes, losses(findings.facts))
    axes.set_yscale("log")
    plain_log_ticks(axes.yaxis)
    axes.set_ylabel("Large / Small")
    axes.legend(loc="best")


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
    ratios = [
        f"{NAMES[name]} {with_bounds(measure.large_over_small, ratio)}"
        for name, measure in _other_measures(findings).items()
    ]
    return sentences(
        "Learning rates fall linearly to 0 from peaks that are tuned for each batch size. At a training loss of "
        f"{three_digits(facts.fitted_loss)} the largest eigenvalue is {three_digits(comparison.small)} with batch "
        f"size {thousands(facts.small)} and {three_digits(comparison.large)} with {thousands(facts.large)}.",
        f"The largest eigenvalue is higher with the large batch in {findings.sharper_seeds} of "
        f"{findings.measures[EIGENVALUE].large_over_small.n} seeds.",
        f"For the other measures the ratio Large / Small is: {', '.join(ratios)}.",
        _disagreement_sentence(findings),
        _course_sentence(findings),
        f"All {len(findings.measures)} measures are computed from the loss on at most {thousands(EXAMPLES)} "
        "training examples, in evaluation mode.",
    )


def _disagreement_sentence(findings: Findings) -> str:
    verdicts = {measure.verdict for measure in findings.measures.values()}
    if not {Verdict.HOLDS, Verdict.FAILS} <= verdicts:
        return ""
    return "The measures disagree: “sharp” has no single meaning here."


def _course_sentence(findings: Findings) -> str:
    """How two of the ratios change with the training loss."""
    first, *_, last = findings.measures[EIGENVALUE].course
    if first == last:
        return ""
    changes = [
        f"from {with_bounds(course[first], ratio)} to {with_bounds(course[last], ratio)} for {name}"
        for name, course in (
            ("the largest eigenvalue", findings.measures[EIGENVALUE].course),
            ("Keskar's sharpness", findings.measures["keskar"].course),
        )
    ]
    return (
        f"As the training loss falls from {three_digits(first)} to {three_digits(last)}, the ratio Large / Small "
        f"goes {' and '.join(changes)}."
    )


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
    says="Annealed to the same low training loss, a small batch ends at a flatter point than a large one.",
    rule=(
        "Holds when the 95% interval of the ratio (largest Hessian eigenvalue at Large) / (largest Hessian "
        "eigenvalue at Small), both annealed from tuned peak rates to the same low mean training loss, lies above 1; "
        "the ratio is the geometric mean over seeds."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
