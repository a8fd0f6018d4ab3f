"""What the claims' figures share: the batch-size axis, Small and Large marked on it, and colours.

What draws is imported where it draws: a run reads the claims for their cells, in many processes, and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from suite.backends import ACCELERATORS, CPU, SEQUENTIAL
from suite.claims.claim import Facts
from suite.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL_COLOUR, LARGE_COLOUR = "C0", "C3"
VERDICT_COLOURS = {"holds": "#d5e9f8", "fails": "#fbdcc6", "undecided": "#ededed"}
"""Backgrounds, as on the page."""
GREY, LIGHT_GREY = "#6b6b6b", "#b0b0b0"


def backend_colours() -> dict[str, str]:
    """A fixed colour of the style's palette for each backend, by its number there."""
    first, *others = ACCELERATORS
    return {backend.name: f"C{number}" for number, backend in enumerate((CPU, first, SEQUENTIAL, *others))}


COLOURS = backend_colours()


def new_figure(width: float, height: float) -> Figure:
    """An empty one, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def thousands(number: float) -> str:
    """A count, for example `1,024`."""
    return f"{number:,.0f}"


def three_digits(number: float) -> str:
    """A number with three significant digits, for example `1,030` or `0.0412`."""
    if not math.isfinite(number) or not 1e-4 <= abs(number) < 1e7:
        return f"{number:.3g}"
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def batch_size_axis(axes: Axes, facts: Facts, label: str = "batch size (examples)") -> None:
    """A log axis in powers of ten, with Small and Large as dotted lines named at the top."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

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


def batch_size_colours(batch_sizes: list[int]) -> dict[int, tuple]:
    """A colour for each batch size, dark for small and light for large, in equal steps of lightness."""
    import seaborn

    return dict(zip(batch_sizes, seaborn.color_palette("viridis", len(batch_sizes)), strict=True))


def seconds_axis(axes: Axes, label: str) -> None:
    """A log axis of seconds, with the unit that fits written at each tick."""
    from matplotlib.ticker import FuncFormatter

    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value, "{:g}".format)))


def loss_axis(axes: Axes) -> None:
    """A log axis of training losses, in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.set_ylabel("training loss")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def seconds(value: float, form: Callable[[float], str] = three_digits) -> str:
    """A time with its unit, for example `240 µs`."""
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if value >= 0.9995 * scale:
            return f"{form(value / scale)} {unit}"
    return f"{value:.3g} s"


def published(axes: Axes, facts: Facts, what: str, marker: str = "s") -> None:
    """The numbers that others published for `what`, in light grey; nothing where there are none."""
    if values := facts.published.get(what):
        axes.plot(
            [int(size) for size in values],
            list(values.values()),
            color=LIGHT_GREY,
            marker=marker,
            markersize=4,
            linewidth=1,
            zorder=0.5,
            label=facts.published_by,
        )


def intervals(axes: Axes, places: Sequence[float], found: Sequence[Interval], **style) -> None:
    """Each estimate as a dot with its interval as a bar."""
    estimates = [one.estimate for one in found]
    bars = [[one.estimate - one.low for one in found], [one.high - one.estimate for one in found]]
    axes.errorbar(list(places), estimates, yerr=bars, capsize=3, **{"fmt": "o", "color": "black"} | style)


def ratios_below_one_another(axes: Axes, found: dict[str, Interval]) -> None:
    """Each named ratio on a line of its own, on a log axis, with its interval as a bar."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for place, interval in enumerate(found.values()):
        axes.plot([interval.low, interval.high], [place, place], color="black", linewidth=1.5)
        axes.plot(interval.estimate, place, "o", color="black")
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)


def bounds(interval: Interval, form: Callable[[float], str]) -> str:
    """The bounds of an interval, for example `0.4 to 0.6`."""
    if math.isnan(interval.low):
        return "no interval from so few values"
    return f"{form(interval.low)} to {form(interval.high)}"


def times(axes: Axes, medians: pd.DataFrame, label: str, **style) -> None:
    """Median over the processes as a line, and every process as a dot."""
    line = axes.plot(medians.columns, medians.median(), marker="o", markersize=4, label=label, **style)[0]
    for _, process in medians.iterrows():
        axes.plot(process.index, process, ".", color=line.get_color(), alpha=0.35, markersize=4)
