"""Which start and which momentum carry the lecture's ball into the better minimum, at three learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from suite.backends import CPU
from suite.claims.local_minimum import BATCHES, BUDGET, NOISY, top_of_the_bump
from suite.evidence import Evidence, Facts, Problem, why_none
from suite.experiments.ball import PHASES
from suite.experiments.cell import Cell, Scope
from suite.figures import new_figure
from suite.formatting import listed, percent, sentences
from suite.studies.study import Study
from suite.training.momentum_pair import LAMBDA, with_momentum
from suite.workloads import Workload
from suite.workloads.ball import EXAMPLES, LEFT, loss_at, stationary_points
from suite.workloads.ball import workload as ball

LEARNING_RATES = (0.005, 0.02, 0.08)
LARGEST_MOMENTUM = 0.99
PROTOCOLS = {rate: with_momentum(rate, BUDGET, LARGEST_MOMENTUM) for rate in LEARNING_RATES}
DRAWS = 8
"""Balls per start and momentum where batches are small."""


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The toy over a grid of starts and momenta, whatever the workload."""
    return [
        Cell(PHASES, ball.name, CPU.name, batch_size, DRAWS if batch_size == NOISY else 1, protocol)
        for batch_size in BATCHES
        for protocol in PROTOCOLS.values()
    ]


@dataclass(frozen=True)
class Phase:
    """Where balls end, over their start and momentum, with one batch size and learning rate."""

    batch_size: int
    learning_rate: float
    starts: tuple[float, ...]
    momenta: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    """Of balls that end in the better minimum: a tuple per momentum."""
    least_momentum: float
    """The smallest momentum with which a ball ends there; NaN where none does."""
    share_from_below: float
    """Mean of `shares` over the starts below the top of the bump."""
    share_from_above: float
    """Mean over the starts above it, with the `momentum`."""
    momentum: float
    """The smallest in the grid from LAMBDA on."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    phases: tuple[Phase, ...]
    problem: Problem | None
    """Why a phase has no value; None where all have one."""


def analyse(evidence: Evidence) -> Findings:
    planned, rows = evidence.of(PHASES.name), evidence.ok(PHASES.name)
    grids = {
        (size, rate): rows[(rows["batch_size"] == size) & (rows["protocol"] == protocol.key)]
        for size in BATCHES
        for rate, protocol in PROTOCOLS.items()
    }
    phases = tuple(_phase(grid, size, rate) for (size, rate), grid in grids.items() if len(grid))
    return Findings(evidence.facts, phases, why_none(planned) if len(phases) < len(grids) else None)


def _phase(rows: pd.DataFrame, batch_size: int, learning_rate: float) -> Phase:
    grid = rows.pivot(index="momentum", columns="start", values="crossed").astype(float)
    is_below = loss_at(grid.columns.to_numpy(dtype=float)) < top_of_the_bump()
    momenta = grid.index[(grid > 0).any(axis=1)]
    momentum = float(grid.index[grid.index >= LAMBDA].min())
    return Phase(
        batch_size,
        learning_rate,
        starts=tuple(grid.columns),
        momenta=tuple(grid.index),
        shares=tuple(map(tuple, grid.to_numpy().tolist())),
        least_momentum=float(momenta.min()) if len(momenta) else math.nan,
        share_from_below=float(grid.loc[:, is_below].to_numpy().mean()) if is_below.any() else math.nan,
        share_from_above=float(grid.loc[momentum, ~is_below].mean()),
        momentum=momentum,
    )


def start_at_the_top() -> float:
    """The start on the far slope that is as high as the bump."""
    fine = np.linspace(LEFT, stationary_points()[0], 10_000)
    return float(fine[loss_at(fine) > top_of_the_bump()][-1])


def answer(findings: Findings) -> str:
    phases = [phase for phase in findings.phases if phase.batch_size == EXAMPLES]
    crossing = [phase for phase in phases if not math.isnan(phase.least_momentum)]
    if not crossing:
        reason = "no ball ends there" if phases else findings.problem
        return f"With full-batch updates no momentum is known to carry balls into the better minimum: {reason}."
    momenta = [f"{phase.least_momentum:.2f} at η {phase.learning_rate:g}" for phase in crossing]
    return sentences(
        "Among the starts and momenta tried with full-batch updates, balls reach the better minimum",
        "" if _crosses_from_below(crossing) else "only from starts higher than the bump and",
        f"only with a momentum of at least {listed(momenta)}.",
    )


def explain(findings: Findings) -> str:
    if not findings.phases:
        return ""
    noisy = [phase for phase in findings.phases if phase.batch_size == NOISY]
    full_batch = [phase for phase in findings.phases if phase.batch_size == EXAMPLES]
    return sentences(
        _rates_sentence(full_batch),
        "Each ball starts at rest. The colour is the probability that it ends in the better minimum, as a function "
        "of its start and its momentum λ; the lowest row, λ = 0, is SGD without momentum.",
        f"In the panels for batch size {NOISY} each probability is estimated from {DRAWS} balls." if noisy else "",
        f"With batch size {NOISY}, noise can also carry a ball over the bump from below its top."
        if _crosses_from_below(noisy)
        else "",
        f"Some grids have no value ({findings.problem})." if findings.problem else "",
    )


def _rates_sentence(phases: list[Phase]) -> str:
    """How many balls end in the better minimum at each learning rate."""
    if not phases:
        return ""
    first, *others = ((percent(phase.share_from_above), f"at η {phase.learning_rate:g}") for phase in phases)
    ends = "of the balls that start higher than the bump end in the better minimum"
    shares = [f"{first[0]} {ends} {first[1]}", *(f"{share} {rate}" for share, rate in others)]
    return f"With full-batch updates and a momentum of {phases[0].momentum:.2f}, {listed(shares)}."


def _crosses_from_below(phases: list[Phase]) -> bool:
    return any(phase.share_from_below > 0 for phase in phases)


def figure(findings: Findings) -> Figure | None:
    """The probability to end in the better minimum over start and momentum: a row of panels per batch size."""
    if not findings.phases:
        return None
    figure = new_figure(11, 6)
    panels = figure.subplots(len(BATCHES), len(LEARNING_RATES), sharex=True, sharey=True)
    phases = {(phase.batch_size, phase.learning_rate): phase for phase in findings.phases}
    for row, (batch_size, text) in zip(panels, BATCHES.items(), strict=True):
        for axes, rate in zip(row, LEARNING_RATES, strict=True):
            if phase := phases.get((batch_size, rate)):
                image = _draw_phase(axes, phase)
            axes.set_title(f"η {rate:g}, {text}", fontsize="medium")
        row[0].set_ylabel("momentum λ")
    for axes in panels[-1]:
        axes.set_xlabel("start")
    figure.colorbar(image, ax=panels, label="probability to end in the better minimum", shrink=0.8)
    return figure


def _draw_phase(axes: Axes, phase: Phase) -> QuadMesh:
    image = axes.pcolormesh(
        phase.starts, phase.momenta, phase.shares, cmap="cividis", vmin=0, vmax=1, edgecolors="face"
    )
    start = start_at_the_top()
    outline = [withStroke(linewidth=2.5, foreground="#00224e")]
    axes.axvline(start, color="white", linestyle=":", linewidth=1.2, path_effects=outline)
    axes.annotate(
        "as high as\nthe bump",
        (start, 0.04),
        xytext=(4, 0),
        textcoords="offset points",
        color="white",
        path_effects=outline,
    )
    axes.grid(False)
    return image


study = Study(
    name="phase_diagram",
    claim="local_minimum",
    place=2,
    title="Which start, which momentum",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
