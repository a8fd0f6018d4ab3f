"""Plateaus: momentum carries the parameters on where the gradient almost vanishes.

The lecture's ball rolls on over a plateau. The plateau here is the saddle of (1 - w1 w2)^2, where the time to leave
is known: along its unstable axis every update multiplies the distance by the larger root of
r^2 - (1 + lambda - eta h) r + lambda = 0 with curvature h = -2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.backends import CPU
from suite.cells import Cell, Scope
from suite.claims.claim import Claim, Evidence, Row, status_of
from suite.claims.drawing import GREY, bounds, new_figure, three_digits
from suite.claims.trained import trouble
from suite.claims.with_momentum import COLOURS, COLUMNS, LAMBDA, PLAIN, TOY, WITH, about_a_toy, heavy_ball, plain
from suite.instruments.momentum import growth
from suite.instruments.saddle import CURVATURE, LEAVING, LEFT_AT, updates_to_leave
from suite.statistics import Interval, mean_interval, value_at_crossing
from suite.training.protocol import EqualEpochs
from suite.workloads import Workload
from suite.workloads.saddle import EXAMPLES
from suite.workloads.saddle import workload as saddle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURE = "updates to leave the saddle, without / with momentum"
MATCHED = "without, matched rate"
BUDGET = EqualEpochs(2000)
PROTOCOLS = {
    PLAIN: plain(saddle.learning_rate, BUDGET),
    WITH: heavy_ball(saddle.learning_rate, BUDGET),
    MATCHED: plain(round(saddle.learning_rate / (1 - LAMBDA), 6), BUDGET),
}
STYLES = {PLAIN: COLOURS[PLAIN], WITH: COLOURS[WITH], MATCHED: "C2"}
STARTS = 30


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The toy from many starts, whatever the workload."""
    return [Cell(LEAVING, saddle.name, CPU.name, EXAMPLES, STARTS, protocol) for protocol in PROTOCOLS.values()]


def looks(evidence: Evidence, which: str) -> pd.DataFrame:
    return evidence.rows[evidence.rows["protocol"] == PROTOCOLS[which].key]


def updates(evidence: Evidence, which: str) -> pd.Series:
    """Updates until each start is left behind, interpolated in the log of the distance."""
    left = looks(evidence, which).sort_values("updates").groupby("seed")
    return left.apply(
        lambda one: value_at_crossing(1 / one["distance"], one["updates"].to_numpy(), 1 / LEFT_AT),
        include_groups=False,
    )


def expected(evidence: Evidence, which: str) -> pd.Series:
    """The same by the closed form, from where each started."""
    rows, protocol = looks(evidence, which), PROTOCOLS[which]
    starts = rows[rows["updates"] == 0].set_index("seed")["distance"]
    return starts.map(lambda start: updates_to_leave(protocol.learning_rate, protocol.optimizer.momentum, start))


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the updates it takes to leave the saddle without momentum over those with it, at the same learning
    rate, lie above 1 with their whole interval.

    The geometric mean over starts beside the saddle, Student's t on the differences of logs. A row in table.csv
    compares momentum with SGD without it at the matched rate, η / (1 − λ), as well.
    """
    return [_compared(evidence, PLAIN, headline=True), _compared(evidence, MATCHED, headline=False)]


def _compared(evidence: Evidence, without: str, headline: bool) -> Row:
    shared = {
        "backend": CPU.name,
        "protocol": str(PROTOCOLS[WITH]) if headline else str(PROTOCOLS[without]),
        "small": EXAMPLES,
        "large": EXAMPLES,
        "measure": MEASURE if headline else f"{MEASURE}, at the matched rate",
        "unit": "updates",
        "headline": headline,
        "flags": TOY,
    }
    for which in (without, WITH):
        rows = looks(evidence, which)
        status, reason = trouble(rows, which) if rows["seed"].notna().any() else status_of(rows)
        if status != "ok":
            return Row(**shared | {"flags": reason}, status=status)
    one, other = updates(evidence, without), updates(evidence, WITH)
    values = {"value_small": _geometric_mean(one), "value_large": _geometric_mean(other)}
    return Row.judged(mean_interval(np.log(one / other)).map(np.exp), **shared, **values)


def _geometric_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values).mean()))


def draw(evidence: Evidence) -> Figure:
    """Training loss over updates, the plateau; and the distance from the saddle, with the closed form."""
    figure = new_figure(9.6, 4)
    left, right = figure.subplots(1, 2)
    for which in PROTOCOLS:
        _draw_starts(left, right, looks(evidence, which).dropna(subset=["seed"]), which)
    left.set_ylabel("training loss")
    right.set_ylabel("distance from the saddle")
    right.set_yscale("log")
    right.axhline(LEFT_AT, color=GREY, linewidth=1, linestyle=":")
    right.plot([], [], "--", color="black", linewidth=1, label="closed form")
    for axes in (left, right):
        axes.set_xlabel("updates")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _draw_starts(left: Axes, right: Axes, rows: pd.DataFrame, which: str) -> None:
    """Ten starts as thin lines; of the first also the growth that the closed form gives."""
    protocol = PROTOCOLS[which]
    label = (
        f"{which} momentum (η {protocol.learning_rate:g})"
        if which != MATCHED
        else (f"without, η / (1 − λ) = {protocol.learning_rate:g}")
    )
    for seed, looks_at_one in rows[rows["seed"] < 10].groupby("seed"):
        one = looks_at_one.sort_values("updates")
        style = {"color": STYLES[which], "linewidth": 1, "alpha": 0.6, "label": label if seed == 0 else None}
        left.plot(one["updates"], one["train_loss"], **style)
        right.plot(one["updates"], one["distance"], **style)
        if seed == 0:
            near = one[one["distance"] < 0.3]
            gone = np.log(growth(protocol.learning_rate, protocol.optimizer.momentum, CURVATURE))
            end = near["updates"].iloc[-1]
            line = near["distance"].iloc[-1] * np.exp(gone * (near["updates"] - end))
            right.plot(near["updates"], line, "--", color="black", linewidth=1, zorder=3)


def explain(evidence: Evidence, rows: list[Row]) -> str:
    same, matched = rows
    if same.status != "ok":
        return f"The saddle was not left: {same.flags}."
    predicted = [_geometric_mean(expected(evidence, which)) for which in (PLAIN, WITH)]
    return (
        f"{about_a_toy(evidence.facts)}The loss (1 − w1 w2)^2 has a saddle at zero: its gradient vanishes there, "
        f"though no minimum is near. From {same.seeds} starts about a millionth away from it, SGD without momentum "
        f"at rate {saddle.learning_rate:g} takes {three_digits(same.value_small)} updates to get {LEFT_AT:g} away, "
        f"with λ {LAMBDA:g} "
        f"{three_digits(same.value_large)}; the closed form says {three_digits(predicted[0])} and "
        f"{three_digits(predicted[1])}.{_matched_sentence(matched)}"
    )


def _matched_sentence(row: Row) -> str:
    if row.status != "ok":
        return ""
    interval = Interval(row.effect, row.effect_low, row.effect_high, row.seeds)
    return (
        f" It is the larger effective rate that does it: without momentum, at the matched rate η / (1 − λ) = "
        f"{PROTOCOLS[MATCHED].learning_rate:g}, SGD takes {three_digits(row.value_small)} "
        f"(×{three_digits(row.effect)} of momentum's, {bounds(interval, three_digits)}). What momentum adds is "
        "room: where the loss is curved upwards, it is stable up to (1 + λ) / (1 − λ) = "
        f"{(1 + LAMBDA) / (1 - LAMBDA):.0f} times the largest effective rate without it."
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    table = []
    for which, protocol in PROTOCOLS.items():
        factor = growth(protocol.learning_rate, protocol.optimizer.momentum, CURVATURE)
        if not (looks(evidence, which)["status"] == "ok").any():
            continue
        table.append(
            {
                "momentum": f"λ {protocol.optimizer.momentum:g}" if protocol.optimizer.momentum else "without",
                "learning rate": f"{protocol.learning_rate:g}",
                "distance grows by, an update": f"×{factor:.4f}",
                "updates, measured": three_digits(_geometric_mean(updates(evidence, which))),
                "updates, closed form": three_digits(_geometric_mean(expected(evidence, which))),
            }
        )
    return pd.DataFrame(table)


claim = Claim(
    name="plateau",
    row=9,
    title="Plateaus",
    small="Stops",
    large="Rolls on",
    says="Where the gradient almost vanishes, momentum carries the parameters on; without it they stand still.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    columns=COLUMNS,
)
