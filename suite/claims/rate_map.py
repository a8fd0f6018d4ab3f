"""The final training loss over the learning rate and the batch size, from the trials of the tuned trainings.

The diagonals of equal rate / batch size are the lines along which the noise of an update stays the same in the limit
of small rates (Smith, Le 2018; Jastrzebski et al. 2017): where the loss follows them, a larger batch wants a larger
rate; where trials diverge, it can have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Evidence, Facts
from suite.claims.drawing import new_figure, thousands
from suite.claims.factorial import EPOCHS, TUNED, protocols
from suite.training.protocol import Protocol
from suite.training.tuning import TRIAL, TUNED_TRAINING
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USABLE = 1.5
"""A rate is called usable where it ends with at most so many times the loss of the best."""
TITLE = "The learning rates that each batch size can use"
SAYS = (
    "Geometric mean of the training loss after equal epochs, for each learning rate tried at each batch size. "
    "The white dot is the best rate, the white line spans the usable ones, which end with at most 1.5 times its "
    "loss; along a dotted line rate / batch size is constant. Hatched: a trial diverged."
)


def protocol(of: Facts | Workload) -> Protocol:
    """The tuned rate for equal epochs."""
    return protocols(of)[TUNED, EPOCHS]


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every batch size at its tuned rate; none outside a factorial scope."""
    return [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, size, scope.seeds, protocol(workload))
        for size in scope.training_batch_sizes
        if scope.factorial
    ]


def losses(evidence: Evidence) -> pd.DataFrame:
    """Geometric mean of the final training loss over the trials of each rate (index, ascending) at each batch size
    (columns); infinite where one diverged, no number where the rate was not tried."""
    rows = evidence.rows[evidence.rows["protocol"] == protocol(evidence.facts).key]
    if "stage" not in rows or rows.empty:
        return pd.DataFrame()
    trials = rows[rows["stage"] == TRIAL]
    logs = np.log(trials["train_loss"].where(trials["status"] == "ok", np.inf).clip(lower=1e-12))
    keys = [trials["learning_rate"], trials["batch_size"]]
    return np.exp(logs.groupby(keys).mean()).unstack().sort_index()


def draw(evidence: Evidence) -> Figure | None:
    """A cell per rate and batch size, coloured by the loss; None where they were not measured."""
    from matplotlib.colors import LogNorm
    from matplotlib.patheffects import withStroke

    table = losses(evidence)
    if table.empty:
        return None
    figure = new_figure(8.4, 5.2)
    axes = figure.subplots()
    finite = table.where(np.isfinite(table))
    rates, sizes = np.log10(table.index.to_numpy()), np.arange(table.shape[1])
    half = np.diff(rates).min() / 2
    edges = (np.arange(len(sizes) + 1) - 0.5, np.append(rates - half, rates[-1] + half))
    outlined = [withStroke(linewidth=4, foreground="black")]
    scale = LogNorm(finite.min().min(), finite.max().max())
    image = axes.pcolormesh(*edges, finite, cmap="viridis_r", norm=scale)
    for place, size in enumerate(table):
        for rate in table.index[np.isinf(table[size])]:
            axes.fill_between(
                [place - 0.5, place + 0.5],
                np.log10(rate) - half,
                np.log10(rate) + half,
                facecolor="white",
                edgecolor="#8a8a8a",
                hatch="////",
                linewidth=0,
            )
        usable = finite.index[finite[size] <= USABLE * finite[size].min()]
        if len(usable):
            reach = np.log10([usable.min(), usable.max()])
            axes.plot([place] * 2, reach, color="white", linewidth=2, path_effects=outlined)
            best = np.log10(finite[size].idxmin())
            axes.plot(place, best, "o", color="white", markeredgecolor="black", markersize=7)
    _draw_diagonals(axes, np.log10(list(table)), edges[1])
    axes.set_xticks(sizes, [thousands(size) for size in table])
    powers = np.arange(np.ceil(edges[1][0]), edges[1][-1])
    axes.set_yticks(powers, [f"{10**power:g}" for power in powers])
    axes.set_ylim(edges[1][0], edges[1][-1])
    axes.set_xlabel("batch size (examples)")
    axes.set_ylabel("learning rate")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label=f"training loss after {evidence.facts.epochs} epochs")
    return figure


def _draw_diagonals(axes, log_sizes: np.ndarray, log_rates: np.ndarray) -> None:
    """Of equal rate / batch size, a factor of ten apart."""
    places = np.arange(len(log_sizes))
    for level in np.arange(np.floor(log_rates[0] - log_sizes[-1]), np.ceil(log_rates[-1] - log_sizes[0])):
        axes.plot(places, level + log_sizes, ":", color="#9a9a9a", linewidth=1.2)
