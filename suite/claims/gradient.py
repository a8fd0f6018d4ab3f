"""Gradient: noisy for Small, stable for Large.

At the same parameters, the gradient of a batch scatters about that of the whole training set. Its mean
square distance is (S2 / B) (1 - B / N) for batches drawn without replacement, so that the relative noise
falls like 1 / sqrt(B), and faster near the full batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import NO_BATCH_SIZE, Cell, Scope
from suite.claims import noise_course, toy
from suite.claims.claim import Claim, Evidence, Facts, Illustration, Row, backend_of, paragraphs, status_of
from suite.claims.drawing import SMALL_COLOUR, batch_size_axis, bounds, new_figure, thousands, three_digits
from suite.claims.trained import without_value
from suite.instruments.gradient_noise import GRADIENT_NOISE, GRADIENT_VARIANCE, STAGES, theoretical_noise
from suite.statistics import Interval, mean_interval
from suite.training.protocol import Protocol, TenthOfTraining
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "relative gradient noise, Small / Large"


MOST_SEEDS = 10
"""The relative noise hardly differs from seed to seed."""


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """At every batch size the same parameters: trained at the workload's middle batch size. And the noise scale over
    the course of a training."""
    protocol, seeds = trained_protocol(workload), min(MOST_SEEDS, scope.seeds)
    variance = Cell(GRADIENT_VARIANCE, workload.name, scope.training_backend, NO_BATCH_SIZE, seeds, protocol)
    sampled = [
        Cell(GRADIENT_NOISE, workload.name, scope.training_backend, batch_size, seeds, protocol)
        for batch_size in scope.coarse_batch_sizes
    ]
    return [variance, *sampled, *noise_course.cells(workload, scope, seeds), *toy.cells()]


def trained_protocol(of: Facts | Workload) -> Protocol:
    """How the second stage is reached."""
    return Protocol.of(of, TenthOfTraining(of.epochs, of.middle))


def noise(rows: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Sampled relative noise of each seed (index) at each batch size (columns)."""
    sampled = rows[(rows["measurement"] == GRADIENT_NOISE.name) & (rows["stage"] == stage)]
    return sampled.pivot(index="seed", columns="batch_size", values="relative_noise")


def deviations(rows: pd.DataFrame, stage: str) -> pd.Series:
    """Root of tr(Sigma) over |G| of each seed; empty where no per-example gradients were taken."""
    exact = rows[(rows["measurement"] == GRADIENT_VARIANCE.name) & (rows["stage"] == stage)].set_index("seed")
    return pd.Series(dtype=float) if exact.empty else np.sqrt(exact["variance"]) / exact["gradient_norm"]


def theory(rows: pd.DataFrame, stage: str, batch_size: float, examples: int) -> pd.Series:
    """Relative noise that follows from each seed's per-example gradients; empty where these were not taken."""
    return theoretical_noise(1.0, batch_size, examples) * deviations(rows, stage)


def geometric_mean(values: pd.Series) -> Interval:
    return mean_interval(np.log(values)).map(np.exp)


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the relative noise at Small over that at Large, geometric mean over seeds, lies above 1 with
    its whole interval both at initialisation and after a tenth of training; the row shows the lesser of the
    two.

    Relative noise is the root mean square of |g_B - G| over |G|.
    """
    facts = evidence.facts
    planned = evidence.rows[evidence.rows["measurement"] == GRADIENT_NOISE.name]
    shared = {
        "backend": backend_of(planned),
        "protocol": str(trained_protocol(facts)),
        "small": facts.small,
        "large": facts.large,
        "measure": MEASURE,
        "unit": "relative noise",
    }
    rows = evidence.ok()
    sampled = noise(rows, STAGES[0])
    if facts.small not in sampled or facts.large not in sampled:
        status, reason = status_of(planned)
        return [Row(**shared, status=status, flags=reason)]
    ratios = {stage: noise(rows, stage)[facts.small] / noise(rows, stage)[facts.large] for stage in STAGES}
    intervals = {stage: geometric_mean(ratio) for stage, ratio in ratios.items()}
    least = min(STAGES, key=lambda stage: np.nan_to_num(intervals[stage].low, nan=intervals[stage].estimate))
    at_least = noise(rows, least)
    return [
        Row.judged(
            intervals[least],
            **shared,
            value_small=geometric_mean(at_least[facts.small]).estimate,
            value_large=geometric_mean(at_least[facts.large]).estimate,
            flags=least,
        )
    ]


def draw(evidence: Evidence) -> Figure:
    figure = new_figure(9.6, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    rows, examples = evidence.ok(), evidence.facts.train_examples
    for axes, stage in zip(panels, STAGES, strict=True):
        sampled = noise(rows, stage)
        sampled = sampled[[size for size in sampled if size < examples]]
        fine = np.geomspace(min([evidence.facts.small, *sampled]), 0.995 * examples, 400)
        deviation = deviations(rows, stage).mean()
        if not np.isnan(deviation):
            line = [deviation * theoretical_noise(1.0, size, examples) for size in fine]
            axes.plot(fine, line, "k--", linewidth=1, label="theory, from every example's gradient")
        for _, seed in sampled.iterrows():
            axes.plot(seed.index, seed, ".", color=SMALL_COLOUR, alpha=0.35)
        axes.plot(
            sampled.columns,
            sampled.mean(),
            "o",
            color=SMALL_COLOUR,
            markersize=4,
            label="sampled batches, each seed",
        )
        axes.set_yscale("log")
        batch_size_axis(axes, evidence.facts)
        axes.set_title(stage, pad=18)
    panels[0].set_ylabel("relative noise of the gradient")
    panels[0].legend(loc="lower left")
    return figure


def explain(evidence: Evidence, rows: list[Row]) -> str:
    row = rows[0]
    if row.status != "ok":
        return paragraphs(f"Not measured: {row.flags}.", noise_course.sentence(evidence))
    examples = evidence.facts.train_examples
    return paragraphs(
        f"At the same parameters ({row.flags}) the gradient of a batch of {thousands(row.small)} is off by "
        f"{three_digits(row.value_small)} times the length of the true gradient, that of a batch of "
        f"{thousands(row.large)} by {three_digits(row.value_large)} times.{_beside_theory(evidence, row.flags)} "
        f"At {thousands(examples)}, the whole training set, the noise is zero.",
        f"{noise_scales(evidence)} {noise_course.sentence(evidence)}",
    )


def _beside_theory(evidence: Evidence, stage: str) -> str:
    """Empty where there is no theory, since no gradients of single examples were taken."""
    rows, examples = evidence.ok(), evidence.facts.train_examples
    sampled = noise(rows, stage)
    off = [(sampled[size] / theory(rows, stage, size, examples)).mean() for size in sampled if size < examples]
    if np.isnan(off).all():
        return ""
    return (
        " The line is what follows from every example's own gradient; sampled batches are "
        f"{np.mean(off):.3f} times as noisy as it says, on average."
    )


def noise_scales(evidence: Evidence) -> str:
    """tr(Sigma) / |G|^2 at each stage, in words (McCandlish 2018); or why it is not known."""
    exact = evidence.rows[evidence.rows["measurement"] == GRADIENT_VARIANCE.name]
    if lacking := without_value(exact):
        return f"The noise scale at the same parameters has no value ({lacking})."
    found = []
    for stage in STAGES:
        of_stage = exact[exact["stage"] == stage]
        scale = geometric_mean(of_stage["variance"] / of_stage["gradient_norm"] ** 2)
        found.append(f"{three_digits(scale.estimate)} ({bounds(scale, three_digits)}) {stage}")
    return (
        "The noise scale, the batch size at which the noise of batches drawn with replacement is as long as the "
        f"gradient itself, is {' and '.join(found)}."
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    rows, examples = evidence.ok(), evidence.facts.train_examples
    table = pd.DataFrame({"batch size": [thousands(size) for size in noise(rows, STAGES[0])]})
    for stage in STAGES:
        sampled = noise(rows, stage)
        table[f"sampled, {stage}"] = [three_digits(mean) for mean in sampled.mean()]
        exact = [theory(rows, stage, size, examples) for size in sampled]
        table[f"theory, {stage}"] = [three_digits(one.mean()) if len(one) else "–" for one in exact]
    return table


claim = Claim(
    name="gradient",
    row=4,
    title="Gradient",
    small="Noisy",
    large="Stable",
    says="The gradient of a small batch is noisy, that of a large batch is stable.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    illustrations=(
        Illustration(toy.draw, toy.TITLE, toy.SAYS),
        Illustration(noise_course.draw, noise_course.TITLE, noise_course.SAYS),
    ),
)
