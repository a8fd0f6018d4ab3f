"""The lecture's picture of twenty examples: one update after all of them, or one after each.

A toy for every report, on the workload `twenty`, whose two parameters make its loss a surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import CPU
from suite.evidence import Evidence
from suite.evidence.landscape import Path, Surface
from suite.experiments.cell import Cell, Scope
from suite.experiments.landscape import PATH, SURFACE
from suite.figures import LARGE_COLOUR, SMALL_COLOUR, new_figure
from suite.studies.study import Study
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from suite.workloads import Workload
from suite.workloads.twenty import EXAMPLES
from suite.workloads.twenty import workload as twenty


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The loss surface, and the paths of batch size 1 and of the full batch."""
    protocol = Protocol.of(twenty, EqualEpochs(twenty.epochs))
    surface = Cell(SURFACE, twenty.name, CPU.name, 1, repeats=1, protocol=protocol)
    paths = [Cell(PATH, twenty.name, CPU.name, size, repeats=1, protocol=protocol) for size in (1, EXAMPLES)]
    return [surface, *paths]


@dataclass(frozen=True)
class Findings:
    surface: Surface | None
    paths: dict[int, Path]
    """By batch size."""


def analyse(evidence: Evidence) -> Findings:
    paths = {int(size): Path.of(rows) for size, rows in evidence.ok(PATH.name).groupby("batch_size")}
    return Findings(Surface.of(evidence.ok(SURFACE.name)), paths)


def answer(findings: Findings) -> str:
    if findings.surface is None or len(findings.paths) < 2:
        return "The toy was not measured."
    return "The full batch takes one steady step per epoch; batch size 1 takes twenty noisy ones."


def figure(findings: Findings) -> Figure | None:
    """Both paths on the same surface."""
    if findings.surface is None or len(findings.paths) < 2:
        return None
    figure = new_figure(9.6, 4.4)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    surface = findings.surface
    for axes, batch_size, colour, title in (
        (panels[0], EXAMPLES, LARGE_COLOUR, "one update after all 20 examples"),
        (panels[1], 1, SMALL_COLOUR, "one update after each example"),
    ):
        contours = axes.contourf(surface.first, surface.second, surface.losses, levels=14, cmap="Greys", alpha=0.6)
        _draw_path(axes, findings.paths[batch_size], batch_size, colour)
        axes.set_title(title)
        axes.set_xlabel("weight")
        axes.grid(False)
    panels[0].set_ylabel("bias")
    figure.colorbar(contours, ax=panels, label="training loss", shrink=0.9)
    return figure


def _draw_path(axes: Axes, path: Path, batch_size: int, colour: str) -> None:
    axes.plot(path.first, path.second, ".-", color=colour, linewidth=1, markersize=3)
    updates_per_epoch = -(-EXAMPLES // batch_size)
    epochs = np.arange(0, len(path.first), updates_per_epoch)
    first, second = np.array(path.first)[epochs], np.array(path.second)[epochs]
    axes.plot(first, second, "o", color=colour, markersize=6, markeredgecolor="white")


def explain(findings: Findings) -> str:
    return (
        "Twenty examples and two parameters, trained with SGD, as on the lecture's slide. Left: the full batch makes "
        "one update per epoch. Right: batch size 1 makes an update after each example, twenty per epoch. Large dots "
        "mark the ends of epochs."
    )


study = Study(
    name="twenty_examples",
    claim="gradient",
    place=1,
    title="The lecture's twenty examples",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
