"""Gradient: noisy for Small, stable for Large.

At the same parameters, the gradient of a batch scatters about that of the whole training set. Its mean
square distance is (S2 / B) (1 - B / N) for batches drawn without replacement, so that the relative noise
falls like 1 / sqrt(B), and faster near the full batch.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.cells import Cell, Scope
from suite.claims.claim import Claim, Evidence, Row, status_of
from suite.claims.drawing import COLOURS, batch_size_axis, thousands, three_digits
from suite.instruments.gradient_noise import GRADIENT_NOISE, SAMPLED_BATCHES, STAGES
from suite.statistics import Interval, mean_interval
from suite.training.protocol import Protocol, TenthOfTraining
from suite.workloads import Workload

MEASURE = "relative gradient noise, Small / Large"


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """At every batch size the same parameters: trained at the workload's middle batch size."""
    middle = workload.batch_sizes[len(workload.batch_sizes) // 2]
    protocol = Protocol(workload.learning_rate, TenthOfTraining(workload.epochs, middle))
    return [
        Cell(GRADIENT_NOISE, workload.name, "cpu", batch_size, scope.seeds, protocol)
        for batch_size in scope.batch_sizes
    ]


def noise(rows: pd.DataFrame, stage: str, column: str = "relative_noise") -> pd.DataFrame:
    """Relative noise of each seed (index) at each batch size (columns)."""
    return rows[rows["stage"] == stage].pivot(index="seed", columns="batch_size", values=column)


def geometric_mean(values: pd.Series) -> Interval:
    return mean_interval(np.log(values)).map(np.exp)


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the relative noise at Small over that at Large, geometric mean over seeds, lies above 1 with
    its whole interval both at initialisation and after a tenth of training; the row shows the lesser of the
    two.

    Relative noise is the root mean square of |g_B - G| over |G|.
    """
    facts = evidence.facts
    shared = {
        "backend": "cpu",
        "protocol": evidence.rows["protocol"].iloc[0],
        "small": facts.small,
        "large": facts.large,
        "measure": MEASURE,
        "unit": "relative noise",
    }
    rows = evidence.ok()
    if rows.empty:
        status, reason = status_of(evidence.rows)
        return [Row(**shared, status=status, flags=reason)]
    ratios = {stage: noise(rows, stage)[facts.small] / noise(rows, stage)[facts.large] for stage in STAGES}
    least = min(STAGES, key=lambda stage: geometric_mean(ratios[stage]).estimate)
    at_least = noise(rows, least)
    return [
        Row.judged(
            geometric_mean(ratios[least]),
            null=1,
            **shared,
            value_small=geometric_mean(at_least[facts.small]).estimate,
            value_large=geometric_mean(at_least[facts.large]).estimate,
            flags=least,
        )
    ]


def draw(evidence: Evidence) -> Figure:
    figure = Figure(figsize=(9.6, 4.2))
    panels = figure.subplots(1, 2, sharey=True)
    rows, examples = evidence.ok(), evidence.facts.train_examples
    for axes, stage in zip(panels, STAGES, strict=True):
        sampled = noise(rows, stage)
        sampled = sampled[[size for size in sampled if size < examples]]
        theory = noise(rows, stage, "relative_noise_theory")
        first = theory.columns[0]
        scale = geometric_mean(theory[first]).estimate / np.sqrt(1 / first - 1 / examples)
        fine = np.geomspace(first, 0.995 * examples, 400)
        axes.plot(fine, scale * np.sqrt(1 / fine - 1 / examples), "k--", linewidth=1, label="theory")
        for _, seed in sampled.iterrows():
            axes.plot(seed.index, seed, ".", color=COLOURS["cpu"], alpha=0.35)
        axes.plot(
            sampled.columns,
            np.exp(np.log(sampled).mean()),
            "o",
            markersize=4,
            color=COLOURS["cpu"],
            label=f"{SAMPLED_BATCHES} sampled batches (dots: seeds)",
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
        return f"Not measured: {row.flags}."
    values = evidence.ok()
    off = (values["relative_noise"] / values["relative_noise_theory"]).where(
        values["batch_size"] < evidence.facts.train_examples
    )
    return (
        f"At the same parameters ({row.flags}) the gradient of a batch of {thousands(row.small)} is off by "
        f"{three_digits(row.value_small)} times the length of the true gradient, that of a batch of "
        f"{thousands(row.large)} by {three_digits(row.value_large)} times. The line is what follows from every "
        f"example's own gradient; sampled batches are {off.mean():.3f} times as noisy as it says, on average. "
        f"At {thousands(evidence.facts.train_examples)}, the whole training set, the noise is zero."
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    rows = evidence.ok()
    table = pd.DataFrame()
    for stage in STAGES:
        sampled, theory = noise(rows, stage), noise(rows, stage, "relative_noise_theory")
        table[f"sampled, {stage}"] = [three_digits(mean) for mean in sampled.mean()]
        table[f"theory, {stage}"] = [three_digits(mean) for mean in theory.mean()]
    table.insert(0, "batch size", [thousands(size) for size in noise(rows, STAGES[0])])
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
)
