"""The lecture's own figure of Generalization, scores after equal epochs at one rate, and the test scores of all batch
sizes at an equal training loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.generalization import target_protocol
from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import at_target, comparison_problem, final_values, last_evaluations
from suite.experiments.cell import Cell, Scope
from suite.experiments.training import TRAINING
from suite.figures import (
    GREY,
    LARGE_COLOUR,
    SMALL_COLOUR,
    batch_size_axis,
    draw_intervals,
    draw_published,
    new_figure,
)
from suite.formatting import bounds, decimals, sentences, thousands
from suite.statistics import Interval, mean_interval
from suite.status import Status
from suite.studies.study import Study
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from suite.workloads import Workload

# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every batch size trained for equal epochs, and a coarse choice of them to the target loss."""
    to_target = [size for size in scope.training_batch_sizes if size in scope.coarse_batch_sizes]
    protocols = {
        target_protocol(workload): to_target,
        epochs_protocol(workload): scope.training_batch_sizes,
    }
    return [
        Cell(TRAINING, workload.name, scope.training_backend, batch_size, scope.seeds, protocol)
        for protocol, batch_sizes in protocols.items()
        for batch_size in batch_sizes
    ]


def epochs_protocol(workload: Facts | Workload) -> Protocol:
    """Equal epochs, at the workload's rate."""
    return Protocol.of(workload, EqualEpochs(workload.epochs))


# What it computes


@dataclass(frozen=True)
class Scores:
    """Scores of one batch size, or their differences from those of another."""

    seeds: tuple[float, ...]
    mean: Interval


@dataclass(frozen=True)
class AtTarget:
    """One batch size where the training loss of its averaged parameters crosses the target."""

    updates: float
    """Mean over seeds."""
    test: Scores


@dataclass(frozen=True)
class AfterEpochs:
    """One batch size after equal epochs."""

    train: Scores
    test: Scores


@dataclass(frozen=True)
class Findings:
    facts: Facts
    at_target: dict[int, AtTarget]
    """By batch size."""
    gaps: dict[int, Scores]
    """Test score there minus that of Large, by batch size but Large; empty where Large does not reach the target."""
    after_epochs: dict[int, AfterEpochs]
    """By batch size, over the seeds that did not diverge."""
    epochs_problem: Problem | None
    """Why the two cannot be compared after equal epochs; None where they can."""


def analyse(evidence: Evidence) -> Findings:
    facts = evidence.facts
    to_target, for_epochs = (
        evidence.rows[evidence.rows["protocol"] == protocol.key]
        for protocol in (target_protocol(facts), epochs_protocol(facts))
    )
    sizes, gaps = _at_target(to_target, facts)
    return Findings(facts, sizes, gaps, _after_epochs(for_epochs), comparison_problem(for_epochs, facts))


def _at_target(rows: pd.DataFrame, facts: Facts) -> tuple[dict[int, AtTarget], dict[int, Scores]]:
    """`at_target` and `gaps` of the findings."""
    rows = rows[rows["status"] == Status.OK]
    if rows.empty:
        return {}, {}
    scores, updates = at_target(rows, facts, "test_score"), at_target(rows, facts, "updates")
    sizes = {int(size): AtTarget(float(updates[size].mean()), _scores(scores[size])) for size in scores}
    if facts.large not in scores:
        return sizes, {}
    return sizes, {size: _scores(scores[size] - scores[facts.large]) for size in sizes if size != facts.large}


def _after_epochs(rows: pd.DataFrame) -> dict[int, AfterEpochs]:
    rows = rows[rows["status"] == Status.OK]
    return {
        int(size): AfterEpochs(*(_scores(final_values(rows, size, f"{split}_score")) for split in ("train", "test")))
        for size in sorted(last_evaluations(rows)["batch_size"].unique())
    }


def _scores(seeds: pd.Series) -> Scores:
    seeds = seeds.dropna()
    return Scores(tuple(map(float, seeds)), mean_interval(seeds))


# How it is shown


def answer(findings: Findings) -> str:
    score_name = findings.facts.score_name
    if findings.epochs_problem is not None:
        return f"After equal epochs the batch sizes cannot be compared: {findings.epochs_problem}."
    small, large = (findings.after_epochs[size] for size in (findings.facts.small, findings.facts.large))
    behind = _mean(large.train) < _mean(small.train) and _mean(large.test) < _mean(small.test)
    return (
        f"After {findings.facts.epochs} epochs at one learning rate the large batch has {score_name} "
        f"{_train_and_test(large)}, the small one {_train_and_test(small)}"
        + (": the large batch is behind in both, so it is under-trained, not overfitted." if behind else ".")
    )


def _mean(scores: Scores) -> float:
    return scores.mean.estimate


def figure(findings: Findings) -> Figure:
    """The lecture's figure, both scores after equal epochs; and the paired gap at equal training loss."""
    facts, after_epochs = findings.facts, findings.after_epochs
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    _draw_scores(left, findings.gaps, "mean over seeds, 95% interval", LARGE_COLOUR)
    left.axhline(0, color="black", linewidth=1)
    left.set_title(f"at training loss {facts.target_loss:g}", pad=18)
    left.set_ylabel(f"test {facts.score_name} minus that of Large")
    train = {size: scores.train for size, scores in after_epochs.items()}
    test = {size: scores.test for size, scores in after_epochs.items()}
    _draw_scores(right, train, f"training {facts.score_name}", SMALL_COLOUR)
    _draw_scores(right, test, f"test {facts.score_name}", LARGE_COLOUR)
    draw_published(right, facts, "train_score", label=", training")
    draw_published(right, facts, "test_score", marker="^", label=", test")
    right.set_title(f"after {facts.epochs} epochs, learning rate {facts.learning_rate:g}", pad=18)
    right.set_ylabel(facts.score_name)
    for axes in (left, right):
        batch_size_axis(axes, facts)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
    return figure


def _draw_scores(axes: Axes, scores: Mapping[int, Scores], label: str, colour: str) -> None:
    """Draw the mean over seeds with its interval at each batch size, and every seed as a dot."""
    if not scores:
        return
    for batch_size, of_size in scores.items():
        places = [batch_size] * len(of_size.seeds)
        axes.plot(places, of_size.seeds, ".", color=GREY, alpha=0.25, markersize=4, zorder=1)
    means = [of_size.mean for of_size in scores.values()]
    draw_intervals(axes, list(scores), means, fmt="o-", color=colour, markersize=4, label=label)


def explain(findings: Findings) -> str:
    if not findings.gaps:
        return ""
    facts = findings.facts
    return sentences(
        f"The left panel compares batch sizes at a training loss of {facts.target_loss:g} and the same constant "
        f"rate of {facts.learning_rate:g}; loss and score are those of averaged parameters.",
        "The right panel compares them after equal epochs, which give a larger batch fewer updates.",
    )


def _train_and_test(scores: AfterEpochs) -> str:
    train, test = (decimals(3)(of_split.mean.estimate) for of_split in (scores.train, scores.test))
    return f"{train} in training and {test} in testing"


def numbers(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "batch size": thousands(batch_size),
            "updates to the target": thousands(at.updates),
            f"test {findings.facts.score_name} there": decimals(4)(at.test.mean.estimate),
            "95% interval": bounds(at.test.mean, decimals(4)),
            "seeds that reached it": f"{at.test.mean.n}",
        }
        for batch_size, at in findings.at_target.items()
    )


study = Study(
    name="scores_by_batch_size",
    claim="generalization",
    place=2,
    title="Scores at every batch size",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
    numbers=numbers,
)
