"""Optimization: better for Small, worse for Large.

The lecture trains every batch size for the same epochs at one learning rate, and the training loss ends higher with a
large batch: it is not overfitting, optimization fails. A large batch makes fewer updates in an epoch, and the verdict
can change with the learning rate, so the comparison is repeated at the workload's other rates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.trainings import comparison_problem, final_log_loss, last_evaluations, mean_loss_curve
from suite.experiments.cell import Cell, Scope
from suite.experiments.training import TRAINING
from suite.figures import GREY, batch_size_colours, draw_intervals, loss_axis, new_figure
from suite.formatting import bounds, decimals, listed, percent, sentences, thousands, three_digits
from suite.statistics import (
    HOLM_LEVEL,
    Interval,
    Verdict,
    holm,
    mean_interval,
    mean_p_value,
    probability_above_zero,
    verdict,
)
from suite.status import Status
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from suite.workloads import Workload

MEASURE = "training loss, Large / Small"


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every batch size at the workload's learning rate; Small and Large at its other rates."""
    return [
        Cell(TRAINING, workload.name, scope.training_backend, batch_size, scope.seeds, protocol(workload, rate))
        for rate in workload.learning_rates
        for batch_size in scope.training_batch_sizes
        if rate == workload.learning_rate or batch_size in (workload.small, workload.large)
    ]


def protocol(workload: Facts | Workload, rate: float) -> Protocol:
    """Equal epochs at a fixed rate."""
    return Protocol.of(workload, EqualEpochs(workload.epochs), learning_rate=rate)


# What it computes


@dataclass(frozen=True)
class AtRate:
    """Small against Large at one learning rate."""

    learning_rate: float
    backend: str
    comparison: Comparison | Problem
    """Final training loss at Large over that at Small, geometric mean over seeds."""
    verdict: Verdict | None = None
    """None where the two could not be compared."""
    small_ends_lower: Interval | None = None
    """Probability over seeds; None where the two could not be compared."""
    p_value: float = np.nan
    p_holm: float = np.nan
    """After Holm's correction over the rates that could be compared."""
    corrected_verdict: Verdict | None = None
    """After that correction; None where the two could not be compared."""

    @property
    def holds(self) -> bool:
        """Whether the claim holds after that correction."""
        return self.corrected_verdict is Verdict.HOLDS


@dataclass(frozen=True)
class LossCourse:
    """The training loss of one batch size at every evaluation where it is positive, geometric mean over seeds."""

    epochs: tuple[float, ...]
    updates: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class End:
    """One batch size at the end of training."""

    updates: float
    """The most of any seed: one that diverged stops early."""
    loss: Interval
    """Training loss, geometric mean over seeds; NaN where a loss is not positive."""
    score: float
    """Training score, mean over seeds."""
    diverged: int
    seeds: int


@dataclass(frozen=True)
class Findings:
    facts: Facts
    rates: tuple[AtRate, ...]
    """In the order of the workload's learning rates."""
    courses: dict[int, LossCourse]
    """By batch size, at the workload's rate."""
    ends: dict[int, End]
    """By batch size, at the workload's rate."""

    @property
    def headline(self) -> AtRate:
        """The comparison at the workload's rate."""
        (at_rate,) = (at for at in self.rates if at.learning_rate == self.facts.learning_rate)
        return at_rate


def analyse(evidence: Evidence) -> Findings:
    facts = evidence.facts
    keys = {rate: protocol(facts, rate).key for rate in facts.learning_rates}
    planned = {rate: evidence.rows[evidence.rows["protocol"] == key] for rate, key in keys.items()}
    rates = [_at_rate(rows, facts, rate) for rate, rows in planned.items() if len(rows)]
    rows = planned[facts.learning_rate]
    return Findings(facts, _corrected(rates), _courses(rows), _ends(rows))


def _at_rate(rows: pd.DataFrame, facts: Facts, rate: float) -> AtRate:
    backend = backend_of(rows)
    if problem := comparison_problem(rows, facts):
        return AtRate(rate, backend, problem)
    small, large = (final_log_loss(rows, size) for size in (facts.small, facts.large))
    differences = large - small
    effect = mean_interval(differences).map(np.exp)
    comparison = Comparison(effect, float(np.exp(small.mean())), float(np.exp(large.mean())))
    probability = probability_above_zero(differences)
    return AtRate(rate, backend, comparison, verdict(effect, 1), probability, mean_p_value(differences))


def _corrected(rates: list[AtRate]) -> tuple[AtRate, ...]:
    """`rates` with Holm's correction."""
    p_values = {at_rate.learning_rate: at_rate.p_value for at_rate in rates if at_rate.verdict is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return tuple(
        _with_correction(at_rate, adjusted[at_rate.learning_rate]) if at_rate.learning_rate in adjusted else at_rate
        for at_rate in rates
    )


def _with_correction(at_rate: AtRate, p_holm: float) -> AtRate:
    corrected = at_rate.verdict if p_holm < HOLM_LEVEL else Verdict.UNDECIDED
    return replace(at_rate, p_holm=p_holm, corrected_verdict=corrected)


def _courses(rows: pd.DataFrame) -> dict[int, LossCourse]:
    courses = {}
    for batch_size, evaluations in rows[rows["status"] == Status.OK].groupby("batch_size"):
        losses = mean_loss_curve(evaluations, over="updates")
        epochs = evaluations.groupby("updates")["epoch"].first()[list(losses)]
        courses[int(batch_size)] = LossCourse(tuple(map(float, epochs)), tuple(losses), tuple(losses.values()))
    return {batch_size: course for batch_size, course in courses.items() if course.losses}


def _ends(rows: pd.DataFrame) -> dict[int, End]:
    return {
        int(batch_size): End(
            updates=float(last["updates"].max()),
            loss=mean_interval(np.log(last["train_loss"].where(last["train_loss"] > 0))).map(np.exp),
            score=float(last["train_score"].mean()),
            diverged=int((last["status"] == Status.DIVERGED).sum()),
            seeds=len(last),
        )
        for batch_size, last in last_evaluations(rows).groupby("batch_size")
    }


# How it is judged


@dataclass(frozen=True)
class RatesThatHold:
    """The learning rates at which the claim holds, after Holm's correction."""

    learning_rate: float
    """That of the row."""
    holding: tuple[float, ...]
    tried: int
    not_compared: int = 0
    """Of those tried."""

    def __str__(self) -> str:
        holding = ", ".join(f"{rate:g}" for rate in self.holding)
        share = f"holds at {len(self.holding)} of {self.tried} rates tried"
        missing = f"; {self.not_compared} could not be compared" if self.not_compared else ""
        return f"at learning rate {self.learning_rate:g}; {share}{': ' if holding else ''}{holding}{missing}"


def judge(findings: Findings) -> list[Row]:
    facts, headline = findings.facts, findings.headline
    flags = (_rates_that_hold(findings),) if isinstance(headline.comparison, Comparison) else ()
    return [
        Row.of(
            at_rate.comparison,
            backend=at_rate.backend,
            protocol=protocol(facts, at_rate.learning_rate),
            small=facts.small,
            large=facts.large,
            measure=MEASURE,
            unit="training loss",
            headline=at_rate is headline,
            flags=flags if at_rate is headline else (),
        )
        for at_rate in findings.rates
    ]


def _rates_that_hold(findings: Findings) -> RatesThatHold:
    holding = sorted(at_rate.learning_rate for at_rate in findings.rates if at_rate.holds)
    not_compared = sum(at_rate.verdict is None for at_rate in findings.rates)
    return RatesThatHold(findings.facts.learning_rate, tuple(holding), len(findings.rates), not_compared)


# How it is shown


def answer(findings: Findings) -> str:
    facts, comparison = findings.facts, findings.headline.comparison
    if isinstance(comparison, Problem):
        return f"At learning rate {facts.learning_rate:g} the batch sizes cannot be compared: {comparison}."
    undecided = ", which leaves the claim undecided" if findings.headline.verdict is Verdict.UNDECIDED else ""
    return (
        f"After {facts.epochs} epochs at learning rate {facts.learning_rate:g} the large batch ends at "
        f"{three_digits(comparison.effect.estimate)} times the training loss of the small one: "
        f"{three_digits(comparison.large)} against {three_digits(comparison.small)}{undecided}."
    )


def figure(findings: Findings) -> Figure:
    """Training loss per epoch and per update, Small and Large as thick lines, and the effect over the rate."""
    facts = findings.facts
    figure = new_figure(11.5, 4.2)
    panels = figure.subplots(1, 3)
    colours = batch_size_colours(sorted(findings.courses))
    for batch_size, course in findings.courses.items():
        style = {"color": colours[batch_size], "linewidth": 2.5 if batch_size in (facts.small, facts.large) else 1}
        panels[0].plot(course.epochs, course.losses, label=thousands(batch_size), **style)
        panels[1].plot(course.updates[1:], course.losses[1:], marker=".", markersize=4, **style)
    panels[0].set_xlabel("epochs")
    panels[1].set_xlabel("updates")
    panels[1].set_xscale("log")
    for axes in panels[:2]:
        loss_axis(axes)
    _draw_effects(panels[2], findings.rates)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="batch size", loc="outside right upper", fontsize="small")
    return figure


def _draw_effects(axes: Axes, rates: tuple[AtRate, ...]) -> None:
    effects = {at.learning_rate: at.comparison.effect for at in rates if isinstance(at.comparison, Comparison)}
    problems = {at.learning_rate: at.comparison for at in rates if isinstance(at.comparison, Problem)}
    axes.axhline(1, color=GREY, linewidth=1)
    draw_intervals(axes, list(effects), list(effects.values()))
    for rate, problem in problems.items():
        place, style = (rate, 0.5), {"rotation": 90, "ha": "center", "va": "center"}
        axes.annotate(problem.status.text, place, xycoords=("data", "axes fraction"), **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    learning_rates = [at_rate.learning_rate for at_rate in rates]
    axes.set_xlim(min(learning_rates) / 2, max(learning_rates) * 2)
    axes.set_xticks(learning_rates, [f"{rate:g}" for rate in learning_rates])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("learning rate")
    axes.set_ylabel(MEASURE)


def explain(findings: Findings) -> str:
    return sentences(_at_the_workloads_rate(findings), _over_the_rates(findings))


def _at_the_workloads_rate(findings: Findings) -> str:
    facts, probability = findings.facts, findings.headline.small_ends_lower
    if probability is None:
        return ""
    small, large = (decimals(3)(findings.ends[size].score) for size in (facts.small, facts.large))
    return (
        f"The small batch ends lower in {percent(probability.estimate)} of the seeds (95% interval of this "
        f"probability: {bounds(probability, percent)}). The training {facts.score_name} is {small} with batch size "
        f"{thousands(facts.small)} and {large} with {thousands(facts.large)}. In equal epochs the large batch makes "
        "fewer updates; the middle panel shows the same trainings against the number of updates."
    )


def _over_the_rates(findings: Findings) -> str:
    problems = [
        f"Learning rate {at_rate.learning_rate:g} is not judged since trainings failed ({at_rate.comparison})."
        for at_rate in findings.rates
        if isinstance(at_rate.comparison, Problem) and at_rate is not findings.headline
    ]
    return sentences(_verdicts_sentence(findings), *problems)


def _verdicts_sentence(findings: Findings) -> str:
    """At which learning rates the claim holds, fails and is undecided; empty where it could be compared at none."""
    ascending = sorted(findings.rates, key=lambda at_rate: at_rate.learning_rate)
    rates = {
        outcome: [f"{at.learning_rate:g}" for at in ascending if at.corrected_verdict is outcome]
        for outcome in Verdict
    }
    if not any(rates.values()):
        return ""
    holding = rates[Verdict.HOLDS]
    parts = [
        f"With Holm's correction the claim holds at {len(holding)} of {len(findings.rates)} learning rates tried"
        f"{': ' + listed(holding) if holding else ''}"
    ]
    if failing := rates[Verdict.FAILS]:
        parts.append(f"it fails at {listed(failing)}")
    if undecided := rates[Verdict.UNDECIDED]:
        parts.append(f"it is undecided at {listed(undecided)}")
    return f"{'; '.join(parts)}."


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "batch size": thousands(batch_size),
            "updates": thousands(end.updates),
            "training loss": three_digits(end.loss.estimate),
            "95% interval": bounds(end.loss),
            f"training {findings.facts.score_name}": decimals(3)(end.score),
            "diverged": f"{end.diverged} of {end.seeds}",
        }
        for batch_size, end in findings.ends.items()
    )


claim = Claim(
    name="optimization",
    row=5,
    title="Optimization",
    small="Better",
    large="Worse",
    says="After the same number of epochs, a small batch reaches a lower training loss than a large one.",
    rule=(
        "Holds when the 95% interval of the ratio (training loss at Large) / (training loss at Small), after equal "
        "epochs at one learning rate, lies above 1; the ratio is the geometric mean over seeds, paired by initial "
        "parameters and split."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
