"""The lecture's picture of twenty examples: one update after all of them, or one after each.

Drawn beside the gradient row of every report, on the workload `twenty`, whose two parameters make its loss a
surface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from suite.backends import CPU
from suite.cells import Cell
from suite.claims.claim import Evidence
from suite.claims.drawing import LARGE_COLOUR, SMALL_COLOUR, new_figure
from suite.instruments.landscape import PATH, SURFACE
from suite.training.protocol import EqualEpochs, Protocol
from suite.workloads.twenty import EXAMPLES, workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The lecture's toy"
SAYS = (
    "Twenty examples and two parameters, with SGD. Left, the full batch: one update after seeing all "
    "twenty, a steady path. Right, batch size 1: an update for each example, twenty in the same epoch, and a noisy "
    "path. Large dots mark the ends of epochs."
)


def cells() -> list[Cell]:
    """The surface, and the paths of batch size 1 and of the full batch."""
    protocol = Protocol.of(workload, EqualEpochs(workload.epochs))
    surface = Cell(SURFACE, workload.name, CPU.name, 1, repeats=1, protocol=protocol)
    return [
        surface,
        *(Cell(PATH, workload.name, CPU.name, size, repeats=1, protocol=protocol) for size in (1, EXAMPLES)),
    ]


def draw(evidence: Evidence) -> Figure | None:
    """Both paths on the same surface; None where the toy was not measured."""
    rows = evidence.ok()
    surface = rows[rows["measurement"] == SURFACE.name]
    paths = rows[rows["measurement"] == PATH.name]
    if surface.empty or paths.empty:
        return None
    figure = new_figure(9.6, 4.4)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    grid = surface.pivot(index="second", columns="first", values="train_loss")
    for axes, batch_size, colour, title in (
        (panels[0], EXAMPLES, LARGE_COLOUR, "update after seeing all the 20 examples"),
        (panels[1], 1, SMALL_COLOUR, "update for each example"),
    ):
        contours = axes.contourf(grid.columns, grid.index, grid, levels=14, cmap="Greys", alpha=0.6)
        _draw_path(axes, paths[paths["batch_size"] == batch_size].sort_values("updates"), batch_size, colour)
        axes.set_title(title)
        axes.set_xlabel("weight")
        axes.grid(False)
    panels[0].set_ylabel("bias")
    figure.colorbar(contours, ax=panels, label="training loss", shrink=0.9)
    return figure


def _draw_path(axes: Axes, path: pd.DataFrame, batch_size: int, colour: tuple) -> None:
    axes.plot(path["first"], path["second"], ".-", color=colour, linewidth=1, markersize=3)
    ends = path[path["updates"] % -(-EXAMPLES // batch_size) == 0]
    axes.plot(ends["first"], ends["second"], "o", color=colour, markersize=6, markeredgecolor="white")
