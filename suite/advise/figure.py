"""An advice as a figure: time and examples to the target over the batch size, predicted and measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from suite.advise.advisor import Advice
from suite.advise.answer import within_range
from suite.advise.measured import Trained, half_performance
from suite.claims.drawing import GREY, new_figure, seconds_axis, thousands, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PREDICTED, MEASURED, RECOMMENDED = "C0", "C1", "C2"
"""Of the style's palette."""


def draw(advice: Advice, workload: str, backend: str, target_loss: float) -> Figure:
    """Two panels over one axis of batch sizes: seconds, and examples, to the target."""
    figure = new_figure(9.5, 4.8)
    time, examples = figure.subplots(1, 2)
    for axes, name in ((time, "time_s"), (examples, "examples")):
        _curve(axes, advice, name)
        _sizes_axis(axes, advice)
        _knees(axes, advice)
    seconds_axis(time, f"time to a training loss of {target_loss:g}")
    examples.set_yscale("log")
    examples.yaxis.set_major_formatter(lambda value, _: thousands(value))
    examples.set_ylabel(f"examples to a training loss of {target_loss:g}")
    chosen = advice.recommendation
    _range(time, chosen.low, chosen.high, within_range(advice))
    _mark(time, advice, chosen.fastest, "time_s", "fastest")
    _mark(examples, advice, chosen.cheapest, "examples", "cheapest")
    time.set_title(f"{workload} on {backend}: time", loc="left", pad=32)
    examples.set_title("examples", loc="left", pad=32)
    handles, labels = time.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=math.ceil(len(labels) / 2))
    return figure


def _curve(axes: Axes, advice: Advice, name: str) -> None:
    before = advice.before
    axes.fill_between(
        before.index,
        before[f"{name}_low"],
        before[f"{name}_high"],
        color=PREDICTED,
        alpha=0.18,
        linewidth=0,
        label="95% of single trainings, as predicted",
    )
    axes.plot(before.index, before[name], color=PREDICTED, marker=".", label="predicted")
    anchors = {"marker": "D", "color": "black", "markerfacecolor": "white", "label": "trained for the prediction"}
    _points(axes, advice.curve.trained, name, **anchors)
    measured = [one.trained for one in advice.checked if one.trained.reached]
    if measured:
        _points(axes, measured, name, marker="o", color=MEASURED, markersize=7, label="measured as a check")
    if advice.refined:
        refined = {"marker": "v", "color": MEASURED, "markerfacecolor": "white", "label": "at a refined rate"}
        _points(axes, [advice.refined], name, markersize=7, **refined)


def _points(axes: Axes, trained: Sequence[Trained], name: str, **style) -> None:
    values = [one.time_s if name == "time_s" else one.batch_size * one.typical_updates for one in trained]
    axes.plot([one.batch_size for one in trained], values, linestyle="none", **style)


def _sizes_axis(axes: Axes, advice: Advice) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlabel("batch size (examples)")
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))


def _knees(axes: Axes, advice: Advice) -> None:
    """The critical batch and the half-performance batch as dotted lines, named above the panel in a row each."""
    knees = {"half-performance batch": half_performance(advice.timings)}
    knees["critical batch"] = advice.curve.b if advice.curve.determined else math.inf
    low, high = advice.before.index[0], advice.before.index[-1]
    for row, (name, size) in enumerate(knees.items()):
        if low <= size <= high:
            axes.axvline(size, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
            axes.annotate(
                f"{name} {three_digits(size)}",
                (size, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2 + 12 * row),
                textcoords="offset points",
                ha="center",
                color=GREY,
                fontsize="small",
            )


def _range(axes: Axes, low: int, high: int, label: str) -> None:
    """Half a factor of two further on either side, so that one batch size alone is seen too."""
    edges = (low / math.sqrt(2), high * math.sqrt(2))
    axes.axvspan(*edges, color=RECOMMENDED, alpha=0.12, linewidth=0, zorder=0, label=label)


def _mark(axes: Axes, advice: Advice, size: int, name: str, word: str) -> None:
    """A ring around what is recommended, and room for its name below."""
    axes.margins(y=0.14)
    value = advice.final.loc[size, name]
    axes.plot([size], [value], "o", color=RECOMMENDED, markersize=13, markerfacecolor="none", markeredgewidth=2)
    axes.annotate(
        f"{word}: {thousands(size)}",
        (size, value),
        xytext=(0, -18),
        textcoords="offset points",
        ha="center",
        va="top",
        color="black",
    )
