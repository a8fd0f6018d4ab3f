"""Where the claims on training stop holding: every learning-rate rule with every budget.

The lecture compares Small with Large at one learning rate and equal epochs, which gives a large batch fewer updates.
What is left when the rate follows the batch size, or is tuned for each, and when both make as many updates or reach
the same training loss? Published evidence disagrees (Hoffer 2017; Shallue 2019; Smith, Elsen, De 2020); here it is
measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from suite.cells import Cell, Scope
from suite.claims.claim import Evidence, Facts, Row, backend_of
from suite.claims.drawing import VERDICT_COLOURS, bounds, new_figure, three_digits
from suite.claims.trained import troubles
from suite.statistics import MOST_WANTED, holm, mean_interval, mean_p_value, seeds_to_settle, verdict
from suite.training.engine import TRAINING
from suite.training.learning_rate import (
    FIXED,
    LEAST_BETA2,
    AdamSde,
    ConstantHalfLife,
    LinearWarmUp,
    RateRule,
    SquareRoot,
    Tuned,
)
from suite.training.protocol import EqualEpochs, EqualUpdates, Protocol, TargetLoss
from suite.training.tuning import TRIAL, TUNED_TRAINING
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOYAL_WARM_UP = 5 / 90
"""The share of the epochs over which Goyal et al. (2017) let the rate rise."""
TUNED = "tuned"
BUDGETS = EPOCHS, UPDATES, TO_TARGET = ("equal epochs", "equal updates", "equal training loss")
TITLE = "Where it holds"


@dataclass(frozen=True)
class Outcome:
    """What a claim compares once both batch sizes have spent their budget."""

    of_seeds: Callable[[pd.DataFrame, Facts, str], pd.DataFrame]
    """From the looks at all trainings of a protocol, the facts and the budget: a row per seed, a column per batch
    size; logs where the effect is a ratio."""
    what: dict[str, str]
    """What is compared, by budget; of every other budget under the empty name."""
    ratio: bool
    """Whether the effect is Large / Small, else it is Small − Large."""

    def name(self, budget: str) -> str:
        return self.what.get(budget, self.what[""])

    def measure(self, budget: str) -> str:
        return f"{self.name(budget)}, {'Large / Small' if self.ratio else 'Small − Large'}"

    def form(self, value: float) -> str:
        return f"×{three_digits(value)}" if self.ratio else f"{value:+.4f}"


def for_adam(of: Facts | Workload) -> bool:
    """Whether the rate rules for Adam apply to the workload's optimizer."""
    return of.optimizer.form is not None and of.optimizer.form.adam_rules


def rate_rules(of: Facts | Workload) -> dict[str, RateRule]:
    """By name; two more for Adam and AdamW, whose betas these rules let follow the batch size too."""
    rules = {
        "fixed": FIXED,
        "square-root": SquareRoot(of.middle),
        "warmed-up linear": LinearWarmUp(of.middle, of.epochs * GOYAL_WARM_UP),
    }
    if for_adam(of):
        rules |= {"Adam-SDE": AdamSde(of.middle), "half-life": ConstantHalfLife(of.middle)}
    return rules | {TUNED: Tuned()}


def says(facts: Facts) -> str:
    """What the figure shows."""
    return (
        "The rate is the same for both batch sizes, or it follows the batch size, being the workload's "
        "at the middle one (like its root, or linearly after a warm-up), or is tuned for each with the same trials."
        f"{_of_betas(facts)} Both make as many epochs, or as many updates as the "
        "middle batch size makes in these, or train to the same loss. Every seed is a pair with the same initial "
        "parameters; rates were tuned with other seeds."
    )


def _of_betas(facts: Facts) -> str:
    """What the rules do that change the betas; empty where there are none."""
    if not for_adam(facts):
        return ""
    _, beta2 = facts.optimizer.get("betas")
    return (
        f" Two rules change {facts.optimizer.label}'s betas as well: Adam-SDE (Malladi et al. 2022), and half-life, "
        "which keeps the half-life of β2's average constant in examples (Marek et al. 2025). Neither lowers β2 below "
        f"{min(LEAST_BETA2, beta2):g}."
    )


def protocols(of: Facts | Workload) -> dict[tuple[str, str], Protocol]:
    """The protocol of each combination of `rate_rules` and BUDGETS."""
    budgets = (
        EqualEpochs(of.epochs),
        EqualUpdates(of.epochs, of.middle),
        TargetLoss(of.target_loss, of.max_updates),
    )
    return {
        (rate, budget): Protocol.of(of, spent, rule)
        for rate, rule in rate_rules(of).items()
        for budget, spent in zip(BUDGETS, budgets, strict=True)
    }


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Small and Large by every protocol; none outside a factorial scope."""
    return [
        Cell(
            TUNED_TRAINING if isinstance(protocol.rate_rule, Tuned) else TRAINING,
            workload.name,
            scope.training_backend,
            batch_size,
            scope.seeds,
            protocol,
        )
        for protocol in protocols(workload).values()
        for batch_size in (workload.small, workload.large)
        if scope.factorial and batch_size in scope.training_batch_sizes
    ]


def compared(evidence: Evidence, outcome: Outcome) -> pd.DataFrame:
    """A row per combination, empty unless the tuned ones were planned: `rate`, `budget`, `protocol`, `status`,
    `reason`; the `interval` of the effect of Small against Large, paired by seed; its `verdict`, the same after
    Holm's correction over all (`safe`), the `seeds` compared and how many would settle it (`wanted`); `flags`; and
    the means `small` and `large`."""
    facts = evidence.facts
    table = [
        {"rate": rate, "budget": budget, **_comparison(_rows_of(evidence, protocol), facts, budget, outcome)}
        | {"protocol": protocol}
        for (rate, budget), protocol in protocols(facts).items()
        if len(_rows_of(evidence, protocol))
    ]
    if not any(row["rate"] == TUNED for row in table):
        return pd.DataFrame()
    frame = pd.DataFrame(table)
    tested = frame["status"] == "ok"
    adjusted = pd.Series(holm(frame.loc[tested, "p"]), index=frame.index[tested]).reindex(frame.index)
    return frame.assign(safe=frame["verdict"].where(~tested | (adjusted < 0.05), "undecided"))


def _rows_of(evidence: Evidence, protocol: Protocol) -> pd.DataFrame:
    compared = evidence.rows["batch_size"].isin((evidence.facts.small, evidence.facts.large))
    return evidence.rows[compared & (evidence.rows["protocol"] == protocol.key)]


def _comparison(rows: pd.DataFrame, facts: Facts, budget: str, outcome: Outcome) -> dict:
    flags = _edges(rows)
    if "stage" in rows:
        rows = rows[rows["stage"] != TRIAL]
    status, reason = troubles(rows, facts)
    found = {"status": status, "reason": reason, "verdict": "", "flags": flags, "p": math.nan}
    if status != "ok":
        return found
    values = outcome.of_seeds(rows, facts, budget)
    differences = values[facts.large] - values[facts.small]
    back = np.exp if outcome.ratio else float
    interval = mean_interval(differences if outcome.ratio else -differences).map(back)
    return found | {
        "interval": interval,
        "verdict": verdict(interval, 1 if outcome.ratio else 0),
        "seeds": interval.n,
        "p": mean_p_value(differences),
        "wanted": seeds_to_settle(differences),
        "small": float(back(values[facts.small].mean())),
        "large": float(back(values[facts.large].mean())),
    }


def _edges(rows: pd.DataFrame) -> str:
    """The batch sizes whose best rate lies on the edge of its grid."""
    if "on_edge" not in rows:
        return ""
    trained = rows[rows["on_edge"].eq(True) & (rows["stage"] != TRIAL)]
    best = trained.groupby("batch_size")["learning_rate"].first()
    return "; ".join(
        f"best rate {rate:g} on the edge of its grid at batch size {size:,}" for size, rate in best.items()
    )


def rows(evidence: Evidence, outcome: Outcome, told: set[str]) -> list[Row]:
    """A row of table.csv for each combination but those whose protocol's key is `told` already."""
    facts, judged = evidence.facts, []
    for _, one in compared(evidence, outcome).iterrows():
        if one["protocol"].key in told:
            continue
        shared = {
            "backend": backend_of(_rows_of(evidence, one["protocol"])),
            "protocol": str(one["protocol"]),
            "small": facts.small,
            "large": facts.large,
            "measure": outcome.measure(one["budget"]),
            "unit": outcome.name(one["budget"]),
            "headline": False,
            "kind": "ratio" if outcome.ratio else "difference",
            "null": 1 if outcome.ratio else 0,
            "flags": "; ".join(filter(None, (one["reason"], one["flags"]))),
        }
        if one["status"] != "ok":
            judged.append(Row(**shared, status=one["status"]))
        else:
            judged.append(Row.judged(one["interval"], **shared, value_small=one["small"], value_large=one["large"]))
    return judged


def sentence(evidence: Evidence, outcome: Outcome) -> str:
    """What follows from all combinations together, after Holm's correction over them; empty where they were not
    measured."""
    table = compared(evidence, outcome)
    if table.empty:
        return ""
    return " ".join(filter(None, (_drawn(table), _unsettled(table), _beyond(table))))


def _drawn(table: pd.DataFrame) -> str:
    compared = table[table["status"] == "ok"]
    said = f"Over the {len(table)} combinations of rate and budget (second figure), with Holm's correction, the claim"
    left_out = len(table) - len(compared)
    rest = f" {left_out} could not be compared." if left_out else ""
    return f"{said} {_where(compared)}.{rest}" if len(compared) else f"{said} could be compared in none."


DOES = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}


def _where(compared: pd.DataFrame) -> str:
    """What is found where: by the budget alone or the rate alone if that settles it, else one by one."""
    if compared["safe"].nunique() == 1:
        return f"{DOES[compared['safe'].iloc[0]]} in every one compared"
    for column, other, phrase in (("budget", "rate", "at {}"), ("rate", "budget", "with the {} rate")):
        if (compared.groupby(column)["safe"].nunique() == 1).all():
            found = compared.groupby(column, sort=False)["safe"].first()
            return f"{_listed(found.rename(phrase.format))}, whatever the {other}"
    pairs = "with the " + compared["rate"] + " rate at " + compared["budget"]
    return _listed(pd.Series(compared["safe"].to_numpy(), index=pairs))


def _listed(found: pd.Series) -> str:
    """Verdicts with the places (index) that each is found in."""
    return "; ".join(
        f"{DOES[verdict]} {', '.join(places.index)}" for verdict, places in found.groupby(found, sort=False)
    )


def _unsettled(table: pd.DataFrame) -> str:
    undecided = table[table["verdict"] == "undecided"]
    if undecided.empty:
        return ""
    wanted = ", ".join(
        f"{_count(row['wanted'])} for the {row['rate']} rate at {row['budget']}" for _, row in undecided.iterrows()
    )
    return f"To settle what is undecided, if the truth is what was seen, would take that many fresh seeds: {wanted}."


def _beyond(table: pd.DataFrame) -> str:
    flagged = table[table["flags"] != ""]
    found = "; ".join(f"{row['flags']}, at {row['budget']}" for _, row in flagged.iterrows())
    return f"A better rate may lie beyond what was tried: {found}." if found else ""


def _count(seeds: float) -> str:
    return f"{seeds:,.0f}" if math.isfinite(seeds) else f"more than {MOST_WANTED:,}"


def draw(evidence: Evidence, outcome: Outcome) -> Figure | None:
    """Rates down, budgets across: the effect with its interval, coloured by its verdict. None where they were not
    measured."""
    table = compared(evidence, outcome)
    if table.empty:
        return None
    rates = list(rate_rules(evidence.facts))
    figure = new_figure(9.6, 0.9 + 0.75 * len(rates))
    axes = figure.subplots()
    for _, row in table.iterrows():
        across, down = BUDGETS.index(row["budget"]), rates.index(row["rate"])
        colour = VERDICT_COLOURS.get(row["verdict"], "white")
        axes.fill_between([across - 0.49, across + 0.49], down - 0.47, down + 0.47, color=colour, linewidth=0)
        axes.text(across, down, _in_words(row, outcome), ha="center", va="center", fontsize=9, linespacing=1.35)
    axes.set_xticks(range(len(BUDGETS)), [f"{budget}\n{outcome.measure(budget)}" for budget in BUDGETS])
    axes.set_yticks(range(len(rates)), [f"{rate} rate" for rate in rates])
    axes.set_xlim(-0.5, len(BUDGETS) - 0.5)
    axes.set_ylim(len(rates) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _in_words(row: pd.Series, outcome: Outcome) -> str:
    mark = " (edge of the grid)" if row["flags"] else ""
    if row["status"] != "ok":
        return f"{row['status'].replace('_', ' ')}\n{row['reason'].split(':')[0]}{mark}"
    interval = f"{outcome.form(row['interval'].estimate)} ({bounds(row['interval'], outcome.form)})"
    return f"{row['verdict']}{mark}\n{interval}"
