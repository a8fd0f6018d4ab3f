"""Parts of figures: axes of batch sizes, times and losses, intervals, published numbers, and colours.

Every figure of a claim, a study or a recommendation is made of these. Fonts, palette and files are in
`suite.report.figure_style`.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from suite.backends import ACCELERATORS, CPU, SEQUENTIAL
from suite.evidence import Facts, Timings
from suite.evidence.critical_batch import CriticalBatch
from suite.formatting import seconds, thousands, three_digits
from suite.statistics import Interval

SMALL_COLOUR, LARGE_COLOUR = "C0", "C3"
WITHOUT_COLOUR, WITH_COLOUR = SMALL_COLOUR, LARGE_COLOUR
"""Of trainings without and with momentum."""
VERDICT_COLOURS = {"holds": "#d5e9f8", "fails": "#fbdcc6", "undecided": "#ededed"}
"""Backgrounds, as on the page."""
GREY, LIGHT_GREY = "#6b6b6b", "#b0b0b0"


def _backend_colours() -> dict[str, str]:
    first, *others = ACCELERATORS
    return {backend.name: f"C{number}" for number, backend in enumerate((CPU, first, SEQUENTIAL, *others))}


BACKEND_COLOURS = _backend_colours()
"""A fixed colour of the palette for each backend."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    return Figure(figsize=(width, height))


def batch_size_axis(axes: Axes, facts: Facts, label: str = "batch size (examples)") -> None:
    """Make x a log axis in powers of ten, with Small and Large as dotted lines named at the top."""
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    for batch_size, name in ((facts.small, "Small"), (facts.large, "Large")):
        axes.axvline(batch_size, color=GREY, linestyle=":", linewidth=1, zorder=0)
        axes.annotate(
            name,
            (batch_size, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize="small",
        )


def seconds_axis(axes: Axes, label: str) -> None:
    """Make y a log axis of seconds, with a suitable unit at each tick."""
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value, "{:g}".format)))


def loss_axis(axes: Axes) -> None:
    """Make y a log axis of training losses, in plain numbers. Axes without data stay linear."""
    axes.set_ylabel("training loss")
    if not any(len(line.get_ydata()) for line in axes.lines):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def training_loss_axis(axes: Axes, losses: Sequence[float]) -> None:
    """Make x a log axis of the training `losses` at which batch sizes are compared; it falls to the right, as
    training goes on."""
    axes.set_xscale("log")
    axes.set_xlim(1.25 * max(losses), min(losses) / 1.1)
    axes.xaxis.set_major_locator(FixedLocator(losses))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_xlabel("training loss at which both are compared")


def plain_log_ticks(axis: Axis) -> None:
    """Write out the numbers of a log axis, two per power of ten, or three where the axis is short."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, subs=(1, 3) if high > 20 * low else (1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def batch_size_colours(batch_sizes: Sequence[int]) -> dict[int, tuple]:
    """Return a colour for each batch size, dark for small and light for large, in equal steps of lightness."""
    steps = np.linspace(0, 1, len(batch_sizes) + 2)[1:-1]
    return dict(zip(batch_sizes, matplotlib.colormaps["viridis"](steps)[:, :3].tolist(), strict=True))


def draw_published(axes: Axes, facts: Facts, quantity: str, marker: str = "s", label: str = "") -> None:
    """Draw the published values of `quantity` over the batch size in light grey, where there are any."""
    if values := facts.published.get(quantity):
        axes.plot(
            [int(size) for size in values],
            list(values.values()),
            color=LIGHT_GREY,
            marker=marker,
            markersize=4,
            linewidth=1,
            zorder=0.5,
            label=facts.published_by + label,
        )


def draw_intervals(axes: Axes, places: Sequence[float], intervals: Sequence[Interval], **style) -> None:
    """Draw each estimate as a dot with its interval as a bar."""
    estimates = [interval.estimate for interval in intervals]
    bars = [
        [interval.estimate - interval.low for interval in intervals],
        [interval.high - interval.estimate for interval in intervals],
    ]
    axes.errorbar(list(places), estimates, yerr=bars, capsize=3, **{"fmt": "o", "color": "black"} | style)


def draw_hyperbola(axes: Axes, critical: CriticalBatch, batch_sizes: Sequence[int], **style) -> None:
    """Draw the fitted updates to the target between the smallest and the largest of `batch_sizes`."""
    sizes = np.geomspace(min(batch_sizes), max(batch_sizes), 200)
    updates = critical.min_updates * (1 + critical.interval.estimate / sizes)
    axes.plot(sizes, updates, "-", linewidth=1, **style)


def draw_critical_batch(axes: Axes, critical: CriticalBatch, batch_sizes: Sequence[int]) -> None:
    """Draw the limits of the hyperbola for small and for large batches, and the critical batch size where they
    meet."""
    least, critical_size = critical.min_updates, critical.interval.estimate
    smallest, largest = min(batch_sizes), max(batch_sizes)
    halved = [least * critical_size / smallest, least]
    label = f"critical batch size {three_digits(critical_size)}"
    axes.plot([smallest, critical_size], halved, ":", color=GREY, label="twice the batch size, half the updates")
    axes.plot([critical_size, largest], [least, least], "--", color=GREY, label="a larger batch saves no updates")
    axes.plot(critical_size, least, "D", color=GREY, markersize=5, label=label)


def draw_ratios(axes: Axes, ratios: Mapping[str, Interval]) -> None:
    """Draw each named ratio on a line of its own, on a log axis, with its interval as a bar."""
    for place, interval in enumerate(ratios.values()):
        axes.plot([interval.low, interval.high], [place, place], color="black", linewidth=1.5)
        axes.plot(interval.estimate, place, "o", color="black")
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high > 4 * low else (1, 1.2, 1.5, 2, 2.5, 3, 5, 7)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.set_ylim(len(ratios) - 0.5, -0.5)


def draw_process_times(axes: Axes, timings: Timings, label: str, **style) -> None:
    """Draw the median time at each batch size as a line, and the time of every process as a dot."""
    line = axes.plot(*zip(*timings.medians.items(), strict=True), marker="o", markersize=4, label=label, **style)[0]
    for batch_size, times_s in timings.processes.items():
        axes.plot([batch_size] * len(times_s), times_s, ".", color=line.get_color(), alpha=0.35, markersize=4)
