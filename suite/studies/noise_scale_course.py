"""How the gradient noise scale changes over a training, and the critical batch size that it predicts.

The noise scale along one training predicts the critical batch size; the updates to the target at several batch sizes
show it (McCandlish et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from suite.claims.momentum_speed_up import batch_sizes
from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import at_target, left_out_sentence, problems_in_words, seeds_without_value
from suite.experiments.cell import Cell, Scope
from suite.experiments.noise_scale import NOISE_SCALE
from suite.experiments.tuned_training import TRIAL, TUNED_TRAINING
from suite.figures import GREY, LIGHT_GREY, SMALL_COLOUR, new_figure, plain_log_ticks
from suite.formatting import sentences, thousands, three_digits, with_bounds
from suite.instruments.noise_scale import effective, plain_mean
from suite.statistics import Interval, critical_batch_size, mean_interval
from suite.status import Status
from suite.studies.study import Study
from suite.training.learning_rate import FINE_SEARCH, Tuned
from suite.training.protocol import Protocol, TargetLoss
from suite.workloads import Workload

MAX_SEEDS = 10
EVALUATION_GROWTH = 1.2
"""The training is evaluated after 0, 1, 2, ... updates, later whenever their number has grown by this factor."""
TRIAL_SEEDS = 2
"""Replicas with which each rate is tried."""
INITIAL, MEAN, EFFECTIVE, CRITICAL = "initial", "mean", "effective", "critical"
LABELS = {
    INITIAL: "noise scale at initialisation",
    MEAN: "noise scale, mean over updates",
    EFFECTIVE: "critical batch size, predicted",
    CRITICAL: "critical batch size, measured",
}
PUBLISHED = {
    INITIAL: ("noise scale", "start"),
    MEAN: ("noise scale", "average"),
    CRITICAL: ("critical batch", "average"),
}
"""The quantity and the stage of `Facts.published_noise` beside which each stands."""


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """One training along which the noise scale is measured, and trainings at tuned rates; none for a workload that
    leaves out `momentum_speed_up` because it trains too slowly."""
    if workload.claims is not None and "momentum_speed_up" not in workload.claims:
        return []
    target = TargetLoss(workload.target_loss, workload.max_updates, EVALUATION_GROWTH)
    protocol, seeds = Protocol.of(workload, target, Tuned(seeds=TRIAL_SEEDS)), min(MAX_SEEDS, scope.seeds)
    course = Cell(NOISE_SCALE, workload.name, scope.training_backend, course_batch_size(workload), seeds, protocol)
    tuned = [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, size, scope.seeds, tuned_protocol(workload))
        for size in batch_sizes(workload, scope)
    ]
    return [course, *tuned]


def course_batch_size(workload: Workload) -> int:
    """A third of the way up the training batch sizes: one update is nearly all noise, so that little is lost between
    evaluations, and a training is still short."""
    sizes = workload.training_batch_sizes or workload.batch_sizes
    return sizes[len(sizes) // 3]


def tuned_protocol(workload: Facts | Workload) -> Protocol:
    """To the target at tuned rates with the workload's own optimizer, as `momentum_speed_up` trains it too."""
    return Protocol.to_target(workload, FINE_SEARCH)


@dataclass(frozen=True)
class SeedCourse:
    """The noise scale in examples along the training of one seed."""

    noise_scales: dict[int, float]
    """By updates, at every evaluation."""
    updates_to_target: float
    initial: float
    mean: float
    """Over the updates to the target."""
    effective: float


@dataclass(frozen=True)
class Course:
    """The noise scale along the trainings of all seeds that reached the target."""

    batch_size: int
    learning_rate: float
    """The tuned rate."""
    on_edge: bool
    """Whether that rate lies on the edge of its grid."""
    seeds: dict[int, SeedCourse]
    mean_noise_scales: dict[int, float]
    """By updates, geometric mean over seeds, where every seed was evaluated."""
    updates_to_target: float
    """Mean over seeds."""
    examples: dict[str, Interval]
    """INITIAL, MEAN, EFFECTIVE and, where three batch sizes were trained, CRITICAL: geometric means over seeds."""
    over_published: dict[str, float]
    """INITIAL and MEAN over their published values; empty where there are none."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    course: Course | None
    """None where no seed reached the target."""
    problems: tuple[Problem, ...]


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(NOISE_SCALE.name)
    reached = planned[planned["status"] == Status.OK].sort_values(["seed", "updates"])
    course = None if reached.empty else _course(reached, evidence)
    return Findings(evidence.facts, course, seeds_without_value(planned))


def _course(rows: pd.DataFrame, evidence: Evidence) -> Course:
    seeds = {int(seed): _seed_course(training, evidence.facts) for seed, training in rows.groupby("seed")}
    by_update = np.log(rows.pivot(index="updates", columns="seed", values="noise_scale").dropna()).mean(axis=1)
    examples = {
        INITIAL: _geometric_mean([seed.initial for seed in seeds.values()]),
        MEAN: _geometric_mean([seed.mean for seed in seeds.values()]),
        EFFECTIVE: _geometric_mean([seed.effective for seed in seeds.values()]),
    }
    if critical := _critical_batch_size(evidence):
        examples[CRITICAL] = critical
    published = evidence.facts.published_noise.get("noise scale")
    return Course(
        batch_size=int(rows["batch_size"].iloc[0]),
        learning_rate=float(rows["learning_rate"].iloc[0]),
        on_edge=bool(rows["on_edge"].any()),
        seeds=seeds,
        mean_noise_scales={int(updates): float(np.exp(log)) for updates, log in by_update.items()},
        updates_to_target=float(np.mean([seed.updates_to_target for seed in seeds.values()])),
        examples=examples,
        over_published={
            name: examples[name].estimate / published[PUBLISHED[name][1]] for name in (INITIAL, MEAN) if published
        },
    )


def _seed_course(rows: pd.DataFrame, facts: Facts) -> SeedCourse:
    updates_to_target = float(at_target(rows, facts, "updates").iloc[0, 0])
    updates, noise_scales = rows["updates"], rows["noise_scale"]
    return SeedCourse(
        noise_scales=dict(zip(updates.astype(int).tolist(), noise_scales.tolist(), strict=True)),
        updates_to_target=updates_to_target,
        initial=float(noise_scales.iloc[0]),
        mean=plain_mean(updates, noise_scales, updates_to_target),
        effective=effective(updates, noise_scales, rows["batch_size"].iloc[0], updates_to_target).noise_scale,
    )


def _critical_batch_size(evidence: Evidence) -> Interval | None:
    """From the updates to the target at the rate tuned for each batch size, by seed; None where fewer than three
    batch sizes were trained, or where no seed reached the target with all of them."""
    rows = evidence.rows[evidence.rows["protocol"] == tuned_protocol(evidence.facts).key]
    updates = at_target(rows[rows["stage"] != TRIAL], evidence.facts, "updates")
    complete = updates.dropna()
    if updates.shape[1] < 3 or complete.empty:
        return None
    return _geometric_mean([critical_batch_size(updates.columns, seed)[1] for _, seed in complete.iterrows()])


def _geometric_mean(values: list[float]) -> Interval:
    return mean_interval(np.log(values)).map(np.exp)


def answer(findings: Findings) -> str:
    course = findings.course
    if course is None:
        return f"The gradient noise scale along a training has no value: {problems_in_words(findings.problems)}."
    predicted = (
        f"The critical batch size is {three_digits(course.examples[EFFECTIVE].estimate)} examples as predicted from "
        "the gradient noise scale"
    )
    if CRITICAL not in course.examples:
        return f"{predicted}."
    return (
        f"{predicted}, and {three_digits(course.examples[CRITICAL].estimate)} as measured by trainings at several "
        "batch sizes."
    )


def figure(findings: Findings) -> Figure | None:
    """The noise scale over the updates, and its averages beside the critical batch size."""
    if findings.course is None:
        return None
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_course(left, findings.course)
    _draw_examples(right, findings.course.examples, findings.facts)
    return figure


def _draw_course(axes: Axes, course: Course) -> None:
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


def _draw_examples(axes: Axes, examples: dict[str, Interval], facts: Facts) -> None:
    for place, interval in enumerate(examples.values()):
        bars = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
        axes.errorbar(interval.estimate, place, xerr=bars, fmt="o", color="black", capsize=3)
    if facts.published_noise:
        published = {place: PUBLISHED[name] for place, name in enumerate(examples) if name in PUBLISHED}
        values = [facts.published_noise[quantity][stage] for quantity, stage in published.values()]
        axes.plot(values, list(published), "D", color=LIGHT_GREY, label=facts.published_noise_by)
        axes.legend(loc="best")
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set_yticks(range(len(examples)), [LABELS[name] for name in examples])
    axes.set_ylim(len(examples) - 0.5, -0.5)
    axes.set_xlabel("examples")


def explain(findings: Findings) -> str:
    course, facts = findings.course, findings.facts
    if course is None:
        return _published_sentence(facts)
    return sentences(
        _course_sentence(course, facts),
        _effective_sentence(course, facts),
        _critical_sentence(course, facts),
        _published_sentence(facts),
        _over_published_sentence(course),
        left_out_sentence(findings.problems),
    )


def _course_sentence(course: Course, facts: Facts) -> str:
    edge = ", on the edge of its grid," if course.on_edge else ""
    return (
        f"With batch size {thousands(course.batch_size)} at its tuned rate {course.learning_rate:g}{edge} a training "
        f"loss of {facts.target_loss:g} is reached after {thousands(course.updates_to_target)} updates. The gradient "
        f"noise scale tr(Σ) / |G|² is {with_bounds(course.examples[INITIAL])} examples at initialisation and "
        f"{with_bounds(course.examples[MEAN])} on average over the updates."
    )


def _effective_sentence(course: Course, facts: Facts) -> str:
    theory = f"This is the theory of SGD without momentum; {facts.name} is trained with {facts.optimizer.label}."
    return sentences(
        "The number of updates to the target should follow S (1 + B_crit / B), where S is the number for a very "
        "large batch. The mean over the updates predicts B_crit if each update has the weight 1 / (1 + noise scale / "
        f"batch size): this gives {with_bounds(course.examples[EFFECTIVE])}.",
        "" if facts.optimizer.plain_sgd else theory,
    )


def _critical_sentence(course: Course, facts: Facts) -> str:
    if CRITICAL not in course.examples:
        return ""
    return (
        f"Trainings with {facts.optimizer} at several batch sizes, each at its own tuned rate, give "
        f"{with_bounds(course.examples[CRITICAL])}."
    )


def _published_sentence(facts: Facts) -> str:
    if not facts.published_noise:
        return ""
    scale, critical = facts.published_noise["noise scale"], facts.published_noise["critical batch"]
    return (
        f"{facts.published_noise_by} has a noise scale of {thousands(scale['start'])} at initialisation and "
        f"{thousands(scale['average'])} on average, and critical batch sizes of {thousands(critical['start'])} and "
        f"{thousands(critical['average'])}, for another network, at other rates and to another loss."
    )


def _over_published_sentence(course: Course) -> str:
    if not course.over_published:
        return ""
    return (
        f"The noise scale here is {three_digits(course.over_published[INITIAL])} and "
        f"{three_digits(course.over_published[MEAN])} times theirs: it grows as the loss falls, so that its average "
        "depends on where the training stops."
    )


study = Study(
    name="noise_scale_course",
    claim="gradient",
    place=2,
    title="The gradient noise scale during training",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
