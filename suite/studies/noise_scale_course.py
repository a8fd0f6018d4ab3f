"""The gradient noise scale over the updates of the training from which the critical batch size is predicted."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from suite.evidence import Evidence, Facts, Problem
from suite.evidence.noise_course import NoiseCourse
from suite.evidence.trainings import left_out_sentence, seeds_without_value
from suite.evidence.tuned_trainings import course_cell
from suite.experiments.cell import Cell, Scope
from suite.experiments.noise_scale import NOISE_SCALE
from suite.figures import GREY, SMALL_COLOUR, new_figure, plain_log_ticks
from suite.formatting import sentences, thousands, three_digits, with_bounds
from suite.studies.study import Study
from suite.workloads import Workload


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """The training along which the noise scale is measured."""
    return [course_cell(workload, scope)]


@dataclass(frozen=True)
class Findings:
    facts: Facts
    course: NoiseCourse | Problem
    """A problem where no seed reached the target."""
    problems: tuple[Problem, ...]
    """Seeds without a value."""


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(NOISE_SCALE.name)
    return Findings(evidence.facts, NoiseCourse.of(planned, evidence.facts), seeds_without_value(planned))


def answer(findings: Findings) -> str:
    course = findings.course
    if isinstance(course, Problem):
        return f"The noise scale has no course to the target: {course}."
    return (
        f"The gradient noise scale is {three_digits(course.initial.estimate)} examples at initialisation and "
        f"{three_digits(course.mean.estimate)} on average over the updates to the target."
    )


def figure(findings: Findings) -> Figure | None:
    """The noise scale of every seed and its mean, over the updates."""
    course = findings.course
    if isinstance(course, Problem):
        return None
    figure = new_figure(5.2, 4.2)
    axes = figure.subplots()
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
    return figure


def explain(findings: Findings) -> str:
    course = findings.course
    if isinstance(course, Problem):
        return ""
    edge = ", on the edge of its grid," if course.on_edge else ""
    return sentences(
        f"With batch size {thousands(course.batch_size)} at its tuned rate {course.learning_rate:g}{edge} a training "
        f"loss of {findings.facts.target_loss:g} is reached after {thousands(course.updates_to_target)} updates.",
        f"The gradient noise scale tr(Σ) / |G|² is {with_bounds(course.initial)} examples at initialisation and "
        f"{with_bounds(course.mean)} on average over the updates.",
        left_out_sentence(findings.problems),
    )


study = Study(
    name="noise_scale_course",
    claim="noise_scale",
    place=1,
    title="The noise scale along the training",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
