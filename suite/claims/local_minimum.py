"""Local minima: the lecture's ball rolls over the bump, where SGD without momentum stops.

On a loss over one parameter with a local minimum and a better one. What carries a ball over the bump is the height
that it came from: one that starts below the top of the bump never leaves, with momentum or without. What does leave
from rest is noise, in a mean time that is known exactly for small rates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.backends import CPU
from suite.cells import Cell, Scope
from suite.claims import escapes
from suite.claims.claim import Claim, Evidence, Illustration, Row, paragraphs, status_of
from suite.claims.drawing import GREY, new_figure, thousands
from suite.claims.with_momentum import COLOURS, COLUMNS, LAMBDA, PLAIN, TOY, WITH, about_a_toy, heavy_ball, plain
from suite.instruments.escape import (
    ENDS,
    PHASES,
    ROLLED_FROM,
    ROLLING,
)
from suite.statistics import mean_interval
from suite.training.protocol import EqualUpdates
from suite.workloads import Workload
from suite.workloads.ball import EXAMPLES, LEFT, loss_at, stationary_points
from suite.workloads.ball import workload as ball

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURE = "probability to end in the better minimum, with − without momentum"
NOISY = 8
STARTS, DRAWS = 600, 8
BUDGET = EqualUpdates(2000, EXAMPLES)
ROLL = EqualUpdates(300, EXAMPLES)
PROTOCOLS = {PLAIN: plain(ball.learning_rate, BUDGET), WITH: heavy_ball(ball.learning_rate, BUDGET)}
ROLLS = {PLAIN: plain(ball.learning_rate, ROLL), WITH: heavy_ball(ball.learning_rate, ROLL)}
PHASE_RATES = (0.005, 0.02, 0.08)
PHASE_PROTOCOLS = {rate: heavy_ball(rate, BUDGET, 0.99) for rate in PHASE_RATES}
ABOVE, BELOW = "above", "below"
BATCHES = {EXAMPLES: "all examples", NOISY: f"batch size {NOISY}"}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The toy, whatever the workload: many random starts, a grid of starts and momenta, two balls followed, and
    escapes under noise."""
    name = ball.name
    ends = [Cell(ENDS, name, CPU.name, size, STARTS, one) for size in BATCHES for one in PROTOCOLS.values()]
    phases = [
        Cell(PHASES, name, CPU.name, size, DRAWS if size == NOISY else 1, one)
        for size in BATCHES
        for one in PHASE_PROTOCOLS.values()
    ]
    rolls = [Cell(ROLLING, name, CPU.name, EXAMPLES, 1, one) for one in ROLLS.values()]
    return [*ends, *phases, *rolls, *escapes.cells()]


def top() -> float:
    """The height of the bump."""
    return loss_at(stationary_points()[1])


def crossings(evidence: Evidence, batch_size: int, which: str, where: str) -> pd.Series:
    """Whether each ball that starts above, or below, the top of the bump ends in the better minimum."""
    rows = evidence.ok()
    rows = rows[(rows["measurement"] == ENDS.name) & (rows["batch_size"] == batch_size)]
    rows = rows[rows["protocol"] == PROTOCOLS[which].key]
    if rows.empty:
        return pd.Series(dtype=float)
    higher = loss_at(rows["start"].to_numpy(dtype=float)) > top()
    return rows[higher == (where == ABOVE)].set_index("seed")["crossed"]


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the probability to end in the better minimum with momentum minus that without, from random starts
    higher than the bump, by full batches at the same rate, lies above 0 with its whole interval.

    Paired by start, Student's t. Starts below the top of the bump, and small batches, have rows in table.csv.
    """
    return [
        _compared(evidence, size, where, headline=size == EXAMPLES and where == ABOVE)
        for size in BATCHES
        for where in (ABOVE, BELOW)
    ]


def _compared(evidence: Evidence, size: int, where: str, headline: bool) -> Row:
    shared = {
        "backend": CPU.name,
        "protocol": f"{PROTOCOLS[WITH]}, batch size {size}, starts {where} the bump",
        "small": size,
        "large": size,
        "measure": MEASURE,
        "unit": "probability",
        "kind": "difference",
        "null": 0,
        "headline": headline,
    }
    with_it, without = (crossings(evidence, size, which, where) for which in (WITH, PLAIN))
    if with_it.empty or without.empty:
        status, reason = status_of(evidence.rows[evidence.rows["measurement"] == ENDS.name])
        return Row(**shared, status=status, flags=reason)
    return Row.judged(
        mean_interval((with_it - without).dropna()),
        **shared,
        value_small=float(without.mean()),
        value_large=float(with_it.mean()),
        flags=f"{TOY}, from starts {where} the top of the bump" + ("" if headline else f", {BATCHES[size]}"),
    )


def draw(evidence: Evidence) -> Figure:
    """Two balls on the loss, without and with momentum; and how long noise takes to free one."""
    figure = new_figure(12.2, 4)
    panels = figure.subplots(1, 3)
    rows = evidence.ok()
    for axes, (which, protocol) in zip(panels, ROLLS.items(), strict=False):
        rolled = rows[(rows["measurement"] == ROLLING.name) & (rows["protocol"] == protocol.key)]
        _draw_balls(axes, rolled, which)
    panels[1].sharey(panels[0])
    panels[0].set_ylabel("training loss")
    escapes.draw(panels[2], escapes.found(evidence))
    return figure


def _draw_balls(axes: Axes, rolled: pd.DataFrame, which: str) -> None:
    """The loss, and on it where each ball was after every update; an open ring where it comes to rest."""
    fine = np.linspace(-2.15, 1.95, 300)
    axes.plot(fine, loss_at(fine), color=GREY, linewidth=1)
    for place, start in enumerate(ROLLED_FROM if len(rolled) else ()):
        ball_rows = rolled[np.isclose(rolled["start"].astype(float), start)].sort_values("updates")
        at = ball_rows["position"].to_numpy(dtype=float)
        colour = (COLOURS[WITH], "black")[place]
        axes.plot(at, loss_at(at), "-o", color=colour, markersize=3, alpha=0.35, linewidth=0.8)
        axes.plot(at[0], loss_at(at[0]), "o", color=colour, markersize=9, label=f"from {start:g}".replace("-", "−"))
        axes.plot(at[-1], loss_at(at[-1]), "o", color=colour, markersize=9, markerfacecolor="white")
    axes.axhline(top(), color=GREY, linestyle=":", linewidth=1)
    axes.annotate("top of the bump", (0, top()), xytext=(0, 4), textcoords="offset points", ha="center", color=GREY)
    axes.set_xlabel("parameter")
    axes.set_title(f"{which} momentum")
    if len(rolled):
        axes.legend(loc="upper center", title="filled: start, open: end")


def draw_phases(evidence: Evidence) -> Figure | None:
    """The probability to end in the better minimum over start and momentum; None where it was not measured."""
    rows = evidence.ok()
    rows = rows[rows["measurement"] == PHASES.name]
    if rows.empty:
        return None
    figure = new_figure(11, 6)
    panels = figure.subplots(len(BATCHES), len(PHASE_RATES), sharex=True, sharey=True)
    for line, (size, batch) in zip(panels, BATCHES.items(), strict=True):
        for axes, (rate, protocol) in zip(line, PHASE_PROTOCOLS.items(), strict=True):
            of = rows[(rows["batch_size"] == size) & (rows["protocol"] == protocol.key)]
            if len(of):
                image = _draw_phase(axes, of)
            axes.set_title(f"η {rate:g}, {batch}", fontsize="medium")
        line[0].set_ylabel("momentum λ")
    for axes in panels[-1]:
        axes.set_xlabel("start")
    figure.colorbar(image, ax=panels, label="probability to end in the better minimum", shrink=0.8)
    return figure


def _draw_phase(axes: Axes, rows: pd.DataFrame):
    from matplotlib.patheffects import withStroke

    grid = rows.pivot(index="momentum", columns="start", values="crossed")
    image = axes.pcolormesh(grid.columns, grid.index, grid, cmap="cividis", vmin=0, vmax=1, edgecolors="face")
    level = start_at_the_top()
    outlined = [withStroke(linewidth=2.5, foreground="#00224e")]
    axes.axvline(level, color="white", linestyle=":", linewidth=1.2, path_effects=outlined)
    axes.annotate(
        "as high as\nthe bump",
        (level, 0.04),
        xytext=(4, 0),
        textcoords="offset points",
        color="white",
        path_effects=outlined,
    )
    axes.grid(False)
    return image


def start_at_the_top() -> float:
    """The start on the far slope that is as high as the bump."""
    fine = np.linspace(LEFT, stationary_points()[0], 10_000)
    return float(fine[loss_at(fine) > top()][-1])


def explain(evidence: Evidence, rows: list[Row]) -> str:
    above, below, _, noisy = rows
    if above.status != "ok":
        return paragraphs(f"The balls were not rolled: {above.flags}.", escapes.sentence(evidence))
    said = (
        f"{about_a_toy(evidence.facts)}From {above.seeds} random starts higher than the bump, at rate "
        f"{ball.learning_rate:g}, "
        f"{above.value_small:.0%} of the balls end in the better minimum without momentum and "
        f"{above.value_large:.0%} with λ {LAMBDA:g}; from {below.seeds} starts below the top of the bump, "
        f"{below.value_small:.0%} and {below.value_large:.0%}. Momentum spends the height it came from and makes "
        "none: the lecture's picture is that of a ball that rolls in from higher up with little enough friction "
        "(1 − λ) / √η. Which side a fast ball ends on alternates with its start: it may roll back."
    )
    if noisy.status == "ok":
        said += (
            f" The noise of small batches does free a ball that starts below: with batch size {NOISY}, "
            f"{noisy.value_small:.0%} without and {noisy.value_large:.0%} with momentum after the same "
            f"{BUDGET.epochs:,} updates."
        )
    return paragraphs(said, escapes.sentence(evidence))


def numbers(evidence: Evidence) -> pd.DataFrame:
    places = [(batch, where) for batch in BATCHES.values() for where in (ABOVE, BELOW)]
    return pd.DataFrame(
        {
            "gradient of": batch,
            "start": f"{where} the top of the bump",
            "balls": thousands(row.seeds),
            "end better, without": f"{row.value_small:.1%}",
            "end better, with": f"{row.value_large:.1%}",
            "difference, 95% interval": f"{row.effect_low:+.3f} to {row.effect_high:+.3f}",
        }
        for (batch, where), row in zip(places, judge(evidence), strict=True)
        if row.status == "ok"
    )


PHASES_SAY = (
    "Where a ball ends that is let go at rest, over its start and its momentum (the lowest row, λ 0, is SGD "
    "without momentum), at three learning rates, by the gradient of all examples and of small batches."
)

claim = Claim(
    name="local_minimum",
    row=10,
    title="Local minima",
    small="Stops",
    large="Rolls over the bump",
    says="A ball with momentum rolls through a local minimum and over the bump after it; without momentum it stops.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    columns=COLUMNS,
    illustrations=(Illustration(draw_phases, "Which start, which momentum", PHASES_SAY),),
)
