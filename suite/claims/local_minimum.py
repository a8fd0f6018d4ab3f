"""Local minima: the lecture's ball rolls over the bump, where SGD without momentum stops.

On a loss over one parameter with a local minimum and a better one. What carries a ball over the bump is the height
that it came from: from below the top of the bump it never leaves by full batches, with momentum or without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.backends import CPU
from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, why_none
from suite.evidence.toy import Toy, where_momentum_is_measured
from suite.experiments.ball import ENDS, ROLLED_FROM, ROLLING
from suite.experiments.cell import Cell, Scope
from suite.figures import GREY, WITH_COLOUR, new_figure
from suite.formatting import bounds, minus, percent, sentences, signed, thousands
from suite.statistics import mean_interval
from suite.status import Status
from suite.training.budgets import EqualUpdates
from suite.training.momentum_pair import LAMBDA, WITH, WITHOUT, with_momentum, without_momentum
from suite.workloads import Workload
from suite.workloads.ball import EXAMPLES, loss_at, stationary_points
from suite.workloads.ball import workload as ball

NOISY = 8
"""A batch size at which noise carries balls over the bump."""
BATCHES = {EXAMPLES: "all examples", NOISY: f"batch size {NOISY}"}
STARTS = 600
BUDGET = EqualUpdates(2000, EXAMPLES)
PROTOCOLS = {
    WITHOUT: without_momentum(ball.learning_rate, BUDGET),
    WITH: with_momentum(ball.learning_rate, BUDGET),
}
ROLL_BUDGET = EqualUpdates(300, EXAMPLES)
ROLL_PROTOCOLS = {
    WITHOUT: without_momentum(ball.learning_rate, ROLL_BUDGET),
    WITH: with_momentum(ball.learning_rate, ROLL_BUDGET),
}
ABOVE, BELOW = "above", "below"
"""Heights of a start, relative to the top of the bump."""


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The toy, whatever the workload: many random starts, and two balls followed."""
    ends = [
        Cell(ENDS, ball.name, CPU.name, batch_size, STARTS, protocol)
        for batch_size in BATCHES
        for protocol in PROTOCOLS.values()
    ]
    rolls = [
        Cell(ROLLING, ball.name, CPU.name, EXAMPLES, repeats=1, protocol=protocol)
        for protocol in ROLL_PROTOCOLS.values()
    ]
    return [*ends, *rolls]


def top_of_the_bump() -> float:
    """Its training loss."""
    return float(loss_at(stationary_points()[1]))


# What it computes


@dataclass(frozen=True)
class Roll:
    """A ball that is followed."""

    start: float
    positions: tuple[float, ...]
    """At the start and after each update."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    ends: dict[int, dict[str, Comparison | Problem]]
    """Probability to end in the better minimum, with momentum minus without: by batch size, then height of start."""
    rolls: dict[str, tuple[Roll, ...]]
    """WITHOUT and WITH momentum; empty where no ball was followed."""


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(ENDS.name)
    return Findings(
        evidence.facts,
        ends={
            batch_size: {
                height: _compared(planned[planned["batch_size"] == batch_size], height) for height in (ABOVE, BELOW)
            }
            for batch_size in BATCHES
        },
        rolls={name: _rolls(evidence, name) for name in ROLL_PROTOCOLS},
    )


def _compared(rows: pd.DataFrame, height: str) -> Comparison | Problem:
    """Compare the ends of balls with one batch size, paired by start."""
    without, with_it = (_crossed(rows, name, height) for name in (WITHOUT, WITH))
    if without.empty or with_it.empty:
        return why_none(rows)
    effect = mean_interval((with_it - without).dropna())
    return Comparison(effect, small=float(without.mean()), large=float(with_it.mean()))


def _crossed(rows: pd.DataFrame, name: str, height: str) -> pd.Series:
    """1 for each ball (index `seed`) that starts at `height` and ends in the better minimum, else 0."""
    rows = rows[(rows["status"] == Status.OK) & (rows["protocol"] == PROTOCOLS[name].key)]
    if rows.empty:
        return pd.Series(dtype=float)
    is_above = loss_at(rows["start"].to_numpy(dtype=float)) > top_of_the_bump()
    return rows[is_above == (height == ABOVE)].set_index("seed")["crossed"]


def _rolls(evidence: Evidence, name: str) -> tuple[Roll, ...]:
    rows = evidence.ok(ROLLING.name)
    rows = rows[rows["protocol"] == ROLL_PROTOCOLS[name].key]
    if rows.empty:
        return ()
    rows = rows.sort_values("updates").astype({"start": float, "position": float})
    return tuple(Roll(start, tuple(rows.loc[np.isclose(rows["start"], start), "position"])) for start in ROLLED_FROM)


# How it is judged


@dataclass(frozen=True)
class Starts:
    """The starts of the row's balls, and their batch size."""

    height: str
    batch_size: int

    def __str__(self) -> str:
        return f"starts {self.height} the top of the bump, {BATCHES[self.batch_size]}"


def _training_in_words(batch_size: int) -> str:
    """The training with momentum: its optimizer, learning rate, updates and batch size."""
    protocol = PROTOCOLS[WITH]
    rate = protocol.rate_rule.describe(protocol.learning_rate)
    return f"{protocol.optimizer}, {rate}, {thousands(BUDGET.epochs)} updates, batch size {batch_size}"


def judge(findings: Findings) -> list[Row]:
    return [
        Row.of(
            outcome,
            backend=CPU.name,
            protocol=f"{_training_in_words(batch_size)}, starts {height} the bump",
            small=batch_size,
            large=batch_size,
            measure="probability to end in the better minimum, with momentum minus without",
            unit="probability",
            kind="difference",
            null=0,
            headline=batch_size == EXAMPLES and height == ABOVE,
            flags=(Toy.of(findings.facts), Starts(height, batch_size)),
        )
        for batch_size, by_height in findings.ends.items()
        for height, outcome in by_height.items()
    ]


# How it is shown


def answer(findings: Findings) -> str:
    above = findings.ends[EXAMPLES][ABOVE]
    if isinstance(above, Problem):
        return f"Whether balls roll over the bump was not measured: {above}."
    return (
        f"Of this toy's trainings that start higher than the bump between two minima, {percent(above.large)} end in "
        f"the better minimum with momentum and {percent(above.small)} without it."
    )


def figure(findings: Findings) -> Figure | None:
    """Two balls on the loss, without and with momentum."""
    if not any(findings.rolls.values()):
        return None
    figure = new_figure(9.6, 4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, rolls) in zip(panels, findings.rolls.items(), strict=True):
        _draw_rolls(axes, rolls)
        axes.set_title(f"{name} momentum")
        axes.set_xlabel("parameter")
    panels[0].set_ylabel("training loss")
    return figure


def _draw_rolls(axes: Axes, rolls: tuple[Roll, ...]) -> None:
    """Draw the loss, and on it each ball after every update; an open ring where it ends."""
    fine = np.linspace(-2.15, 1.95, 300)
    axes.plot(fine, loss_at(fine), color=GREY, linewidth=1)
    for roll, colour in zip(rolls, (WITH_COLOUR, "black"), strict=False):
        positions = np.array(roll.positions)
        losses = loss_at(positions)
        axes.plot(positions, losses, "-o", color=colour, markersize=3, alpha=0.35, linewidth=0.8)
        start = minus(f"{roll.start:g}")
        axes.plot(positions[0], losses[0], "o", color=colour, markersize=9, label=f"from {start}")
        axes.plot(positions[-1], losses[-1], "o", color=colour, markersize=9, markerfacecolor="white")
    top = top_of_the_bump()
    axes.axhline(top, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("top of the bump", (0, top), xytext=(0, 4), textcoords="offset points", ha="center", color=GREY)
    if rolls:
        axes.legend(loc="upper center", title="filled: start, open: end")


def explain(findings: Findings) -> str:
    above, below = (findings.ends[EXAMPLES][height] for height in (ABOVE, BELOW))
    if isinstance(above, Problem):
        return ""
    return sentences(
        Toy.of(findings.facts).sentence,
        f"A loss over one parameter, from {EXAMPLES} examples, has a local minimum and, beyond a bump, a better one; "
        "each ball is one training.",
        f"{above.effect.n} balls start at random places higher than the bump and make {thousands(BUDGET.epochs)} "
        f"full-batch updates at learning rate {ball.learning_rate:g}, without momentum and with a momentum of "
        f"{LAMBDA:g}.",
        _height_sentences(below),
        "Balls that start only a little higher than the bump lose too much speed to cross it, even with momentum.",
        "How many do cross depends on the toy's learning rate: see the study on starts and momenta.",
        _noise_sentence(findings.ends[NOISY][BELOW]),
        where_momentum_is_measured(findings.facts),
    )


def _height_sentences(below: Comparison | Problem) -> str:
    if isinstance(below, Problem):
        return ""
    return (
        f"Of {below.effect.n} balls that start below the top of the bump, {percent(below.small)} end in the better "
        f"minimum without momentum and {percent(below.large)} with it."
    )


def _noise_sentence(from_below: Comparison | Problem) -> str:
    if isinstance(from_below, Problem):
        return ""
    return (
        f"Small-batch noise can free balls that start below: at batch size {NOISY}, after the same number of "
        f"updates, {percent(from_below.small)} escape without momentum and {percent(from_below.large)} with it."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "gradient of": BATCHES[batch_size],
            "start": f"{height} the top of the bump",
            "balls": thousands(outcome.effect.n),
            "end better, without": f"{outcome.small:.1%}",
            "end better, with": f"{outcome.large:.1%}",
            "difference, 95% interval": bounds(outcome.effect, signed(3)),
        }
        for batch_size, by_height in findings.ends.items()
        for height, outcome in by_height.items()
        if isinstance(outcome, Comparison)
    )


claim = Claim(
    name="local_minimum",
    row=10,
    title="Local minima (toy)",
    small="Stops",
    large="Rolls over the bump",
    says="A ball with momentum rolls through a local minimum and over the bump after it; without momentum it stops.",
    rule=(
        "Holds when the 95% interval of the difference (probability of ending in the better minimum with momentum) − "
        "(probability without momentum), for full-batch updates from the same random starts higher than the bump, "
        "lies above 0."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
    columns=("Without momentum", "With"),
)
