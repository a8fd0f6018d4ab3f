"""The figure of a recommendation: time and examples to the target over the batch size, predicted and measured."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from suite.advise.advisor import Recommendation
from suite.advise.answer import range_label
from suite.advise.measurements import TrainingRun, half_performance
from suite.figures import GREY, new_figure, seconds_axis
from suite.formatting import thousands, three_digits

PREDICTED_COLOUR, MEASURED_COLOUR, RECOMMENDED_COLOUR = "C0", "C1", "C2"
"""Colours of the style's palette."""


def draw(recommendation: Recommendation, workload: str, backend: str, target_loss: float) -> Figure:
    """Draw the seconds and the examples to the target in two panels over the batch size."""
    figure = new_figure(9.5, 4.8)
    time, examples = figure.subplots(1, 2)
    for axes, column in ((time, "time_s"), (examples, "examples")):
        _draw_prediction(axes, recommendation, column)
        _draw_runs(axes, recommendation, column)
        _batch_size_axis(axes)
        _draw_knees(axes, recommendation)
    seconds_axis(time, f"time to a training loss of {target_loss:g}")
    examples.set_yscale("log")
    examples.yaxis.set_major_formatter(lambda value, _: thousands(value))
    examples.set_ylabel(f"examples to a training loss of {target_loss:g}")
    choice = recommendation.choice
    _draw_range(time, choice.low, choice.high, range_label(recommendation))
    _mark(time, recommendation, choice.fastest, "time_s", "fastest")
    _mark(examples, recommendation, choice.cheapest, "examples", "cheapest")
    time.set_title(f"{workload} on {backend}: time", loc="left", pad=32)
    examples.set_title("examples", loc="left", pad=32)
    handles, labels = time.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=math.ceil(len(labels) / 2))
    return figure


def _draw_prediction(axes: Axes, recommendation: Recommendation, column: str) -> None:
    table = recommendation.predicted_table
    axes.fill_between(
        table.index,
        table[f"{column}_low"],
        table[f"{column}_high"],
        color=PREDICTED_COLOUR,
        alpha=0.18,
        linewidth=0,
        label="predicted, 95% of trainings",
    )
    axes.plot(table.index, table[column], color=PREDICTED_COLOUR, marker=".", label="predicted")


def _draw_runs(axes: Axes, recommendation: Recommendation, column: str) -> None:
    pilot = {"marker": "D", "color": "black", "markerfacecolor": "white"}
    _draw_points(axes, recommendation.prediction.runs, column, label="measured for the prediction", **pilot)
    checks = [check.run for check in recommendation.checks if check.run.reached]
    if checks:
        _draw_points(
            axes, checks, column, label="measured as a check", marker="o", color=MEASURED_COLOUR, markersize=7
        )
    if recommendation.refined_run:
        refined = {"marker": "v", "color": MEASURED_COLOUR, "markerfacecolor": "white", "markersize": 7}
        _draw_points(axes, [recommendation.refined_run], column, label="at a refined rate", **refined)


def _draw_points(axes: Axes, runs: Sequence[TrainingRun], column: str, **style) -> None:
    values = [run.time_s if column == "time_s" else run.batch_size * run.typical_updates for run in runs]
    axes.plot([run.batch_size for run in runs], values, linestyle="none", **style)


def _batch_size_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("batch size (examples)")
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))


def _draw_knees(axes: Axes, recommendation: Recommendation) -> None:
    """Draw the critical batch size and the half-performance batch as dotted lines, each named in a row above."""
    prediction, table = recommendation.prediction, recommendation.predicted_table
    knees = {"half-performance batch": half_performance(recommendation.timings)}
    if prediction.is_determined:
        knees["critical batch size"] = prediction.critical_batch_size.estimate
    for row, (name, size) in enumerate(knees.items()):
        if table.index[0] <= size <= table.index[-1]:
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


def _draw_range(axes: Axes, low: int, high: int, label: str) -> None:
    """Shade the range, with a margin of half a factor of two that keeps a single batch size visible."""
    edges = (low / math.sqrt(2), high * math.sqrt(2))
    axes.axvspan(*edges, color=RECOMMENDED_COLOUR, alpha=0.12, linewidth=0, zorder=0, label=label)


def _mark(axes: Axes, recommendation: Recommendation, size: int, column: str, name: str) -> None:
    """Draw a ring around the chosen batch size, with its name below."""
    axes.margins(y=0.14)
    value = recommendation.table.loc[size, column]
    axes.plot(
        [size], [value], "o", color=RECOMMENDED_COLOUR, markersize=13, markerfacecolor="none", markeredgewidth=2
    )
    axes.annotate(
        f"{name}: {thousands(size)}",
        (size, value),
        xytext=(0, -18),
        textcoords="offset points",
        ha="center",
        va="top",
        color="black",
    )
