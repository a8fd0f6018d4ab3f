"""The figures' shared style, and their files: the same bytes whenever and wherever they are drawn."""

from contextlib import contextmanager
from pathlib import Path

import matplotlib
import seaborn
from matplotlib.figure import Figure

STYLE = {
    "svg.hashsalt": "batch-size-suite",
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.prop_cycle": matplotlib.cycler(color=seaborn.color_palette("colorblind")),
}


@contextmanager
def style():
    """Draw in the suite's style, on any machine and whatever its own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write `name`.svg and `name`.png, without a date, laid out once. Returns the SVG's text."""
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    return (folder / f"{name}.svg").read_text()
