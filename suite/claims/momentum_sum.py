"""Movement: with momentum, the weighted sum of all previous gradients.

The lecture: a movement is λ times the last movement minus η times the gradient, not the gradient alone, and so
m_i = −η Σ_(j<i) λ^(i−1−j) g_j. The claim checks this in the workload's own training, with its own optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import CPU
from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, why_none
from suite.experiments.cell import Cell, Scope
from suite.experiments.weighted_sum import WEIGHTED_SUM
from suite.figures import WITH_COLOUR, new_figure
from suite.formatting import percent, sentences, thousands, three_digits
from suite.statistics import Interval, Verdict, mean_interval, verdict
from suite.status import Status
from suite.training.momentum_pair import WITH, WITHOUT, matched_rates, momentum_of, momentum_pair, why_no_momentum
from suite.training.protocol import EqualEpochs, Protocol
from suite.workloads import Workload

MAX_SEEDS = 10


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The movements of the middle batch size, without and with momentum."""
    seeds = min(MAX_SEEDS, scope.seeds)
    return [
        Cell(WEIGHTED_SUM, workload.name, CPU.name, workload.middle, seeds, protocol)
        for protocol in protocols(workload).values()
    ]


def protocols(workload: Facts | Workload) -> dict[str, Protocol]:
    """`matched_protocols` at the workload's learning rate."""
    return matched_protocols(workload, workload.learning_rate)


def matched_protocols(workload: Facts | Workload, learning_rate: float) -> dict[str, Protocol]:
    """The workload's optimizer without and with momentum in the lecture's form, at rates that go equally far along a
    constant gradient; `learning_rate` is that of the workload's own optimizer."""
    optimizers = momentum_pair(workload)
    lecture = {name: optimizer.with_momentum(optimizer.momentum) for name, optimizer in optimizers.items()}
    rates = matched_rates(workload, learning_rate)
    rates[WITH] *= optimizers[WITH].momentum_gain / lecture[WITH].momentum_gain
    budget = EqualEpochs(workload.epochs)
    return {name: Protocol(rates[name], budget, optimizer=optimizer) for name, optimizer in lecture.items()}


# What it computes


@dataclass(frozen=True)
class Distances:
    """Distances of the movements of a training, relative to the length of each movement."""

    to_sum: float
    """From the weighted sum of all past gradients, mean over seeds and updates."""
    rounding: float
    """Up to which float32 rounding explains `to_sum`, mean over seeds and updates."""
    to_last_gradient: float
    """From the last gradient's part alone, at the last update, mean over seeds."""
    updates: int


@dataclass(frozen=True)
class Weights:
    """Least-squares weights of the past gradients in each movement of replica 0; that of the last gradient is 1."""

    by_update: dict[int, tuple[float, ...]]
    """At update i, the weights of the gradients of updates 1 ... i."""
    max_deviation: float
    """Largest distance from a power of λ."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    comparison: Comparison | Problem
    """Float32 rounding over the distance of a movement with momentum from the weighted sum, at the worst update of
    each seed, geometric mean over seeds; and the mean distances without and with momentum."""
    verdict: Verdict | None
    distances: dict[str, Distances]
    """Without and with momentum; empty where there is a problem."""
    weights: Weights | None
    """With momentum; None where the model has fewer parameters than updates."""


def analyse(evidence: Evidence) -> Findings:
    facts, movements = evidence.facts, evidence.of(WEIGHTED_SUM.name)
    rows = {name: movements[movements["protocol"] == protocol.key] for name, protocol in protocols(facts).items()}
    for training in rows.values():
        if not (training["status"] == Status.OK).any():
            return Findings(facts, why_none(training), None, {}, None)
    distances = {name: _distances(training) for name, training in rows.items()}
    effect = _rounding_over_distance(rows[WITH])
    comparison = Comparison(effect, distances[WITHOUT].to_sum, distances[WITH].to_sum)
    return Findings(facts, comparison, verdict(effect, 1), distances, _weights(rows[WITH], momentum_of(facts)))


def _distances(rows: pd.DataFrame) -> Distances:
    last = rows[rows["updates"] == rows["updates"].max()]
    return Distances(
        to_sum=float(rows["error"].mean()),
        rounding=float(rows["bound"].mean()),
        to_last_gradient=float(last["alone"].mean()),
        updates=int(rows["updates"].max()),
    )


def _rounding_over_distance(rows: pd.DataFrame) -> Interval:
    rows = rows.dropna(subset=["error"])
    ratios = rows["bound"] / rows["error"].clip(lower=1e-12)
    return mean_interval(np.log(ratios).groupby(rows["seed"]).min()).map(np.exp)


def _weights(rows: pd.DataFrame, momentum: float) -> Weights | None:
    fitted = rows[rows["stage"] == "weight"]
    if fitted.empty:
        return None
    fitted = fitted.sort_values(["updates", "gradient"])
    deviations = fitted["weight"] - momentum ** (fitted["updates"] - fitted["gradient"])
    by_update = {int(update): tuple(weights) for update, weights in fitted.groupby("updates")["weight"]}
    return Weights(by_update, float(deviations.abs().max()))


# How it is judged


def judge(findings: Findings) -> list[Row]:
    facts = findings.facts
    return [
        Row.of(
            findings.comparison,
            backend=CPU.name,
            protocol=protocols(facts)[WITH],
            small=facts.middle,
            large=facts.middle,
            measure="rounding error / distance of the movement from the weighted sum",
            unit="relative distance from the weighted sum",
            effect_text="equal to within rounding" if findings.verdict is Verdict.HOLDS else "",
        )
    ]


# How it is shown

RELATIONS = {
    Verdict.HOLDS: "equals the weighted sum of all past gradients to within rounding",
    Verdict.FAILS: "differs from the weighted sum of all past gradients by more than rounding explains",
    Verdict.UNDECIDED: "may differ from the weighted sum of all past gradients by more than rounding explains",
}


def answer(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return f"The movements were not recorded: {findings.comparison}."
    optimizer, distances = findings.facts.optimizer, findings.distances[WITH]
    division = (
        f", before {optimizer.label} divides each coordinate by its root mean square gradient,"
        if optimizer.form.averages
        else ""
    )
    return (
        f"With momentum the movement of the parameters{division} {RELATIONS[findings.verdict]} "
        f"(relative error {three_digits(distances.to_sum)}; "
        f"float32 rounding alone explains up to {three_digits(distances.rounding)})."
    )


def figure(findings: Findings) -> Figure | None:
    """The weight of each past gradient in each movement, and the same weights over the gradient's age."""
    if findings.weights is None:
        return None
    figure = new_figure(9.6, 4)
    by_movement, by_age = figure.subplots(1, 2)
    _draw_weights(figure, by_movement, findings.weights)
    _draw_ages(by_age, findings.weights, findings.facts)
    return figure


def _draw_weights(figure: Figure, axes: Axes, weights: Weights) -> None:
    updates = list(weights.by_update)
    grid = [[*values, *[np.nan] * (len(updates) - len(values))] for values in weights.by_update.values()]
    image = axes.pcolormesh(updates, updates, grid, cmap="viridis_r", vmin=0, vmax=1, edgecolors="face")
    axes.set_xlabel("gradient of update")
    axes.set_ylabel("movement of update")
    axes.invert_yaxis()
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="relative weight of the gradient")


def _draw_ages(axes: Axes, weights: Weights, facts: Facts) -> None:
    """The weights as dots, and the powers of λ as a line."""
    points = [(age, value) for values in weights.by_update.values() for age, value in enumerate(reversed(values))]
    axes.plot(*zip(*points, strict=True), ".", color=WITH_COLOUR, label="fitted to the training", markersize=5)
    momentum, ages = momentum_of(facts), np.arange(len(weights.by_update))
    label = f"{momentum:g} to the power of the age"
    axes.plot(ages, momentum**ages, color="black", linewidth=1, label=label)
    axes.legend(loc="best")
    axes.set_ylim(0, 1.1)
    axes.set_xlabel("age of the gradient (updates)")
    axes.set_ylabel("relative weight of the gradient")


def explain(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return ""
    facts, distances = findings.facts, findings.distances[WITH]
    form = facts.optimizer.form
    return sentences(
        f"The movements of the first {distances.updates} updates were recorded in a training with batch size "
        f"{thousands(facts.middle)} and momentum {form.momentum_symbol} = {momentum_of(facts):g}.",
        f"The last gradient alone explains {percent(1 - distances.to_last_gradient)} of the movement of update "
        f"{distances.updates}.",
        _weights_sentence(findings),
        _lecture_form_sentence(facts),
        form.in_words,
        _decay_sentence(facts),
    )


def _weights_sentence(findings: Findings) -> str:
    if findings.weights is None:
        return ""
    form = findings.facts.optimizer.form
    corrected = " and corrected for the scale and bias of the average" if form.averages else ""
    return (
        f"The weights of the past gradients, fitted to each movement by least squares{corrected}, lie within "
        f"{three_digits(findings.weights.max_deviation)} of the powers of {form.momentum_symbol}; the last gradient "
        "has weight 1."
    )


def _lecture_form_sentence(facts: Facts) -> str:
    """Which parts of the workload's optimizer were left out; empty where it has the lecture's momentum."""
    if momentum_pair(facts)[WITH] == protocols(facts)[WITH].optimizer:
        return ""
    return f"The dampening or Nesterov momentum of {facts.name}'s own optimizer was left out."


def _decay_sentence(facts: Facts) -> str:
    """How weight decay was counted; empty where there is none."""
    optimizer = facts.optimizer
    if not any(dict(part.hyperparameters).get("weight_decay") for part in (optimizer, *optimizer.groups)):
        return ""
    if optimizer.form.decoupled_weight_decay:
        return "Weight decay shrinks the parameters directly and is not part of the movement."
    return "Weight decay counts as part of each gradient."


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "momentum": name,
            "distance from the weighted sum": three_digits(distances.to_sum),
            "explained by float32 rounding": three_digits(distances.rounding),
            "distance from the last gradient alone": percent(distances.to_last_gradient),
        }
        for name, distances in findings.distances.items()
    )


claim = Claim(
    name="momentum_sum",
    row=8,
    title="Movement",
    small="The gradient",
    large="All gradients",
    says="With momentum a movement is the weighted sum of all previous gradients, not the last one alone.",
    rule=(
        "Holds when the 95% interval of the ratio (float32 rounding) / (distance between the movement and the "
        "weighted sum of all past gradients), geometric mean over seeds, each at its worst update, lies above 1."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
    columns=("Without momentum", "With"),
    unfit=why_no_momentum,
)
