"""Plateaus: momentum carries the parameters on where the gradient almost vanishes.

The lecture's ball rolls on over a plateau, where it stops without momentum. The plateau here is a toy, the saddle of
(1 − w1 w2)², where the time to leave is known: along its unstable axis every update multiplies the distance by the
larger root of r² − (1 + λ − η h) r + λ = 0 with curvature h = −2. It exceeds 1 without momentum too: SGD
leaves, at the same learning rate later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import CPU
from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem
from suite.evidence.toy import Toy, where_momentum_is_measured
from suite.evidence.trainings import training_problem
from suite.experiments.cell import Cell, Scope
from suite.experiments.saddle import CURVATURE, DISTANCE, LEAVING
from suite.figures import GREY, WITH_COLOUR, WITHOUT_COLOUR, new_figure
from suite.formatting import sentences, three_digits, with_bounds
from suite.instruments.momentum import growth
from suite.instruments.saddle import updates_to_leave
from suite.statistics import mean_interval, value_at_crossing
from suite.training.budgets import EqualEpochs
from suite.training.momentum_pair import LAMBDA, WITH, WITHOUT, with_momentum, without_momentum
from suite.workloads import Workload
from suite.workloads.saddle import EXAMPLES
from suite.workloads.saddle import workload as saddle

MATCHED = "matched"
"""Without momentum, at the rate η / (1 − λ), which goes as far along a constant gradient as η with momentum."""
BUDGET = EqualEpochs(2000)
PROTOCOLS = {
    WITHOUT: without_momentum(saddle.learning_rate, BUDGET),
    WITH: with_momentum(saddle.learning_rate, BUDGET),
    MATCHED: without_momentum(round(saddle.learning_rate / (1 - LAMBDA), 6), BUDGET),
}
STARTS = 30
DRAWN_STARTS = 10


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The toy from many starts, whatever the workload."""
    return [Cell(LEAVING, saddle.name, CPU.name, EXAMPLES, STARTS, protocol) for protocol in PROTOCOLS.values()]


# What it computes


@dataclass(frozen=True)
class Course:
    """The training from one start: values at the start and after each update."""

    losses: tuple[float, ...]
    distances: tuple[float, ...]
    """From the saddle."""


@dataclass(frozen=True)
class Departures:
    """The trainings from all starts by one protocol. Means over starts are geometric."""

    updates: float
    """Until the saddle is left, mean over the starts that leave it; NaN where none does."""
    closed_form: float
    """The same by the closed form, from the same starts."""
    growth: float
    """The factor by which an update multiplies the distance from the saddle, by the closed form."""
    courses: tuple[Course, ...]
    """From the first DRAWN_STARTS starts."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    same_rate: Comparison | Problem
    """Updates to leave the saddle without momentum over those with it, at the same learning rate."""
    matched_rate: Comparison | Problem
    """The same, at the matched rate."""
    departures: dict[str, Departures]
    """By the name of the protocol; only those that were trained."""


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(LEAVING.name)
    evaluations = {name: planned[planned["protocol"] == protocol.key] for name, protocol in PROTOCOLS.items()}
    return Findings(
        evidence.facts,
        same_rate=_compared(evaluations, WITHOUT),
        matched_rate=_compared(evaluations, MATCHED),
        departures={
            name: _departures(rows.dropna(subset=["seed"]), name)
            for name, rows in evaluations.items()
            if rows["seed"].notna().any()
        },
    )


def _compared(evaluations: dict[str, pd.DataFrame], without: str) -> Comparison | Problem:
    for name, where in ((without, "without momentum"), (WITH, "with momentum")):
        if problem := training_problem(evaluations[name], where):
            return problem
    small, large = _updates(evaluations[without]), _updates(evaluations[WITH])
    effect = mean_interval(np.log(small / large)).map(np.exp)
    return Comparison(effect, _geometric_mean(small), _geometric_mean(large))


def _departures(rows: pd.DataFrame, name: str) -> Departures:
    rate, momentum = PROTOCOLS[name].learning_rate, PROTOCOLS[name].optimizer.momentum
    starts = rows[rows["updates"] == 0].set_index("seed")["distance"]
    closed_form = starts.map(lambda start: updates_to_leave(rate, momentum, CURVATURE, start, DISTANCE))
    drawn = rows[rows["seed"] < DRAWN_STARTS].sort_values("updates").groupby("seed")
    return Departures(
        updates=_geometric_mean(_updates(rows)),
        closed_form=_geometric_mean(closed_form),
        growth=growth(rate, momentum, CURVATURE),
        courses=tuple(Course(tuple(course["train_loss"]), tuple(course["distance"])) for _, course in drawn),
    )


def _updates(rows: pd.DataFrame) -> pd.Series:
    """Updates until each start (index `seed`) is left behind, interpolated in the log of the distance."""
    return pd.Series(
        {
            seed: value_at_crossing(1 / course["distance"], course["updates"].to_numpy(), 1 / DISTANCE)
            for seed, course in rows.sort_values("updates").groupby("seed")
        }
    )


def _geometric_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values).mean()))


# How it is judged


@dataclass(frozen=True)
class DoesNotStop:
    """Without momentum SGD leaves the saddle too, where the lecture says that it stops."""

    sooner_at_matched_rate: bool

    def __str__(self) -> str:
        sooner = ", and sooner at the matched rate" if self.sooner_at_matched_rate else ""
        return f"without momentum SGD does not stop: it leaves too{sooner}"


def judge(findings: Findings) -> list[Row]:
    toy, outcomes = Toy.of(findings.facts), (findings.same_rate, findings.matched_rate)
    same, matched = (not isinstance(outcome, Problem) for outcome in outcomes)
    sooner = matched and findings.matched_rate.effect.high < 1
    later = same and findings.same_rate.effect.low > 1
    shared = {"backend": CPU.name, "small": EXAMPLES, "large": EXAMPLES, "unit": "updates"}
    measure = "updates to leave the saddle, without / with momentum"
    return [
        Row.of(
            findings.same_rate,
            protocol=PROTOCOLS[WITH],
            measure=measure,
            flags=(toy, DoesNotStop(sooner)) if same else (toy,),
            effect_text=f"leaves later: ×{with_bounds(findings.same_rate.effect)}" if later else "",
            **shared,
        ),
        Row.of(
            findings.matched_rate,
            protocol=PROTOCOLS[MATCHED],
            measure=f"{measure}, at the matched rate",
            headline=False,
            flags=(toy,),
            **shared,
        ),
    ]


# How it is shown


def answer(findings: Findings) -> str:
    comparison = findings.same_rate
    if isinstance(comparison, Problem):
        return f"The time to leave the saddle could not be compared: {comparison}."
    return (
        "Without momentum SGD does not stop at this toy's saddle, it only leaves later: after "
        f"{three_digits(comparison.small)} updates, against {three_digits(comparison.large)} with momentum at the "
        "same learning rate."
    )


def figure(findings: Findings) -> Figure | None:
    """The training loss over updates, with the plateau; and the distance from the saddle, with the closed form."""
    if not findings.departures:
        return None
    figure = new_figure(9.6, 4)
    loss_axes, distance_axes = figure.subplots(1, 2)
    for name, departures in findings.departures.items():
        _draw_courses(loss_axes, distance_axes, departures, name)
    loss_axes.set_ylabel("training loss")
    distance_axes.set_ylabel("distance from the saddle")
    distance_axes.set_yscale("log")
    distance_axes.axhline(DISTANCE, color=GREY, linewidth=1, linestyle=":")
    distance_axes.plot([], [], "--", color="black", linewidth=1, label="closed form")
    for axes in (loss_axes, distance_axes):
        axes.set_xlabel("updates")
    handles, labels = distance_axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _draw_courses(loss_axes: Axes, distance_axes: Axes, departures: Departures, name: str) -> None:
    """Draw each start as a thin line; and beside the first start the growth by the closed form."""
    colour = {WITHOUT: WITHOUT_COLOUR, WITH: WITH_COLOUR, MATCHED: "C2"}[name]
    rate = f"{PROTOCOLS[name].learning_rate:g}"
    label = f"without, η / (1 − λ) = {rate}" if name == MATCHED else f"{name} momentum (η {rate})"
    for number, course in enumerate(departures.courses):
        style = {"color": colour, "linewidth": 1, "alpha": 0.6, "label": None if number else label}
        loss_axes.plot(course.losses, **style)
        distance_axes.plot(course.distances, **style)
    distances = np.array(departures.courses[0].distances)
    near = np.flatnonzero(distances < 0.3)
    line = distances[near[-1]] * departures.growth ** (near - near[-1])
    distance_axes.plot(near, line, "--", color="black", linewidth=1, zorder=3)


def explain(findings: Findings) -> str:
    comparison = findings.same_rate
    if isinstance(comparison, Problem):
        return ""
    closed_forms = [three_digits(findings.departures[name].closed_form) for name in (WITHOUT, WITH)]
    return sentences(
        Toy.of(findings.facts).sentence,
        "The loss (1 − w1 w2)² has a saddle at zero: its gradient vanishes there, though no minimum is near.",
        f"{comparison.effect.n} trainings start at random distances from the saddle, typically 10⁻⁶, at learning "
        f"rate {saddle.learning_rate:g}; they have left it when the distance exceeds {DISTANCE:g}. The closed form "
        f"predicts {closed_forms[0]} updates without momentum and {closed_forms[1]} with a momentum of {LAMBDA:g}.",
        _matched_sentences(findings.matched_rate),
        where_momentum_is_measured(findings.facts),
    )


def _matched_sentences(comparison: Comparison | Problem) -> str:
    if isinstance(comparison, Problem):
        return ""
    return (
        f"SGD without momentum at {1 / (1 - LAMBDA):.0f} times the learning rate leaves the saddle after "
        f"{three_digits(comparison.small)} updates, {with_bounds(comparison.effect)} times as many as with momentum. "
        "Momentum helps here as a higher learning rate would."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    table = []
    for name, departures in findings.departures.items():
        protocol = PROTOCOLS[name]
        if math.isnan(departures.updates):
            continue
        table.append(
            {
                "momentum": f"λ {protocol.optimizer.momentum:g}" if protocol.optimizer.momentum else "without",
                "learning rate": f"{protocol.learning_rate:g}",
                "growth of the distance per update": f"×{departures.growth:.4f}",
                "updates, measured": three_digits(departures.updates),
                "updates, closed form": three_digits(departures.closed_form),
            }
        )
    return pd.DataFrame(table)


claim = Claim(
    name="plateau",
    row=9,
    title="Plateaus (toy)",
    small="Stops (here: leaves later)",
    large="Rolls on",
    says="Where the gradient almost vanishes, momentum carries the parameters on; without it they stand still.",
    rule=(
        "Holds when the 95% interval of the ratio (updates to leave the saddle without momentum) / (updates with "
        "momentum), at the same learning rate, lies above 1; the ratio is the geometric mean over starts."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
    columns=("Without momentum", "With"),
)
