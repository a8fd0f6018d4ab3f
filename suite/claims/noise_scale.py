"""The noise scale predicts the critical batch size.

The gradient noise scale along one training predicts the batch size beyond which larger batches save few updates; the
updates to the target at several batch sizes show it (McCandlish et al. 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from suite.claims.claim import Claim, Comparison, Row
from suite.claims.momentum_speed_up import batch_sizes as speed_up_batch_sizes
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.critical_batch import CriticalBatch, LeftOut
from suite.evidence.noise_course import NoiseCourse
from suite.evidence.trainings import left_out_sentence, seeds_without_value, training_problem
from suite.experiments.cell import Cell, Scope
from suite.experiments.noise_scale import NOISE_SCALE
from suite.experiments.tuned_training import TRIAL, TUNED_TRAINING
from suite.figures import GREY, LIGHT_GREY, SMALL_COLOUR, new_figure, plain_log_ticks
from suite.formatting import bounds, ratio, sentences, thousands, three_digits, with_bounds
from suite.statistics import Interval, difference_interval
from suite.status import Status
from suite.training.budgets import TargetLoss
from suite.training.learning_rate import FINE_SEARCH, Tuned
from suite.training.protocol import Protocol
from suite.workloads import Workload

MAX_SEEDS = 10
EVALUATION_GROWTH = 1.2
"""The training is evaluated after 0, 1, 2, ... updates, later whenever their number has grown by this factor."""
TRIAL_SEEDS = 2
"""Replicas with which each rate is tried."""
FACTOR = 2
"""A prediction within this factor is good enough to choose a batch size: at half the critical batch size, training
takes 1.5 times the updates that it takes there, and at twice 0.75 times."""
INITIAL, MEAN, EFFECTIVE, CRITICAL, AVERAGED = "initial", "mean", "effective", "critical", "averaged"
LABELS = {
    INITIAL: "noise scale at initialisation",
    MEAN: "noise scale, mean over updates",
    EFFECTIVE: "critical batch size, predicted",
    CRITICAL: "critical batch size, measured",
    AVERAGED: "the same, averaged parameters",
}
PUBLISHED = {
    INITIAL: ("noise scale", "start"),
    MEAN: ("noise scale", "average"),
    CRITICAL: ("critical batch", "average"),
}
"""The quantity and the stage of `Facts.published_noise` beside which each stands."""


# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """One training along which the noise scale is measured, and trainings at tuned rates."""
    target = TargetLoss(workload.target_loss, workload.max_updates, EVALUATION_GROWTH)
    protocol, seeds = Protocol.of(workload, target, Tuned(seeds=TRIAL_SEEDS)), min(MAX_SEEDS, scope.seeds)
    course = Cell(NOISE_SCALE, workload.name, scope.training_backend, course_batch_size(workload), seeds, protocol)
    tuned = [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, size, seeds_of_reading, protocol)
        for protocol, seeds_of_reading in (
            (tuned_protocol(workload), seeds),
            (averaged_protocol(workload), scope.seeds),
        )
        for size in batch_sizes(workload, scope)
    ]
    return [course, *tuned]


def batch_sizes(workload: Workload, scope: Scope) -> list[int]:
    """Those of `momentum_speed_up`; where they are fewer than the three of a fit, also the one in the middle of those
    that are trained, or between Small and Large where these are all."""
    sizes, trained = speed_up_batch_sizes(workload, scope), scope.training_batch_sizes
    if len(sizes) > 2:
        return sizes
    between = round(math.sqrt(workload.small * workload.large))
    return sorted({*sizes, trained[len(trained) // 2] if len(trained) > 2 else between})


def course_batch_size(workload: Workload) -> int:
    """A third of the way up the training batch sizes: one update is nearly all noise, so that little is lost between
    evaluations, and a training is still short."""
    sizes = workload.training_batch_sizes or workload.batch_sizes
    return sizes[len(sizes) // 3]


def tuned_protocol(workload: Facts | Workload) -> Protocol:
    """To the target at tuned rates with the workload's own optimizer: the theory is about the last iterate."""
    return Protocol.of(workload, TargetLoss(workload.target_loss, workload.max_updates), FINE_SEARCH)


def averaged_protocol(workload: Facts | Workload) -> Protocol:
    """The same with averaged parameters, which have less noise, as `momentum_speed_up` trains it too."""
    return Protocol.to_target(workload, FINE_SEARCH)


# What it computes


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    comparison: Comparison | Problem
    """Measured over predicted, geometric means over seeds that are independent; then predicted and critical."""
    course: NoiseCourse | None
    """None where no seed reached the target."""
    course_problems: tuple[Problem, ...]
    """Seeds whose course has no value."""
    critical: CriticalBatch | Problem
    """Of the last iterate."""
    averaged_comparison: Comparison | Problem
    """As `comparison`, with the critical batch size of averaged parameters."""
    averaged: CriticalBatch | Problem
    """Of averaged parameters."""


def analyse(evidence: Evidence) -> Findings:
    facts, planned = evidence.facts, evidence.of(NOISE_SCALE.name)
    reached = planned[planned["status"] == Status.OK]
    course = None if reached.empty else NoiseCourse.of(reached, facts)
    critical, averaged = (
        CriticalBatch.of(_final_rows(evidence, protocol(facts)), facts)
        for protocol in (tuned_protocol, averaged_protocol)
    )
    problem = None if course else training_problem(planned, "")
    return Findings(
        facts=facts,
        backend=backend_of(evidence.rows),
        comparison=problem or _compared(course, critical),
        course=course,
        course_problems=seeds_without_value(planned),
        critical=critical,
        averaged_comparison=problem or _compared(course, averaged),
        averaged=averaged,
    )


def _final_rows(evidence: Evidence, protocol: Protocol) -> pd.DataFrame:
    """The evaluations of the trainings by `protocol` at their tuned rates."""
    rows = evidence.rows[evidence.rows["protocol"] == protocol.key]
    return rows[rows["stage"] != TRIAL]


def _compared(course: NoiseCourse, critical: CriticalBatch | Problem) -> Comparison | Problem:
    if isinstance(critical, Problem):
        return critical
    predicted = [seed.effective for seed in course.seeds.values()]
    effect = difference_interval(np.log(critical.seeds), np.log(predicted)).map(np.exp)
    return Comparison(effect, course.effective.estimate, critical.interval.estimate)


# How it is judged


@dataclass(frozen=True)
class TheoryOfSgd:
    """The workload's optimizer is another one than that of the theory."""

    optimizer: str

    def __str__(self) -> str:
        return f"the theory is that of SGD without momentum, the trainings are with {self.optimizer}"


@dataclass(frozen=True)
class OnAveraged:
    """The same ratio where the updates to the target are those of averaged parameters."""

    ratio: Interval

    def __str__(self) -> str:
        return f"with averaged parameters {with_bounds(self.ratio, ratio)}"


def judge(findings: Findings) -> list[Row]:
    facts, averaged = findings.facts, findings.averaged_comparison
    theory = () if facts.optimizer.plain_sgd else (TheoryOfSgd(facts.optimizer.label),)
    on_average = (OnAveraged(averaged.effect),) if isinstance(averaged, Comparison) else ()
    readings = (
        (findings.comparison, findings.critical, tuned_protocol(facts), on_average),
        (averaged, findings.averaged, averaged_protocol(facts), ()),
    )
    return [
        Row.of(
            comparison,
            backend=findings.backend,
            protocol=protocol,
            small=facts.small,
            large=facts.large,
            measure="critical batch size, measured / predicted",
            unit="examples",
            factor=FACTOR,
            flags=(*flags, *_left_out(critical), *theory),
            headline=comparison is findings.comparison,
        )
        for comparison, critical, protocol, flags in readings
    ]


def _left_out(critical: CriticalBatch | Problem) -> tuple[LeftOut, ...]:
    return (critical.left_out,) if isinstance(critical, CriticalBatch) and critical.left_out else ()


# How it is shown


def examples(findings: Findings) -> dict[str, Interval]:
    """What has a value, in examples."""
    course, readings = findings.course, {CRITICAL: findings.critical, AVERAGED: findings.averaged}
    of_course = {INITIAL: course.initial, MEAN: course.mean, EFFECTIVE: course.effective} if course else {}
    return of_course | {
        name: critical.interval for name, critical in readings.items() if isinstance(critical, CriticalBatch)
    }


def answer(findings: Findings) -> str:
    values = {name: f"{three_digits(interval.estimate)} examples" for name, interval in examples(findings).items()}
    parts = {
        EFFECTIVE: "as predicted from the gradient noise scale",
        CRITICAL: "as measured by trainings at several batch sizes",
    }
    known = ", and ".join(f"{values[name]} {text}" for name, text in parts.items() if name in values)
    compared = not isinstance(findings.comparison, Problem)
    return sentences(
        f"The critical batch size is {known}." if known else "",
        "" if compared else f"Prediction and measurement cannot be compared: {findings.comparison}.",
    )


def figure(findings: Findings) -> Figure | None:
    """The noise scale over the updates, and its averages beside the critical batch size."""
    if findings.course is None:
        return None
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_course(left, findings.course)
    _draw_examples(right, examples(findings), findings.facts)
    return figure


def _draw_course(axes: Axes, course: NoiseCourse) -> None:
    for seed in course.seeds.values():
        scales = seed.noise_scales
        axes.plot(list(scales), list(scales.values()), color=SMALL_COLOUR, alpha=0.3, linewidth=1)
    means = course.mean_noise_scales
    axes.plot(list(means), list(means.values()), color=SMALL_COLOUR, linewidth=2.5, label="mean over seeds")
    axes.axhline(course.batch_size, color=GREY, linestyle=":", label=f"batch size {thousands(course.batch_size)}")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    axes.set_yscale("log")
    plain_log_ticks(axes.yaxis)
    axes.set_xlabel(f"updates, at learning rate {course.learning_rate:g}")
    axes.set_ylabel("gradient noise scale (examples)")
    axes.legend(loc="best")


def _draw_examples(axes: Axes, values: dict[str, Interval], facts: Facts) -> None:
    for place, interval in enumerate(values.values()):
        bars = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
        axes.errorbar(interval.estimate, place, xerr=bars, fmt="o", color="black", capsize=3)
    if facts.published_noise:
        published = {place: PUBLISHED[name] for place, name in enumerate(values) if name in PUBLISHED}
        numbers = [facts.published_noise[quantity][stage] for quantity, stage in published.values()]
        axes.plot(numbers, list(published), "D", color=LIGHT_GREY, label=facts.published_noise_by)
        axes.legend(loc="best")
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set_yticks(range(len(values)), [LABELS[name] for name in values])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel("examples")


def explain(findings: Findings) -> str:
    course, facts = findings.course, findings.facts
    if course is None:
        return _published_sentence(facts)
    return sentences(
        _course_sentence(course, facts),
        "The updates to the target should follow S (1 + B_crit / B), where S is their number for a very large batch; "
        "their mean noise scale predicts B_crit if each has the weight 1 / (1 + noise scale / batch size).",
        _tuned_sentence(findings),
        _averaged_sentence(findings),
        _published_sentence(facts),
        left_out_sentence(findings.course_problems),
    )


def _course_sentence(course: NoiseCourse, facts: Facts) -> str:
    edge = ", on the edge of its grid," if course.on_edge else ""
    return (
        f"With batch size {thousands(course.batch_size)} at its tuned rate {course.learning_rate:g}{edge} a training "
        f"loss of {facts.target_loss:g} is reached after {thousands(course.updates_to_target)} updates. The gradient "
        f"noise scale tr(Σ) / |G|² is {with_bounds(course.initial)} examples at initialisation and "
        f"{with_bounds(course.mean)} on average over the updates."
    )


def _tuned_sentence(findings: Findings) -> str:
    """What the measured value rests on; empty where there is none."""
    facts, critical = findings.facts, findings.critical
    if isinstance(critical, Problem):
        return ""
    left_out = f" ({critical.left_out})" if critical.left_out else ""
    return (
        f"B_crit is measured by trainings with {facts.optimizer} at several batch sizes, each at its own tuned rate, "
        f"of {len(critical.seeds)} seeds{left_out}; the interval of the ratio has the errors of both."
    )


def _averaged_sentence(findings: Findings) -> str:
    """What another reading of the updates to the target would have said; empty where there is none."""
    if isinstance(findings.averaged, Problem):
        return ""
    return (
        "The prediction is about the parameters after the last update. Averaged parameters have less noise: they "
        f"reach the target with a B_crit of {with_bounds(findings.averaged.interval)}."
    )


def _published_sentence(facts: Facts) -> str:
    if not facts.published_noise:
        return ""
    scale, critical = facts.published_noise["noise scale"], facts.published_noise["critical batch"]
    return (
        f"{facts.published_noise_by} has a noise scale of {thousands(scale['start'])} at initialisation and "
        f"{thousands(scale['average'])} on average, and critical batch sizes of {thousands(critical['start'])} and "
        f"{thousands(critical['average'])}, for another network, at other rates and to another loss. The noise scale "
        "grows as the loss falls, so that its average depends on where the training stops."
    )


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "quantity": LABELS[name],
            "examples": three_digits(interval.estimate),
            "95% interval": bounds(interval),
            "seeds": thousands(interval.n),
        }
        for name, interval in examples(findings).items()
    )


claim = Claim(
    name="noise_scale",
    row=12,
    title="The noise scale predicts the critical batch size",
    small="Critical batch size",
    large="The same",
    says="The noise of the gradient along one training predicts how the updates to a target loss depend on the batch "
    "size (McCandlish et al. 2018).",
    rule=(
        "Holds when the 95% interval of the ratio (measured critical batch size) / (predicted), geometric means over "
        f"seeds, lies within a factor of {FACTOR} of 1, and fails when it lies outside."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
    columns=("From the noise scale", "From trainings"),
    source="Theory",
)
