"""Gradient: noisy for Small, stable for Large.

At the same parameters, the gradient of a batch scatters about that of the whole training set. For batches drawn
without replacement its mean squared distance is (S2 / B) (1 − B / N), so that the relative noise falls like 1 / √B,
and faster near the full batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of, why_none
from suite.evidence.trainings import problems_in_words, seeds_without_value
from suite.experiments.cell import NO_BATCH_SIZE, Cell, Scope
from suite.experiments.gradient_noise import GRADIENT_NOISE, GRADIENT_VARIANCE, STAGES
from suite.figures import SMALL_COLOUR, batch_size_axis, new_figure
from suite.formatting import sentences, thousands, three_digits, with_bounds
from suite.instruments.gradient_noise import theoretical_noise
from suite.statistics import Interval, mean_interval
from suite.training.protocol import Protocol, TenthOfTraining
from suite.workloads import Workload

MAX_SEEDS = 10
"""The relative noise hardly differs from seed to seed."""


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The noise of every batch size at the same parameters, and the variance of all per-example gradients there."""
    protocol, seeds = stage_protocol(workload), min(MAX_SEEDS, scope.seeds)
    variance = Cell(GRADIENT_VARIANCE, workload.name, scope.training_backend, NO_BATCH_SIZE, seeds, protocol)
    sampled = [
        Cell(GRADIENT_NOISE, workload.name, scope.training_backend, batch_size, seeds, protocol)
        for batch_size in scope.coarse_batch_sizes
    ]
    return [variance, *sampled]


def stage_protocol(workload: Facts | Workload) -> Protocol:
    """The training that leads to the second stage."""
    return Protocol.of(workload, TenthOfTraining(workload.epochs, workload.middle))


# What it computes


@dataclass(frozen=True)
class Stage:
    """The relative noise at one stage of training."""

    sampled: dict[int, tuple[float, ...]]
    """Of every seed, by batch size."""
    deviation: float
    """√tr(Σ) / |G|, mean over seeds; NaN where no per-example gradients were taken."""
    theory: dict[int, float]
    """By batch size, from the per-example gradients, mean over seeds."""
    sampled_over_theory: float
    """Mean over seeds and batch sizes; NaN where there is no theory."""
    noise_scale: Interval | None
    """tr(Σ) / |G|² in examples, geometric mean over seeds."""
    comparison: Comparison | None
    """Small over Large, paired by seed; None where one of them is missing."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    comparison: Comparison | Problem
    """Relative noise at Small over that at Large, at the stage where the ratio is lower."""
    stage: str
    """That stage."""
    stages: dict[str, Stage]
    no_variance: tuple[Problem, ...]
    """Why the per-example gradients have no value; empty where they have one."""


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(GRADIENT_NOISE.name)
    stages = {stage: _stage(evidence, stage) for stage in STAGES}
    lower, comparison = STAGES[0], why_none(planned)
    if all(stage.comparison for stage in stages.values()):
        lower = min(STAGES, key=lambda name: _lower_bound(stages[name].comparison.effect))
        comparison = stages[lower].comparison
    no_variance = seeds_without_value(evidence.of(GRADIENT_VARIANCE.name))
    return Findings(evidence.facts, backend_of(planned), comparison, lower, stages, no_variance)


def _stage(evidence: Evidence, stage: str) -> Stage:
    rows, examples = evidence.ok(), evidence.facts.train_examples
    rows = rows[rows["stage"] == stage]
    noise = rows[rows["measurement"] == GRADIENT_NOISE.name].pivot(
        index="seed", columns="batch_size", values="relative_noise"
    )
    exact = rows[rows["measurement"] == GRADIENT_VARIANCE.name].set_index("seed")
    deviations = np.sqrt(exact["variance"]) / exact["gradient_norm"] if len(exact) else pd.Series(dtype=float)
    theory = {int(size): theoretical_noise(1.0, size, examples) * deviations for size in noise}
    quotients = [(noise[size] / theory[size]).mean() for size in theory if size < examples]
    return Stage(
        sampled={int(size): tuple(noise[size].dropna()) for size in noise},
        deviation=float(deviations.mean()),
        theory={size: float(values.mean()) for size, values in theory.items() if len(values)},
        sampled_over_theory=float(np.mean(quotients)) if len(deviations) and quotients else np.nan,
        noise_scale=_geometric_mean(deviations**2) if len(deviations) else None,
        comparison=_compared(noise, evidence.facts),
    )


def _compared(noise: pd.DataFrame, facts: Facts) -> Comparison | None:
    if not {facts.small, facts.large} <= set(noise):
        return None
    small, large = noise[facts.small], noise[facts.large]
    effect = _geometric_mean((small / large).dropna())
    return Comparison(effect, _geometric_mean(small.dropna()).estimate, _geometric_mean(large.dropna()).estimate)


def _lower_bound(interval: Interval) -> float:
    return float(np.nan_to_num(interval.low, nan=interval.estimate))


def _geometric_mean(values) -> Interval:
    return mean_interval(np.log(values)).map(np.exp)


# How it is judged


@dataclass(frozen=True)
class AtStage:
    """The stage of training at which the ratio is lower."""

    stage: str

    def __str__(self) -> str:
        return f"the lower of two ratios, {self.stage}"


def judge(findings: Findings) -> list[Row]:
    compared = isinstance(findings.comparison, Comparison)
    return [
        Row.of(
            findings.comparison,
            backend=findings.backend,
            protocol=stage_protocol(findings.facts),
            small=findings.facts.small,
            large=findings.facts.large,
            measure="relative gradient noise, Small / Large",
            unit="relative noise",
            flags=(AtStage(findings.stage),) if compared else (),
        )
    ]


# How it is shown


def answer(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return f"The noise of the gradient was not measured: {findings.comparison}."
    facts = findings.facts
    return (
        f"The gradient of a batch of {thousands(facts.small)} is {three_digits(findings.comparison.effect.estimate)} "
        f"times as noisy as that of a batch of {thousands(facts.large)}."
    )


def figure(findings: Findings) -> Figure:
    """The relative noise over the batch size at both stages, with the theory as a line."""
    figure = new_figure(9.6, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    facts = findings.facts
    for axes, (name, stage) in zip(panels, findings.stages.items(), strict=True):
        sampled = {size: values for size, values in stage.sampled.items() if size < facts.train_examples}
        if not np.isnan(stage.deviation):
            fine = np.geomspace(min([facts.small, *sampled]), 0.995 * facts.train_examples, 400)
            line = [stage.deviation * theoretical_noise(1.0, size, facts.train_examples) for size in fine]
            axes.plot(fine, line, "k--", linewidth=1, label="theory, from every example's gradient")
        for size, values in sampled.items():
            axes.plot([size] * len(values), values, ".", color=SMALL_COLOUR, alpha=0.35)
        means = [np.mean(values) for values in sampled.values()]
        axes.plot(list(sampled), means, "o", color=SMALL_COLOUR, markersize=4, label="sampled batches, each seed")
        axes.set_yscale("log")
        batch_size_axis(axes, facts)
        axes.set_title(name, pad=18)
    panels[0].set_ylabel("relative noise of the gradient")
    panels[0].legend(loc="lower left")
    return figure


def explain(findings: Findings) -> str:
    facts, comparison = findings.facts, findings.comparison
    if isinstance(comparison, Problem):
        return ""
    return sentences(
        f"At the same parameters ({findings.stage}) the gradient of a batch of {thousands(facts.small)} differs from "
        f"that of the whole training set by {three_digits(comparison.small)} times the norm of the latter; for a "
        f"batch of {thousands(facts.large)} it is {three_digits(comparison.large)} times.",
        _theory_sentence(findings),
        _noise_scale_sentence(findings),
        f"A batch of all {thousands(facts.train_examples)} examples has no noise.",
    )


def _theory_sentence(findings: Findings) -> str:
    quotient = findings.stages[findings.stage].sampled_over_theory
    if np.isnan(quotient):
        return ""
    return (
        "The dashed line is computed from the gradients of all single examples; sampled batches are on average "
        f"{three_digits(quotient)} times as noisy as it predicts."
    )


def _noise_scale_sentence(findings: Findings) -> str:
    if findings.no_variance:
        return f"The gradient noise scale has no value here ({problems_in_words(findings.no_variance)})."
    scales = [
        f"{with_bounds(stage.noise_scale, three_digits)} examples {name}" for name, stage in findings.stages.items()
    ]
    return (
        f"The gradient noise scale is {' and '.join(scales)}: in a batch of this size, noise and gradient have the "
        "same norm."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    table = {"batch size": [thousands(size) for size in findings.stages[STAGES[0]].sampled]}
    for name, stage in findings.stages.items():
        table[f"sampled, {name}"] = [three_digits(np.mean(values)) for values in stage.sampled.values()]
        table[f"theory, {name}"] = [
            three_digits(stage.theory[size]) if size in stage.theory else "–" for size in stage.sampled
        ]
    return pd.DataFrame(table)


claim = Claim(
    name="gradient",
    row=4,
    title="Gradient",
    small="Noisy",
    large="Stable",
    says="The gradient of a small batch is noisy, that of a large batch is stable.",
    rule=(
        "Holds when the 95% interval of the ratio (relative noise at Small) / (relative noise at Large), geometric "
        "mean over seeds, lies above 1 both at initialisation and after a tenth of training; the row shows the lower "
        "of the two ratios."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
