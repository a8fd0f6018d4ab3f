"""The noise scale predicts the critical batch size.

The gradient noise scale along one training predicts the batch size beyond which larger batches save few updates; the
updates to the target at several batch sizes show it (McCandlish et al. 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of, tuned_trainings
from suite.evidence.critical_batch import MIN_BATCH_SIZES, CriticalBatch
from suite.evidence.noise_course import NoiseCourse
from suite.evidence.trainings import left_out_sentence, seeds_without_value
from suite.evidence.tuned_trainings import LAST_ITERATE_SEEDS, averaged_protocol, course_cell, last_iterate_protocol
from suite.evidence.tuned_updates import NeverReached, TunedUpdates, never_reached_sentence
from suite.experiments.cell import Cell, Scope
from suite.experiments.noise_scale import NOISE_SCALE
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.figures import LIGHT_GREY, new_figure, plain_log_ticks
from suite.formatting import bounds, ratio, sentences, thousands, three_digits, with_bounds
from suite.statistics import Interval, ratio_of_estimates
from suite.workloads import Workload

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
    seeds = min(LAST_ITERATE_SEEDS, scope.seeds)
    tuned = [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, size, seeds_of_reading, protocol)
        for protocol, seeds_of_reading in (
            (last_iterate_protocol(workload), seeds),
            (averaged_protocol(workload), scope.seeds),
        )
        for size in batch_sizes(workload, scope)
    ]
    return [course_cell(workload, scope), *tuned]


def batch_sizes(workload: Workload, scope: Scope) -> list[int]:
    """Those of `momentum_speed_up`; where they are fewer than the three of a fit, also the one in the middle of those
    that are trained, or between Small and Large where these are all."""
    sizes, trained = tuned_trainings.batch_sizes(workload, scope), scope.training_batch_sizes
    if len(sizes) >= MIN_BATCH_SIZES:
        return sizes
    between = round(math.sqrt(workload.small * workload.large))
    return sorted({*sizes, trained[len(trained) // 2] if len(trained) > 2 else between})


# What it computes


@dataclass(frozen=True)
class Reading:
    """The critical batch size measured by the last iterate or by averaged parameters, and the predicted one."""

    comparison: Comparison | Problem
    """Measured over predicted, then predicted and measured."""
    critical: CriticalBatch | Problem
    never_reached: tuple[NeverReached, ...]
    """At any batch size."""

    @classmethod
    def of(cls, course: NoiseCourse | Problem, tuned: TunedUpdates) -> Reading:
        critical = CriticalBatch.of(tuned)
        return cls(_compared(course, critical), critical, tuned.all_never_reached())


def _compared(course: NoiseCourse | Problem, critical: CriticalBatch | Problem) -> Comparison | Problem:
    for side in (course, critical):
        if isinstance(side, Problem):
            return side
    effect = ratio_of_estimates(critical.interval, course.effective)
    return Comparison(effect, course.effective.estimate, critical.interval.estimate)


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    course: NoiseCourse | Problem
    """A problem where no seed reached the target."""
    course_problems: tuple[Problem, ...]
    """Seeds whose course has no value."""
    last_iterate: Reading
    averaged: Reading


def analyse(evidence: Evidence) -> Findings:
    facts, planned = evidence.facts, evidence.of(NOISE_SCALE.name)
    course = NoiseCourse.of(planned, facts)
    last_iterate, averaged = (
        Reading.of(course, TunedUpdates.of(evidence, protocol(facts)))
        for protocol in (last_iterate_protocol, averaged_protocol)
    )
    return Findings(facts, backend_of(evidence.rows), course, seeds_without_value(planned), last_iterate, averaged)


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
    """A row for each reading: the last iterate, and averaged parameters."""
    facts, averaged = findings.facts, findings.averaged.comparison
    theory = () if facts.optimizer.plain_sgd else (TheoryOfSgd(facts.optimizer.label),)
    on_average = (OnAveraged(averaged.effect),) if isinstance(averaged, Comparison) else ()
    readings = (
        (findings.last_iterate, last_iterate_protocol(facts), on_average),
        (findings.averaged, averaged_protocol(facts), ()),
    )
    return [
        Row.of(
            reading.comparison,
            backend=findings.backend,
            protocol=protocol,
            small=facts.small,
            large=facts.large,
            measure="critical batch size, measured / predicted",
            unit="examples",
            factor=FACTOR,
            flags=(*flags, *reading.never_reached, *theory),
            headline=reading is findings.last_iterate,
        )
        for reading, protocol, flags in readings
    ]


# How it is shown


def examples(findings: Findings) -> dict[str, Interval]:
    """What has a value, in examples."""
    course, readings = findings.course, {CRITICAL: findings.last_iterate, AVERAGED: findings.averaged}
    values = {}
    if isinstance(course, NoiseCourse):
        values = {INITIAL: course.initial, MEAN: course.mean, EFFECTIVE: course.effective}
    critical = {name: reading.critical for name, reading in readings.items()}
    return values | {name: batch.interval for name, batch in critical.items() if isinstance(batch, CriticalBatch)}


def answer(findings: Findings) -> str:
    values = {name: f"{three_digits(interval.estimate)} examples" for name, interval in examples(findings).items()}
    parts = {
        EFFECTIVE: "as predicted from the gradient noise scale",
        CRITICAL: "as measured by trainings at several batch sizes",
    }
    known = ", and ".join(f"{values[name]} {text}" for name, text in parts.items() if name in values)
    comparison = findings.last_iterate.comparison
    return sentences(
        f"The critical batch size is {known}." if known else "",
        f"Prediction and measurement cannot be compared: {comparison}." if isinstance(comparison, Problem) else "",
    )


def figure(findings: Findings) -> Figure | None:
    """The averages of the noise scale beside the critical batch size."""
    if isinstance(findings.course, Problem):
        return None
    figure, values = new_figure(7.2, 3.4), examples(findings)
    axes = figure.subplots()
    for place, interval in enumerate(values.values()):
        bars = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
        axes.errorbar(interval.estimate, place, xerr=bars, fmt="o", color="black", capsize=3)
    if findings.facts.published_noise:
        _draw_published_noise(axes, list(values), findings.facts)
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set_yticks(range(len(values)), [LABELS[name] for name in values])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel("examples")
    return figure


def _draw_published_noise(axes: Axes, names: list[str], facts: Facts) -> None:
    """Draw the published values on the lines of the quantities that they are of."""
    published = {place: PUBLISHED[name] for place, name in enumerate(names) if name in PUBLISHED}
    numbers = [facts.published_noise[quantity][stage] for quantity, stage in published.values()]
    axes.plot(numbers, list(published), "D", color=LIGHT_GREY, label=facts.published_noise_by)
    axes.legend(loc="best")


def explain(findings: Findings) -> str:
    course, facts = findings.course, findings.facts
    if isinstance(course, Problem):
        return _published_sentence(facts)
    return sentences(
        "The updates to the target should follow S (1 + B_crit / B), where S is their number for a very large "
        "batch. To predict B_crit, the noise scale is measured along a training with batch size "
        f"{thousands(course.batch_size)}. The prediction is the mean of the noise scales at all updates, with "
        f"weights 1 / (1 + noise scale / {thousands(course.batch_size)}). This is the simple noise scale tr(Σ) / "
        "|G|², which treats the Hessian as a multiple of the identity.",
        left_out_sentence(findings.course_problems),
        _measured_sentence(findings.last_iterate, facts),
        _averaged_sentence(findings.averaged),
        _published_sentence(facts),
    )


def _measured_sentence(last_iterate: Reading, facts: Facts) -> str:
    """What the measured value rests on; empty where there is none."""
    critical = last_iterate.critical
    if isinstance(critical, Problem):
        return ""
    return sentences(
        f"The measured B_crit comes from trainings with {facts.optimizer} at several batch sizes, each at the rate "
        "tuned for it. The same formula is fitted to the median number of updates to the target at each batch "
        f"size, over {critical.interval.n} seeds.",
        "Both the predicted and the measured critical batch size vary between seeds, and the interval of their ratio "
        "allows for both.",
        never_reached_sentence(last_iterate.never_reached),
    )


def _averaged_sentence(averaged: Reading) -> str:
    """What another reading of the updates to the target says; empty where it says nothing."""
    if isinstance(averaged.critical, Problem):
        return ""
    return (
        "The prediction assumes that the current parameters must reach the target, not averaged ones, which have "
        "less noise. If averaged parameters must reach the target, the measured B_crit is "
        f"{with_bounds(averaged.critical.interval)}."
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
        "Holds when the 95% interval of the ratio (measured critical batch size) / (predicted) lies between "
        f"1/{FACTOR} and {FACTOR}, and fails when all of it lies outside; the measured one is fitted to "
        "medians over seeds, in which seeds that never reach the target count as infinite, and the predicted one is "
        "a geometric mean."
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
