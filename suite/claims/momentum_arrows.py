"""The lecture's two slides of arrows: what each update is the sum of, without and with momentum.

Drawn beside the row on the movement, on the workload `ravine`, whose two parameters make its loss a surface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.backends import CPU
from suite.cells import Cell
from suite.claims.claim import Evidence
from suite.claims.drawing import LIGHT_GREY, new_figure
from suite.claims.with_momentum import COLOURS, LAMBDA, PLAIN, WITH, heavy_ball, plain
from suite.instruments.landscape import PATH, SURFACE
from suite.training.protocol import EqualEpochs, Protocol
from suite.workloads.ravine import EXAMPLES, workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_UPDATES = 24
TITLE = "The lecture's arrows"
SAYS = (
    "Two slides of the lecture, on twenty examples and two parameters, with SGD. Without momentum each update "
    "follows the negative gradient; with it, the negative gradient and the last movement together. Both "
    f"make {SHOWN_UPDATES} updates at the same rate."
)


def protocols() -> dict[str, Protocol]:
    budget = EqualEpochs(SHOWN_UPDATES)
    return {PLAIN: plain(workload.learning_rate, budget), WITH: heavy_ball(workload.learning_rate, budget)}


def cells() -> list[Cell]:
    """The paths without and with momentum, and the surface."""
    both = protocols()
    paths = [Cell(PATH, workload.name, CPU.name, EXAMPLES, 1, protocol) for protocol in both.values()]
    return [*paths, Cell(SURFACE, workload.name, CPU.name, EXAMPLES, 1, both[WITH])]


def draw(evidence: Evidence) -> Figure | None:
    """Each update on the toy's surface, without and with momentum; None where the toy was not measured."""
    rows = evidence.ok()
    surface = rows[rows["measurement"] == SURFACE.name]
    paths = {which: rows[rows["protocol"] == protocol.key] for which, protocol in protocols().items()}
    paths = {which: path[path["measurement"] == PATH.name] for which, path in paths.items()}
    if surface.empty or any(path.empty for path in paths.values()):
        return None
    figure = new_figure(9.6, 6.2)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    grid = surface.pivot(index="second", columns="first", values="train_loss")
    for axes, (which, path) in zip(panels, paths.items(), strict=True):
        height = np.sqrt(grid - grid.min().min())
        axes.contour(grid.columns, grid.index, height, levels=14, colors=LIGHT_GREY, linewidths=0.7)
        _draw_path(axes, path.sort_values("updates"), LAMBDA if which == WITH else 0.0)
        axes.set_title(f"{which} momentum")
        axes.set_xlabel("weight")
        axes.set_aspect("equal")
        axes.grid(False)
    panels[0].set_ylabel("bias")
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw_path(axes: Axes, path: pd.DataFrame, momentum: float) -> None:
    """Each update as what is left of the last movement and the negative gradient, tip to tail from point to point."""
    at = path[["first", "second"]].to_numpy()
    movements = np.diff(at, axis=0)
    pushes = -workload.learning_rate * path[["first_gradient", "second_gradient"]].to_numpy()[1:]
    kept = momentum * np.vstack([np.zeros(2), movements[:-1]])
    arrow = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.007}
    if momentum:
        axes.quiver(*at[:-1].T, *kept.T, color=COLOURS[WITH], label="last movement × λ", zorder=2, **arrow)
    axes.quiver(
        *(at[:-1] + kept).T, *pushes.T, color=COLOURS[PLAIN], label="negative gradient × η", zorder=3, **arrow
    )
    axes.plot(*at.T, "o", color="black", markersize=4, label="the parameters after an update", zorder=4)
