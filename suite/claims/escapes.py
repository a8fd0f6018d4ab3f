"""How long noise alone takes to free the lecture's ball: small batches, without momentum, from the bottom of the
local minimum to that of the better one, beside the mean time that is exact for small rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.backends import CPU
from suite.cells import Cell
from suite.claims.claim import Evidence
from suite.claims.drawing import GREY, bounds, intervals, thousands
from suite.claims.trained import without_value
from suite.claims.with_momentum import plain
from suite.instruments.escape import ESCAPE_TIMES, mean_escape_time
from suite.statistics import mean_interval
from suite.training.protocol import EqualUpdates
from suite.workloads.ball import EXAMPLES, SLOPE, loss_at, stationary_points
from suite.workloads.ball import workload as ball

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ESCAPES, SIZES = 400, (1, 2, 4)
PROTOCOL = plain(ball.learning_rate, EqualUpdates(100_000, EXAMPLES))


def cells() -> list[Cell]:
    return [Cell(ESCAPE_TIMES, ball.name, CPU.name, size, ESCAPES, PROTOCOL) for size in SIZES]


def found(evidence: Evidence) -> pd.DataFrame:
    """A row per batch size: mean `updates` from one bottom to the other with their interval, and the `exact` ones.
    A batch size of which some did not escape in time has none: their mean would be too low."""
    rows = evidence.rows[evidence.rows["measurement"] == ESCAPE_TIMES.name]
    table = [
        (int(size), mean_interval(of_size["updates"]), exact_updates(size))
        for size, of_size in rows.groupby("batch_size")
        if (of_size["status"] == "ok").all()
    ]
    return pd.DataFrame(table, columns=["batch_size", "updates", "exact"])


def exact_updates(batch_size: float) -> float:
    """Mean updates to escape from rest, for small rates."""
    bottom, _, better = stationary_points()
    noise = ball.learning_rate * SLOPE**2 / (2 * batch_size)
    return mean_escape_time(loss_at, noise, bottom, better) / ball.learning_rate


def draw(axes: Axes, table: pd.DataFrame) -> None:
    """The updates that it takes over the batch size, measured and exact."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    fine = np.geomspace(min(SIZES), max(SIZES), 40)
    axes.plot(fine, [exact_updates(size) for size in fine], color=GREY, linewidth=1, label="exact, for small rates")
    intervals(axes, table["batch_size"], table["updates"], label="measured")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(SIZES)
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch size (examples)")
    axes.set_ylabel("updates to escape by noise alone")
    axes.set_title("without momentum, from rest")
    axes.legend(loc="upper left")


def sentence(evidence: Evidence) -> str:
    """How long it takes beside what is exact for small rates, or why there is no mean; empty where it was not
    planned."""
    table, rows = found(evidence), evidence.rows[evidence.rows["measurement"] == ESCAPE_TIMES.name]
    against = [
        without_value(of_size, f" at batch size {size}")
        for size, of_size in rows.groupby("batch_size")
        if size not in set(table["batch_size"])
    ]
    lacking = f"The time to escape has no mean where some did not ({'; '.join(against)})." if against else ""
    if table.empty:
        return lacking
    times = "; ".join(
        f"{one['updates'].estimate:,.0f} updates ({bounds(one['updates'], thousands)}) at batch size "
        f"{one['batch_size']}, where small rates would take {one['exact']:,.0f}"
        for _, one in table.iterrows()
    )
    return f"Noise alone, without momentum and from one bottom to the other, takes {times}. {lacking}"
