"""Movement: with momentum, the weighted sum of all previous gradients.

The lecture: the movement is the last movement minus the gradient, not the gradient alone, and so
m_i = -η sum_(j<i) λ^(i-1-j) g_j. Checked in the workload's own training, with its own optimizer. SGD's weights add up
to 1 / (1 - λ): at a rate of η / (1 - λ) SGD without momentum should go the same way while η is small. Adam's add up
to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.backends import CPU
from suite.cells import Cell, Scope
from suite.claims import momentum_arrows
from suite.claims.claim import Claim, Evidence, Facts, Illustration, Row, status_of
from suite.claims.drawing import GREY, bounds, intervals, new_figure, thousands, three_digits
from suite.claims.trained import log_loss, trouble
from suite.claims.with_momentum import (
    COLOURS,
    COLUMNS,
    PLAIN,
    WITH,
    momentum_of,
    optimizers,
    rates,
    why_unknown,
)
from suite.instruments.momentum import WEIGHTED_SUM
from suite.statistics import Interval, mean_interval
from suite.training.engine import TRAINING
from suite.training.protocol import EqualEpochs, Protocol
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURE = "rounding of single precision / distance from the weighted sum"
MOST_SEEDS = 10


def protocols(of: Facts | Workload) -> dict[str, Protocol]:
    """`matched_pair` at the workload's learning rate."""
    return matched_pair(of, of.learning_rate)


def matched_pair(of: Facts | Workload, learning_rate: float) -> dict[str, Protocol]:
    """The workload's optimizer without and with momentum, in the lecture's form, at rates that go equally far along a
    constant gradient; `learning_rate` is that of the workload's own optimizer."""
    own = optimizers(of)
    pair = {which: one.with_momentum(one.momentum) for which, one in own.items()}
    at = rates(of, learning_rate)
    at[WITH] *= own[WITH].momentum_gain / pair[WITH].momentum_gain
    return {which: Protocol(at[which], EqualEpochs(of.epochs), optimizer=one) for which, one in pair.items()}


def matched(of: Facts | Workload) -> dict[float, dict[str, Protocol]]:
    """`matched_pair` by the rate without momentum."""
    pairs = [matched_pair(of, rate) for rate in of.learning_rates]
    return {pair[PLAIN].learning_rate: pair for pair in pairs}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Updates with the middle batch size taken apart, trainings with it at matched rates, and the toy's paths."""
    middle, name = workload.middle, workload.name
    sums = [
        Cell(WEIGHTED_SUM, name, CPU.name, middle, min(MOST_SEEDS, scope.seeds), protocol)
        for protocol in protocols(workload).values()
    ]
    trainings = [
        Cell(TRAINING, name, scope.training_backend, middle, scope.seeds, protocol)
        for pair in matched(workload).values()
        for protocol in pair.values()
        if middle in scope.training_batch_sizes
    ]
    return [*sums, *trainings, *momentum_arrows.cells()]


def sums(evidence: Evidence, which: str) -> pd.DataFrame:
    """A row per seed and update: how far the movement lies from the weighted sum."""
    rows = evidence.rows[evidence.rows["measurement"] == WEIGHTED_SUM.name]
    return rows[rows["protocol"] == protocols(evidence.facts)[which].key]


def judge(evidence: Evidence) -> list[Row]:
    """Holds when a movement with momentum, taken before the optimizer divides its coordinates, lies closer to the
    weighted sum of all past gradients than rounding in single precision can part them: the ratio of rounding to
    distance lies above 1 with its whole interval.

    Of each seed the worst of its updates; the geometric mean over seeds, Student's t on the logs.
    """
    facts = evidence.facts
    shared = {
        "backend": CPU.name,
        "protocol": str(protocols(facts)[WITH]),
        "small": facts.middle,
        "large": facts.middle,
        "measure": MEASURE,
        "unit": "distance from the sum, relative",
    }
    found = {which: sums(evidence, which) for which in COLOURS}
    for rows in found.values():
        if not (rows["status"] == "ok").any():
            status, reason = status_of(rows)
            return [Row(**shared, status=status, flags=reason)]
    values = [float(rows["error"].mean()) for rows in found.values()]
    return [Row.judged(room(found[WITH]), **shared, value_small=values[0], value_large=values[1])]


def room(rows: pd.DataFrame) -> Interval:
    """By what factor single precision allows a larger distance than there is, at the worst update of each seed."""
    rows = rows.dropna(subset=["error"])
    ratios = rows["bound"] / rows["error"].clip(lower=1e-12)
    return mean_interval(np.log(ratios).groupby(rows["seed"]).min()).map(np.exp)


def matched_effects(evidence: Evidence) -> dict[float, Interval | str]:
    """By the rate without momentum, training loss with momentum at the matched rate over that without, geometric mean
    over seeds; or what stands against comparing them."""
    facts, found = evidence.facts, {}
    rows = evidence.rows[evidence.rows["measurement"] == TRAINING.name]
    for rate, pair in matched(facts).items():
        of = {which: rows[rows["protocol"] == protocol.key] for which, protocol in pair.items()}
        troubles = [trouble(of[which], f"{which} momentum") for which in of]
        against = [reason or status for status, reason in troubles if status != "ok"]
        found[rate] = against[0] if against else _ratio(of, facts.middle)
    return found


def _ratio(of: dict[str, pd.DataFrame], batch_size: int) -> Interval:
    return mean_interval(log_loss(of[WITH], batch_size) - log_loss(of[PLAIN], batch_size)).map(np.exp)


def draw(evidence: Evidence) -> Figure:
    """The weights of all past gradients in each movement, the same over their age, and losses at matched rates."""
    figure = new_figure(12.2, 4)
    panels = figure.subplots(1, 3)
    weights = sums(evidence, WITH)
    weights = weights[weights["stage"] == "weight"]
    if len(weights):
        _draw_weights(figure, panels[0], weights)
        ages = weights["updates"] - weights["gradient"]
        panels[1].plot(ages, weights["weight"], ".", color=COLOURS[WITH], label="in the training", markersize=5)
        fine = np.arange(ages.max() + 1)
        momentum = momentum_of(evidence.facts)
        panels[1].plot(
            fine, momentum**fine, color="black", linewidth=1, label=f"{momentum:g} to the power of the age"
        )
        panels[1].legend(loc="best")
    panels[1].set_ylim(0, 1.1)
    panels[1].set_xlabel("age of the gradient (updates)")
    panels[1].set_ylabel("its relative weight in the movement")
    _draw_matched(panels[2], evidence)
    return figure


def _draw_weights(figure: Figure, axes: Axes, weights: pd.DataFrame) -> None:
    grid = weights.pivot(index="updates", columns="gradient", values="weight")
    image = axes.pcolormesh(grid.columns, grid.index, grid, cmap="viridis_r", vmin=0, vmax=1, edgecolors="face")
    axes.set_xlabel("gradient of update")
    axes.set_ylabel("movement of update")
    axes.invert_yaxis()
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="relative weight of the gradient")


def _draw_matched(axes: Axes, evidence: Evidence) -> None:
    axes.axhline(1, color=GREY, linewidth=1)
    compared = {rate: one for rate, one in matched_effects(evidence).items() if isinstance(one, Interval)}
    intervals(axes, compared, compared.values(), fmt="o-")
    axes.set_xscale("log")
    axes.set_xticks(list(compared), [f"{rate:g}" for rate in compared])
    axes.set_xticks([], minor=True)
    matching = "the same" if evidence.facts.optimizer.form.averages else "η (1 − λ)"
    axes.set_xlabel(f"learning rate η without momentum\n(with it, {matching})")
    axes.set_ylabel("training loss, with / without momentum")


def explain(evidence: Evidence, rows: list[Row]) -> str:
    facts, row = evidence.facts, rows[0]
    if row.status != "ok":
        return f"The movements could not be taken apart: {row.flags}."
    found = sums(evidence, WITH)
    last = found[found["updates"] == found["updates"].max()]
    label = facts.optimizer.label
    movement = f"a movement, once {label}'s division is undone," if facts.optimizer.form.averages else "a movement"
    return (
        f"In training with batch size {thousands(facts.middle)} and {facts.optimizer.form.momentum_symbol} "
        f"{momentum_of(facts):g} {movement} lies {row.value_large:.1e} of its length away from the weighted sum of "
        "all previous gradients "
        f"(single precision rounds by up to {found['bound'].mean():.1e}); from the last gradient's part alone, "
        f"{last['alone'].mean():.0%} (update {last['updates'].max():.0f}).{_weights_sentence(found, facts)}"
        f"{_matched_sentence(evidence)}{_left_out(facts)} {facts.optimizer.form.in_words}{_decay(facts)}"
    )


def _left_out(facts: Facts) -> str:
    """What the workload's own optimizer has beside the lecture's momentum; empty where it has nothing else."""
    if optimizers(facts)[WITH] == protocols(facts)[WITH].optimizer:
        return ""
    return f" Measured without the dampening or Nesterov's form that {facts.name}'s own optimizer has."


def _decay(facts: Facts) -> str:
    """What weight decay is part of; empty where there is none."""
    optimizer = facts.optimizer
    if not any(dict(part.hyperparameters).get("weight_decay") for part in (optimizer, *optimizer.groups)):
        return ""
    if optimizer.form.decoupled_weight_decay:
        return " Its weight decay shrinks the parameters directly and is not part of the movement."
    return " Weight decay counts as part of each gradient."


def _weights_sentence(rows: pd.DataFrame, facts: Facts) -> str:
    weights = rows[rows["stage"] == "weight"]
    if weights.empty:
        return ""
    undone = ", once its scale and bias correction are taken out" if facts.optimizer.form.averages else ""
    off = (weights["weight"] - momentum_of(facts) ** (weights["updates"] - weights["gradient"])).abs().max()
    return (
        f" The weights that fit each movement best, by least squares{undone}, lie within "
        f"{off:.1g} of the powers of {facts.optimizer.form.momentum_symbol}, as parts of the last gradient's."
    )


def _matched_sentence(evidence: Evidence) -> str:
    facts = evidence.facts
    effects = {rate: one for rate, one in matched_effects(evidence).items() if isinstance(one, Interval)}
    if len(effects) < 2:
        return ""
    matching = (
        f"{facts.optimizer.label}'s weights add up to 1: without momentum it should go about the same way at the "
        "same rate, as long as that is small."
        if facts.optimizer.form.averages
        else "All weights together make 1 / (1 − λ): without momentum, SGD at that many times the rate should go the "
        "same way as long as the rate is small."
    )
    said = ", ".join(
        f"×{three_digits(one.estimate)} ({bounds(one, three_digits)}) at {rate:g}" for rate, one in effects.items()
    )
    return (
        f" {matching} Training loss with over without momentum after {facts.epochs} epochs, by the rate without: "
        f"{said}."
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    table, pairs = [], matched(evidence.facts)
    for rate, one in matched_effects(evidence).items():
        compared = isinstance(one, Interval)
        table.append(
            {
                "rate, without": f"{rate:g}",
                "rate, with": f"{pairs[rate][WITH].learning_rate:g}",
                "training loss, with / without": f"×{three_digits(one.estimate)}" if compared else "–",
                "95% interval": bounds(one, three_digits) if compared else one,
            }
        )
    return pd.DataFrame(table)


claim = Claim(
    name="momentum_sum",
    row=8,
    title="Movement",
    small="The gradient",
    large="All gradients",
    says="With momentum a movement is the weighted sum of all previous gradients, not the last one alone.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    columns=COLUMNS,
    unfit=why_unknown,
    illustrations=(Illustration(momentum_arrows.draw, momentum_arrows.TITLE, momentum_arrows.SAYS),),
)
