"""Gradient: noisy for Small, stable for Large.

At the same parameters, the gradient of a batch scatters about that of the whole training set. For batches drawn
without replacement its mean squared distance is (S2 / B) (1 − B / N), so that the noise falls like 1 / √B, and faster
near the full batch. Batches that are no random samples, as of sorted examples, stay noisy however large they are: the
power with which the noise falls is measured on batches that are drawn as the training draws them.
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
from suite.formatting import bounds, sentences, thousands, three_digits, with_bounds
from suite.instruments.gradient_noise import effective_batch_size, theoretical_noise
from suite.statistics import Interval, mean_interval, power_law_exponent
from suite.status import Status
from suite.training.budgets import TenthOfTraining
from suite.training.protocol import Protocol
from suite.workloads import Workload

MAX_SEEDS = 10
"""The relative noise hardly differs from seed to seed."""
LEAST_POWER = 0.4
"""The p below which noise ∝ 1 / B^p falls too slowly: a fourfold batch divides it by 1.74; in theory by 2."""


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


TOO_FEW = Problem(Status.UNAVAILABLE, "fewer than two batch sizes below the full batch have a value")


@dataclass(frozen=True)
class Stage:
    """The relative noise at one stage of training."""

    sampled: dict[int, tuple[float, ...]]
    """Of every seed, by batch size."""
    deviation: float
    """√tr(Σ) / |G|, mean over seeds; NaN where no per-example gradients were taken."""
    theory: dict[int, float]
    """By batch size, from the per-example gradients, mean over seeds."""
    sampled_over_theory: Interval | None
    """Root of the mean over batch sizes of the squared ratio, which is 1 in theory; None where there is no theory."""
    noise_scale: Interval | None
    """tr(Σ) / |G|² in examples, geometric mean over seeds."""
    comparison: Comparison | Problem
    """The power p of noise ∝ 1 / B^p, mean over seeds; and the relative noise at Small and Large, mean over seeds."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    comparison: Comparison | Problem
    """That of the stage with the lower power."""
    stage: str
    """That stage."""
    stages: dict[str, Stage]
    no_variance: tuple[Problem, ...]
    """Why the per-example gradients have no value; empty where they have one."""


def analyse(evidence: Evidence) -> Findings:
    stages = {stage: _stage(evidence, stage) for stage in STAGES}
    lower = min(STAGES, key=lambda name: _lower_bound(stages[name].comparison))
    no_variance = seeds_without_value(evidence.of(GRADIENT_VARIANCE.name))
    backend = backend_of(evidence.of(GRADIENT_NOISE.name))
    return Findings(evidence.facts, backend, stages[lower].comparison, lower, stages, no_variance)


def _lower_bound(comparison: Comparison | Problem) -> float:
    """A problem counts as the lowest, and an interval without bounds as its estimate."""
    if isinstance(comparison, Problem):
        return -np.inf
    return float(np.nan_to_num(comparison.effect.low, nan=comparison.effect.estimate))


def _stage(evidence: Evidence, stage: str) -> Stage:
    rows, examples = evidence.ok(), evidence.facts.train_examples
    rows = rows[rows["stage"] == stage]
    noise = rows[rows["measurement"] == GRADIENT_NOISE.name].pivot(
        index="seed", columns="batch_size", values="relative_noise"
    )
    exact = rows[rows["measurement"] == GRADIENT_VARIANCE.name].set_index("seed")
    deviations = np.sqrt(exact["variance"]) / exact["gradient_norm"] if len(exact) else pd.Series(dtype=float)
    theory = {int(size): theoretical_noise(1.0, size, examples) * deviations for size in noise}
    squares = [(noise[size] / theory[size]) ** 2 for size in theory if size < examples]
    mean_squares = pd.concat(squares, axis=1).mean(axis=1).dropna() if squares else pd.Series(dtype=float)
    return Stage(
        sampled={int(size): tuple(noise[size].dropna()) for size in noise},
        deviation=float(deviations.mean()),
        theory={size: float(values.mean()) for size, values in theory.items() if len(values)},
        sampled_over_theory=mean_interval(mean_squares).map(_root) if len(mean_squares) else None,
        noise_scale=_geometric_mean(deviations**2) if len(deviations) else None,
        comparison=_compared(noise, evidence),
    )


def _compared(noise: pd.DataFrame, evidence: Evidence) -> Comparison | Problem:
    """From the relative noise of each seed (index) at each batch size (column)."""
    facts = evidence.facts
    if not {facts.small, facts.large} <= set(noise):
        return why_none(evidence.of(GRADIENT_NOISE.name))
    partial = noise[[size for size in noise if size < facts.train_examples]].dropna()
    if partial.shape[1] < 2 or partial.empty:
        return TOO_FEW
    effective = [effective_batch_size(size, facts.train_examples) for size in partial]
    powers = [-power_law_exponent(effective, seed.clip(lower=1e-12)) for _, seed in partial.iterrows()]
    return Comparison(mean_interval(powers), float(noise[facts.small].mean()), float(noise[facts.large].mean()))


def _root(square: float) -> float:
    """A bound below zero counts as zero."""
    return float(np.sqrt(np.maximum(square, 0)))


def _geometric_mean(values) -> Interval:
    return mean_interval(np.log(values)).map(np.exp)


# How it is judged


@dataclass(frozen=True)
class AtStage:
    """The stage of training at which the noise falls with the lower power."""

    stage: str

    def __str__(self) -> str:
        return f"the lower of two powers, {self.stage}"


def judge(findings: Findings) -> list[Row]:
    compared = isinstance(findings.comparison, Comparison)
    return [
        Row.of(
            findings.comparison,
            backend=findings.backend,
            protocol=stage_protocol(findings.facts),
            small=findings.facts.small,
            large=findings.facts.large,
            measure="power p of relative gradient noise ∝ 1 / B^p",
            unit="relative noise",
            null=LEAST_POWER,
            kind="number",
            effect_text=_power_text(findings.comparison.effect) if compared else "",
            flags=(AtStage(findings.stage),) if compared else (),
        )
    ]


# How it is shown


def answer(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return f"The noise of the gradient was not measured: {findings.comparison}."
    return (
        f"Corrected for the finite training set, the noise of the gradient falls like "
        f"{_power_text(findings.comparison.effect)} with the batch size B; in theory it falls like 1 / B^0.5."
    )


def _power_text(power: Interval) -> str:
    return f"1 / B^{three_digits(power.estimate)} ({bounds(power)})"


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
        _ratio_sentence(facts, comparison),
        "Batches are drawn as in training. Since the training set is finite (N = "
        f"{thousands(facts.train_examples)} examples), the fit uses B (N − 1) / (N − B) in place of B.",
        _theory_sentence(findings),
        _noise_scale_sentence(findings),
    )


def _ratio_sentence(facts: Facts, comparison: Comparison) -> str:
    if facts.large == facts.train_examples:
        return f"A batch of all {thousands(facts.large)} examples has no noise but rounding."
    return f"The small batch is {three_digits(comparison.small / comparison.large)} times as noisy."


def _theory_sentence(findings: Findings) -> str:
    quotient = findings.stages[findings.stage].sampled_over_theory
    if quotient is None:
        return ""
    return (
        "The dashed line is computed from the gradients of all single examples; sampled batches are "
        f"{with_bounds(quotient)} times as noisy as it predicts."
    )


def _noise_scale_sentence(findings: Findings) -> str:
    if findings.no_variance:
        return f"The gradient noise scale has no value here ({problems_in_words(findings.no_variance)})."
    scales = [
        f"{with_bounds(stage.noise_scale, three_digits)} examples {name}" for name, stage in findings.stages.items()
    ]
    return (
        f"The gradient noise scale is {' and '.join(scales)}: in a batch of this size, drawn with replacement, noise "
        "and gradient have the same norm."
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
        f"Holds when the 95% interval of the power p in noise ∝ 1 / B^p, mean over seeds, lies above {LEAST_POWER} "
        "(theory: 0.5) both at initialisation and after a tenth of training; the row shows the lower of the two "
        "powers."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
