"""Optimization: better for Small, worse for Large.

The lecture trains every batch size for the same epochs at one learning rate, and the training loss ends
higher with a large batch: it is not overfitting, optimization fails. A large batch makes fewer updates in
an epoch, and the verdict can turn with the rate; so the comparison is repeated at other rates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims import decay_or_grow, factorial, rate_map, sampling, stuck_or_slow
from suite.claims.claim import Claim, Evidence, Facts, Illustration, Row, backend_of, paragraphs
from suite.claims.drawing import GREY, batch_size_colours, bounds, new_figure, thousands, three_digits
from suite.claims.trained import at_target, at_the_end, log_loss, paired, troubles
from suite.statistics import Interval, holm, mean_interval, mean_p_value, probability_above_zero
from suite.training.engine import TRAINING
from suite.training.protocol import EqualEpochs, Protocol
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "training loss, Large / Small"


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every batch size at the workload's learning rate; Small and Large at its other rates. In a full run both by
    every protocol, the tuned rates of all batch sizes, where Large stands in the end, and what other batches or a
    rate that decays would do."""
    at_one_rate = [
        Cell(
            TRAINING,
            workload.name,
            scope.training_backend,
            batch_size,
            scope.seeds,
            protocol(workload, rate),
        )
        for rate in workload.learning_rates
        for batch_size in scope.training_batch_sizes
        if rate == workload.learning_rate or batch_size in (workload.small, workload.large)
    ]
    return [
        *at_one_rate,
        *factorial.cells(workload, scope),
        *rate_map.cells(workload, scope),
        *stuck_or_slow.cells(workload, scope),
        *decay_or_grow.cells(workload, scope),
        *sampling.cells(workload, scope),
    ]


def protocol(of: Facts | Workload, rate: float) -> Protocol:
    """Equal epochs at a fixed rate."""
    return Protocol.of(of, EqualEpochs(of.epochs), learning_rate=rate)


def at_fixed_rates(evidence: Evidence) -> pd.DataFrame:
    """The trainings for equal epochs at each of the workload's rates."""
    wanted = [protocol(evidence.facts, rate).key for rate in evidence.facts.learning_rates]
    return evidence.rows[evidence.rows["protocol"].isin(wanted)]


def at_own_rate(evidence: Evidence) -> pd.DataFrame:
    """The trainings for equal epochs at the workload's own rate."""
    facts = evidence.facts
    return evidence.rows[evidence.rows["protocol"] == protocol(facts, facts.learning_rate).key]


def outcome(rows: pd.DataFrame, facts: Facts, budget: str) -> pd.DataFrame:
    """Log of the training loss at the end, or of the epochs until the target: a column per batch size."""
    if budget == factorial.TO_TARGET:
        return np.log(at_target(rows, facts, "epoch"))
    return pd.DataFrame({size: log_loss(rows, size) for size in (facts.small, facts.large)})


OUTCOME = factorial.Outcome(
    of_seeds=outcome,
    what={factorial.TO_TARGET: "epochs to the target loss", "": "training loss"},
    ratio=True,
)


def log_loss_differences(rows: pd.DataFrame, facts: Facts) -> pd.Series:
    """Log of the training loss at Large minus that at Small, replica by replica."""
    return log_loss(rows, facts.large) - log_loss(rows, facts.small)


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the training loss at Large over that at Small, after equal epochs at one learning rate, lies
    above 1 with its whole interval.

    The geometric mean over replicas, paired by initial parameters and split: Student's t on the differences
    of log losses. The row at the workload's rate stands in the table; every rate has a row in table.csv.
    """
    facts, all_rows = evidence.facts, at_fixed_rates(evidence)
    judged = []
    for rate in facts.learning_rates:
        rows = all_rows[all_rows["protocol"] == protocol(facts, rate).key]
        if rows.empty:
            continue
        headline = rate == facts.learning_rate
        shared = {
            "backend": backend_of(rows),
            "protocol": str(protocol(facts, rate)),
            "small": facts.small,
            "large": facts.large,
            "measure": MEASURE,
            "unit": "training loss",
            "headline": headline,
        }
        status, reason = troubles(rows, facts)
        if status != "ok":
            judged.append(Row(**shared, status=status, flags=reason))
            continue
        judged.append(
            Row.judged(
                mean_interval(log_loss_differences(rows, facts)).map(np.exp),
                **shared,
                value_small=float(np.exp(log_loss(rows, facts.small).mean())),
                value_large=float(np.exp(log_loss(rows, facts.large).mean())),
                flags=rates_at_which_it_holds(evidence) if headline else "",
            )
        )
    told = {protocol(facts, rate).key for rate in facts.learning_rates}
    return [*judged, *factorial.rows(evidence, OUTCOME, told)]


def effects_by_rate(evidence: Evidence) -> pd.DataFrame:
    """A row per learning rate: effect with interval, status, and whether it holds after Holm's correction."""
    facts, table = evidence.facts, []
    for rate, rows in at_fixed_rates(evidence).groupby("learning_rate"):
        status, reason = troubles(rows, facts)
        differences = log_loss_differences(rows, facts) if status == "ok" else []
        interval = mean_interval(differences).map(np.exp) if status == "ok" else Interval(*[np.nan] * 3, 0)
        table.append(
            (rate, interval.estimate, interval.low, interval.high, status, reason, mean_p_value(differences))
        )
    columns = ["learning_rate", "effect", "low", "high", "status", "reason", "p"]
    frame = pd.DataFrame(table, columns=columns)
    tested = frame["status"] == "ok"
    frame.loc[tested, "p_holm"] = holm(frame.loc[tested, "p"])
    frame["holds"] = tested & (frame["effect"] > 1) & (frame["p_holm"] < 0.05)
    return frame


def rates_at_which_it_holds(evidence: Evidence) -> str:
    effects = effects_by_rate(evidence)
    holding = effects.loc[effects["holds"], "learning_rate"]
    held = f": {', '.join(f'{rate:g}' for rate in holding)}" if len(holding) else ""
    return (
        f"at learning rate {evidence.facts.learning_rate:g}; "
        f"holds at {len(holding)} of {len(effects)} rates tried{held}"
    )


def draw(evidence: Evidence) -> Figure:
    """Training loss per epoch and per update, Small and Large as thick lines, and the effect over the rate."""
    facts = evidence.facts
    figure = new_figure(11.5, 4.2)
    panels = figure.subplots(1, 3)
    rows = at_own_rate(evidence)
    rows = rows[rows["status"] == "ok"]
    colours = batch_size_colours(sorted(rows["batch_size"].unique()))
    for batch_size, colour in colours.items():
        looks = rows[rows["batch_size"] == batch_size]
        curve = np.exp(np.log(looks["train_loss"]).groupby(looks["updates"]).mean())
        epochs = looks.groupby("updates")["epoch"].first()
        width = 2.5 if batch_size in (facts.small, facts.large) else 1
        panels[0].plot(epochs, curve, color=colour, linewidth=width, label=thousands(batch_size))
        panels[1].plot(curve.index[1:], curve.iloc[1:], color=colour, linewidth=width, marker=".", markersize=4)
    panels[0].set_xlabel("epochs")
    panels[1].set_xlabel("updates")
    panels[1].set_xscale("log")
    for axes in panels[:2]:
        axes.set_yscale("log")
        axes.set_ylabel("training loss")
    _draw_effects(panels[2], effects_by_rate(evidence))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="batch size", loc="outside right upper", fontsize="small")
    return figure


def _draw_effects(axes, effects: pd.DataFrame) -> None:
    known = effects[effects["status"] == "ok"]
    bars = np.abs(known[["low", "high"]].sub(known["effect"], axis=0).T.to_numpy())
    axes.axhline(1, color=GREY, linewidth=1)
    axes.errorbar(known["learning_rate"], known["effect"], yerr=bars, fmt="o", color="black", capsize=3)
    for _, row in effects[effects["status"] != "ok"].iterrows():
        axes.annotate(
            row["status"].replace("_", " "),
            (row["learning_rate"], 0.5),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="center",
            va="center",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = effects["learning_rate"].min(), effects["learning_rate"].max()
    axes.set_xlim(low / 2, high * 2)
    axes.set_xticks(effects["learning_rate"], effects["learning_rate"].map("{:g}".format))
    axes.set_xticks([], minor=True)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, Large / Small")


def explain(evidence: Evidence, rows: list[Row]) -> str:
    facts = evidence.facts
    row = next(row for row in rows if row.headline)
    trouble = effects_by_rate(evidence).query("status != 'ok'")
    other = " ".join(
        f"At {rate:g}: {reason}." for rate, reason in zip(trouble["learning_rate"], trouble["reason"], strict=True)
    )
    beside = [claim.sentence(evidence) for claim in (stuck_or_slow, decay_or_grow, sampling)]
    if row.status != "ok":
        said = f"At learning rate {facts.learning_rate:g} the comparison cannot be made: {row.flags}. {other}"
        return paragraphs(said, *beside)
    selected = at_own_rate(evidence)
    wins = probability_above_zero(log_loss_differences(selected, facts))
    scores = [paired(selected, size, "train_score").mean() for size in (facts.small, facts.large)]
    return paragraphs(
        f"After {facts.epochs} epochs at learning rate {facts.learning_rate:g} the training loss is "
        f"{three_digits(row.value_small)} with batch size {thousands(row.small)} and "
        f"{three_digits(row.value_large)} with {thousands(row.large)}; training {facts.score_name} {scores[0]:.3f} "
        f"and {scores[1]:.3f}. The small batch ended lower in {wins.estimate:.0%} of the seeds (interval of the "
        f"probability {wins.low:.0%} to {wins.high:.0%}). Equal epochs give the large batch fewer updates: the "
        f"middle panel shows the same trainings per update.",
        f"Over the learning rate, with Holm's correction, the claim {row.flags.partition('; ')[2]}. {other} "
        f"{factorial.sentence(evidence, OUTCOME)}",
        *beside,
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    facts = evidence.facts
    end = at_the_end(at_own_rate(evidence))
    table = []
    for batch_size, seeds in end.groupby("batch_size"):
        loss = mean_interval(np.log(seeds["train_loss"])).map(np.exp)
        diverged = int((seeds["status"] == "diverged").sum())
        table.append(
            {
                "batch size": thousands(batch_size),
                "updates": thousands(seeds["updates"].max()),
                "training loss": three_digits(loss.estimate),
                "95% interval": bounds(loss, three_digits),
                f"training {facts.score_name}": f"{seeds['train_score'].mean():.3f}",
                "diverged": f"{diverged} of {len(seeds)}",
            }
        )
    return pd.DataFrame(table)


claim = Claim(
    name="optimization",
    row=5,
    title="Optimization",
    small="Better",
    large="Worse",
    says="After the same number of epochs, a small batch reaches a lower training loss than a large one.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    illustrations=(
        Illustration(lambda evidence: factorial.draw(evidence, OUTCOME), factorial.TITLE, factorial.says),
        Illustration(rate_map.draw, rate_map.TITLE, rate_map.SAYS),
        Illustration(decay_or_grow.draw, decay_or_grow.TITLE, decay_or_grow.says),
        Illustration(sampling.draw, sampling.TITLE, sampling.SAYS),
    ),
)
