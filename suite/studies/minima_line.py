"""The lecture's picture of a flat and a sharp minimum: the loss along the line from Small's solution to Large's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import left_out_sentence, problems_in_words, seeds_without_value
from suite.experiments.cell import Cell, Scope
from suite.experiments.minima_line import LINE
from suite.figures import GREY, new_figure
from suite.formatting import ratio, sentences, thousands, three_digits, with_bounds
from suite.instruments.minima_line import STATISTICS_EXAMPLES
from suite.statistics import Interval, Verdict, mean_interval, verdict
from suite.status import Status
from suite.studies.study import Study
from suite.training.protocol import Protocol
from suite.workloads import Workload

MAX_SEEDS = 3
EXTENSION = 0.5
"""Distance from an end at which the loss outside it is compared, in lengths of the line."""
MIN_LOSS = 1e-4
"""A lower loss is drawn, and averaged, as this."""
SPLITS = {"train": "training", "test": "test"}
COLOURS = {"train": "C0", "test": "C3"}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """From Small to Large, trained as for their sharpness; none where one of them is not trained."""
    if not {workload.small, workload.large} <= set(scope.training_batch_sizes):
        return []
    protocol, seeds = Protocol.annealed_to_fit(workload), min(MAX_SEEDS, scope.seeds)
    return [
        Cell(
            LINE, workload.name, scope.training_backend, workload.large, seeds, protocol, compared_with=workload.small
        )
    ]


@dataclass(frozen=True)
class Profile:
    """A quantity at each place on the line."""

    seeds: tuple[tuple[float, ...], ...]
    """A tuple per seed."""
    mean: tuple[float, ...]
    """Over seeds, of losses the geometric one."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    places: tuple[float, ...]
    """On the line: 0 is Small's solution, 1 Large's. Empty where no line has a value."""
    losses: dict[str, Profile]
    """By split; losses below MIN_LOSS are raised to it."""
    scores: dict[str, Profile]
    small_rise: Interval | None
    """Training loss outside Small's end over that at the end, geometric mean over seeds."""
    large_rise: Interval | None
    steeper: Verdict
    """Whether the loss rises more beyond Large than beyond Small: holds, fails or undecided."""
    problems: tuple[Problem, ...]


def analyse(evidence: Evidence) -> Findings:
    planned = evidence.of(LINE.name)
    rows, problems = planned[planned["status"] == Status.OK], seeds_without_value(planned)
    if (rows.reindex(columns=[f"{split}_loss" for split in SPLITS]) < 0).any(axis=None):
        rows, problems = rows.head(0), (*problems, Problem(Status.LOSS_NOT_POSITIVE))
    if rows.empty:
        return Findings(evidence.facts, (), {}, {}, None, None, Verdict.UNDECIDED, problems)
    logs = {split: np.log(_lines(rows, f"{split}_loss").clip(lower=MIN_LOSS)) for split in SPLITS}
    scores = {split: _lines(rows, f"{split}_score") for split in SPLITS}
    small, large = _rises(logs["train"], 0, -EXTENSION), _rises(logs["train"], 1, 1 + EXTENSION)
    return Findings(
        evidence.facts,
        places=tuple(logs["train"].index),
        losses={split: _profile(np.exp(lines), np.exp(lines.mean(axis=1))) for split, lines in logs.items()},
        scores={split: _profile(lines, lines.mean(axis=1)) for split, lines in scores.items()},
        small_rise=mean_interval(small).map(np.exp),
        large_rise=mean_interval(large).map(np.exp),
        steeper=verdict(mean_interval(large - small), 0),
        problems=problems,
    )


def _lines(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """`column` at each place (index) for each seed (columns)."""
    return rows.pivot(index="place", columns="seed", values=column)


def _profile(lines: pd.DataFrame, mean: pd.Series) -> Profile:
    return Profile(tuple(tuple(lines[seed]) for seed in lines), tuple(mean))


def _rises(log_losses: pd.DataFrame, end: float, outside: float) -> pd.Series:
    """By how much the log of the loss rises from `end` to `outside`, by seed."""
    return log_losses.loc[outside] - log_losses.loc[end]


def answer(findings: Findings) -> str:
    if findings.small_rise is None:
        return f"The line from Small's solution to Large's was not measured: {problems_in_words(findings.problems)}."
    return (
        "Let d be the distance between the two solutions. At d / 2 beyond the small batch's solution the training "
        f"loss is {three_digits(findings.small_rise.estimate)} times as high as at that solution; at d / 2 beyond "
        f"the large batch's it is {three_digits(findings.large_rise.estimate)} times as high."
        + (" The difference is not significant." if findings.steeper is Verdict.UNDECIDED else "")
    )


def explain(findings: Findings) -> str:
    if findings.small_rise is None:
        return ""
    return sentences(
        "The line runs through the solution of the small batch (at 0) and that of the large one (at 1), as in Keskar "
        "et al. (2017). Around a flat minimum the loss rises slowly, around a sharp one steeply.",
        f"Over {findings.small_rise.n} seeds the rise is {with_bounds(findings.small_rise, ratio)} beyond Small and "
        f"{with_bounds(findings.large_rise, ratio)} beyond Large.",
        "Both were trained from the same initial parameters, at annealed rates, until the mean training loss over "
        f"seeds was at most {three_digits(findings.facts.fitted_loss)}; single seeds can lie above.",
        "Thin lines are seeds; thick lines are means over seeds (geometric means for the loss).",
        "In a model with batch norm, its statistics are recomputed at each position from at most "
        f"{thousands(STATISTICS_EXAMPLES)} training examples.",
        left_out_sentence(findings.problems),
    )


def figure(findings: Findings) -> Figure | None:
    """Loss and score along the line."""
    if not findings.places:
        return None
    figure = new_figure(9.6, 3.8)
    loss_axes, score_axes = figure.subplots(1, 2)
    for axes, profiles in ((loss_axes, findings.losses), (score_axes, findings.scores)):
        for split, profile in profiles.items():
            _draw_profile(axes, findings.places, profile, split)
        _name_ends(axes, findings.facts)
    loss_axes.set_yscale("log")
    loss_axes.set_ylabel("loss")
    loss_axes.legend(loc="best")
    score_axes.set_ylabel(findings.facts.score_name)
    return figure


def _draw_profile(axes: Axes, places: tuple[float, ...], profile: Profile, split: str) -> None:
    for values in profile.seeds:
        axes.plot(places, values, color=COLOURS[split], alpha=0.3, linewidth=1)
    style = "-" if split == "train" else "--"
    axes.plot(places, profile.mean, style, color=COLOURS[split], linewidth=2.5, label=SPLITS[split])


def _name_ends(axes: Axes, facts: Facts) -> None:
    for place in (0, 1):
        axes.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=0)
    axes.set_xticks(
        [-1, 0, 1, 2], ["−1", f"0\nSmall, {thousands(facts.small)}", f"1\nLarge, {thousands(facts.large)}", "2"]
    )
    axes.set_xlabel("position on the line")
    axes.set_xlim(-1, 2)


study = Study(
    name="minima_line",
    claim="sharpness",
    place=1,
    title="Along a line through two solutions",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
)
