"""The lecture's two slides of arrows: the parts of each update, without and with momentum.

A toy for every report, on the workload `ravine`, whose two parameters make its loss a surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import CPU
from suite.evidence import Evidence
from suite.evidence.landscape import Path, Surface
from suite.experiments.cell import Cell, Scope
from suite.experiments.landscape import PATH, SURFACE
from suite.figures import LIGHT_GREY, WITH_COLOUR, WITHOUT_COLOUR, new_figure
from suite.studies.study import Study
from suite.training.budgets import EqualEpochs
from suite.training.momentum_pair import LAMBDA, WITH, WITHOUT, with_momentum, without_momentum
from suite.training.protocol import Protocol
from suite.workloads import Workload
from suite.workloads.ravine import EXAMPLES
from suite.workloads.ravine import workload as ravine

UPDATES = 24

Vector = tuple[float, float]


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The paths without and with momentum, and the loss surface."""
    pair = protocols()
    paths = [Cell(PATH, ravine.name, CPU.name, EXAMPLES, 1, protocol) for protocol in pair.values()]
    return [*paths, Cell(SURFACE, ravine.name, CPU.name, EXAMPLES, 1, pair[WITH])]


def protocols() -> dict[str, Protocol]:
    """Full batches at the same rate, without and with momentum."""
    rate, budget = ravine.learning_rate, EqualEpochs(UPDATES)
    return {WITHOUT: without_momentum(rate, budget), WITH: with_momentum(rate, budget)}


@dataclass(frozen=True)
class Arrows:
    """A path, and the two parts of each of its updates."""

    path: Path
    kept_movements: tuple[Vector, ...]
    """λ times the last movement."""
    gradient_steps: tuple[Vector, ...]
    """−η times the gradient."""


@dataclass(frozen=True)
class Findings:
    surface: Surface | None
    arrows: dict[str, Arrows]
    """Without and with momentum."""


def analyse(evidence: Evidence) -> Findings:
    paths, momenta = evidence.ok(PATH.name), {WITHOUT: 0.0, WITH: LAMBDA}
    rows = {name: paths[paths["protocol"] == protocol.key] for name, protocol in protocols().items()}
    arrows = {name: _arrows(path, momenta[name]) for name, path in rows.items() if len(path)}
    return Findings(Surface.of(evidence.ok(SURFACE.name)), arrows)


def _arrows(rows: pd.DataFrame, momentum: float) -> Arrows:
    rows = rows.sort_values("updates")
    movements = np.diff(rows[["first", "second"]].to_numpy(), axis=0)
    kept_movements = momentum * np.vstack([np.zeros(2), movements[:-1]])
    gradient_steps = -ravine.learning_rate * rows[["first_gradient", "second_gradient"]].to_numpy()[1:]
    return Arrows(Path.of(rows), _vectors(kept_movements), _vectors(gradient_steps))


def _vectors(array: np.ndarray) -> tuple[Vector, ...]:
    return tuple((first, second) for first, second in array.tolist())


def answer(findings: Findings) -> str:
    if findings.surface is None or len(findings.arrows) < 2:
        return "The toy was not measured."
    return (
        "Without momentum each update follows the negative gradient alone; with momentum it also keeps most of the "
        "last movement."
    )


def figure(findings: Findings) -> Figure | None:
    """The arrows of each update on the loss surface, without and with momentum."""
    if findings.surface is None or len(findings.arrows) < 2:
        return None
    figure = new_figure(9.6, 6.2)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    losses = np.array(findings.surface.losses)
    height = np.sqrt(losses - losses.min())
    for axes, (name, arrows) in zip(panels, findings.arrows.items(), strict=True):
        axes.contour(
            findings.surface.first, findings.surface.second, height, levels=14, colors=LIGHT_GREY, linewidths=0.7
        )
        _draw_arrows(axes, arrows, with_kept=name == WITH)
        axes.set_title(f"{name} momentum")
        axes.set_xlabel("weight")
        axes.set_aspect("equal")
        axes.grid(False)
    panels[0].set_ylabel("bias")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_arrows(axes: Axes, arrows: Arrows, with_kept: bool) -> None:
    """Draw λ times the last movement and −η times the gradient, tip to tail from point to point."""
    points = np.column_stack([arrows.path.first, arrows.path.second])
    kept, steps = np.array(arrows.kept_movements), np.array(arrows.gradient_steps)
    style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.007}
    if with_kept:
        axes.quiver(*points[:-1].T, *kept.T, color=WITH_COLOUR, label="last movement × λ", zorder=2, **style)
    starts = points[:-1] + kept
    axes.quiver(*starts.T, *steps.T, color=WITHOUT_COLOUR, label="negative gradient × η", zorder=3, **style)
    axes.plot(*points.T, "o", color="black", markersize=4, label="parameters after an update", zorder=4)


def explain(findings: Findings) -> str:
    return (
        "Two slides of the lecture: twenty examples and two parameters, trained with full batches by SGD for "
        f"{UPDATES} updates at the same learning rate. Left: no momentum. Right: λ = {LAMBDA:g}; each update is the "
        "sum of two arrows."
    )


study = Study(
    name="momentum_arrows",
    claim="momentum_sum",
    place=1,
    title="The lecture's arrows",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
