"""Movement: with momentum, the weighted sum of all previous gradients.

The lecture: a movement is λ times the last movement minus η times the gradient, not the gradient alone, and so
m_i = −η Σ_(j<i) λ^(i−1−j) g_j. This is an identity: it is checked in the workload's own training, with its own
optimizer, up to the rounding of float32, and not judged by an interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import CPU
from suite.claims.claim import Check, Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, why_none
from suite.experiments.cell import Cell, Scope
from suite.experiments.weighted_sum import WEIGHTED_SUM
from suite.figures import WITH_COLOUR, new_figure
from suite.formatting import percent, sentences, thousands, three_digits
from suite.statistics import mean_interval
from suite.status import Status
from suite.training.budgets import EqualEpochs
from suite.training.momentum_pair import WITH, WITHOUT, matched_rates, momentum_of, momentum_pair, why_no_momentum
from suite.training.protocol import Protocol
from suite.workloads import Workload

MAX_SEEDS = 10
NOT_FINITE = Problem(Status.UNAVAILABLE, "a movement is zero or not finite")


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

    @property
    def share_of_last_gradient(self) -> float:
        """The share of the last movement that is the last gradient's part: 1 less `to_last_gradient`, at least 0."""
        return max(0.0, 1 - self.to_last_gradient)


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
    """The distance of a movement with momentum from the weighted sum, mean over seeds; and the shares of a movement
    that the last gradient makes up, without and with momentum."""
    check: Check | None
    """Whether rounding explains the distance of every movement of every seed."""
    worst: float
    """The largest distance over what rounding explains of it, with momentum."""
    distances: dict[str, Distances]
    """Without and with momentum; empty where there is a problem."""
    weights: Weights | None
    """With momentum; None where the model has fewer parameters than updates."""


def analyse(evidence: Evidence) -> Findings:
    facts, movements = evidence.facts, evidence.of(WEIGHTED_SUM.name)
    rows = {name: movements[movements["protocol"] == protocol.key] for name, protocol in protocols(facts).items()}
    for training in rows.values():
        if not (training["status"] == Status.OK).any():
            return Findings(facts, why_none(training), None, np.nan, {}, None)
    if math.isnan(worst := _worst(rows[WITH])):
        return Findings(facts, NOT_FINITE, None, np.nan, {}, None)
    distances = {name: _distances(training) for name, training in rows.items()}
    by_seed = rows[WITH].groupby("seed")["error"].mean().dropna()
    explained = (distances[name].share_of_last_gradient for name in (WITHOUT, WITH))
    comparison = Comparison(mean_interval(by_seed), *explained)
    check = Check.PASSED if worst <= 1 else Check.FAILED
    return Findings(facts, comparison, check, worst, distances, _weights(rows[WITH], momentum_of(facts)))


def _distances(rows: pd.DataFrame) -> Distances:
    last = rows[rows["updates"] == rows["updates"].max()]
    return Distances(
        to_sum=float(rows["error"].mean()),
        rounding=float(rows["bound"].mean()),
        to_last_gradient=float(last["alone"].mean()),
        updates=int(rows["updates"].max()),
    )


def _worst(rows: pd.DataFrame) -> float:
    """The largest distance of a movement over what rounding explains of it; NaN where a movement is not finite."""
    movements = rows[rows["stage"] == "sum"]
    return float((movements["error"] / movements["bound"]).max(skipna=False))


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
            check=findings.check,
            kind="check",
            measure="relative distance of a movement from the weighted sum",
            unit="of a movement is the last gradient",
            effect_text=EFFECTS.get(findings.check, ""),
        )
    ]


# How it is shown

EFFECTS = {
    Check.PASSED: "equal to the weighted sum to within rounding",
    Check.FAILED: "not the weighted sum of all past gradients",
}


def answer(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return f"The movements were not recorded: {findings.comparison}."
    optimizer, distances = findings.facts.optimizer, findings.distances[WITH]
    division = (
        f" (before {optimizer.label} divides each coordinate by its root mean square gradient)"
        if optimizer.form.averages
        else ""
    )
    last = f"The last gradient alone makes up {percent(distances.share_of_last_gradient)} of the movement."
    if findings.check is Check.FAILED:
        return (
            f"With momentum a movement is not the weighted sum of all gradients so far{division}: the sum misses one "
            f"by up to {three_digits(findings.worst)} times what rounding explains. {last}"
        )
    return (
        f"With momentum a movement is the weighted sum of all gradients so far{division}, up to a relative "
        f"difference of {three_digits(distances.to_sum)}, which float32 rounding explains. {last}"
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
        f"At update {distances.updates} the movement m is compared with l, what the last gradient contributes to "
        f"it. The share of the last gradient is 1 − |m − l| / |m|. {_share_of_equal_gradients(facts)} Float32 "
        f"rounding can explain up to {three_digits(distances.rounding)} of a movement.",
        _weights_sentence(findings),
        _lecture_form_sentence(facts),
        form.in_words,
        _decay_sentence(facts),
    )


def _share_of_equal_gradients(facts: Facts) -> str:
    """What the share would be without noise, where all gradients are equal."""
    symbol = facts.optimizer.form.momentum_symbol
    return f"If all gradients were equal, the share would be about 1 − {symbol} = {1 - momentum_of(facts):.3g}."


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
        "Checked when float32 rounding explains the distance of every recorded movement, of every seed, from the "
        "weighted sum of all past gradients; else the check has failed."
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
