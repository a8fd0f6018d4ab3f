"""Generalization: better for Small, worse for Large.

Keskar et al. (2017) train a small and a large batch to the same training accuracy, and the large one tests worse.
Here both train to the same training loss, and the test score is interpolated where the loss crosses that target. Loss
and score are those of averaged parameters: at a constant rate those of the last iterate jump from update to update
where batches are small, so that the first crossing of a target is a lucky moment. The last iterate is the second
reading. The lecture's own figure, test and training score after equal epochs, stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
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
from suite.formatting import bounds, decimals, percent, sentences, signed, thousands, with_bounds
from suite.statistics import Interval, Verdict, mean_interval, probability_above_zero, verdict
from suite.status import Status
from suite.training.budgets import EqualEpochs, TargetLoss
from suite.training.protocol import Protocol
from suite.workloads import Workload

# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every batch size trained for equal epochs, and a coarse choice of them to the target loss."""
    to_target = [size for size in scope.training_batch_sizes if size in scope.coarse_batch_sizes]
    protocols = {
        target_protocol(workload): to_target,
        last_iterate_protocol(workload): [size for size in to_target if size in (workload.small, workload.large)],
        epochs_protocol(workload): scope.training_batch_sizes,
    }
    return [
        Cell(TRAINING, workload.name, scope.training_backend, batch_size, scope.seeds, protocol)
        for protocol, batch_sizes in protocols.items()
        for batch_size in batch_sizes
    ]


def target_protocol(workload: Facts | Workload) -> Protocol:
    """To the target loss of averaged parameters, at the workload's rate."""
    return Protocol.to_target(workload)


def last_iterate_protocol(workload: Facts | Workload) -> Protocol:
    """To the target loss of the parameters after the last update, at the workload's rate."""
    return Protocol.of(workload, TargetLoss(workload.target_loss, workload.max_updates))


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
    """One batch size where its training loss crosses the target."""

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
    backend: str
    comparison: Comparison | Problem
    """Test score of Small minus that of Large at the target loss, mean over seeds."""
    last_iterate: Comparison | Problem
    """The same, of the parameters after the last update."""
    verdict: Verdict | None
    """None where the two could not be compared."""
    small_tests_better: Interval | None
    """Probability over seeds; None where the two could not be compared."""
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
    to_target, to_target_last, for_epochs = (
        evidence.rows[evidence.rows["protocol"] == protocol.key]
        for protocol in (target_protocol(facts), last_iterate_protocol(facts), epochs_protocol(facts))
    )
    comparison, verdict_, probability = _compared(to_target, facts), None, None
    if isinstance(comparison, Comparison):
        scores = at_target(to_target, facts, "test_score")
        verdict_ = verdict(comparison.effect, 0)
        probability = probability_above_zero(scores[facts.small] - scores[facts.large])
    sizes, gaps = _at_target(to_target, facts)
    return Findings(
        facts=facts,
        backend=backend_of(evidence.rows),
        comparison=comparison,
        last_iterate=_compared(to_target_last, facts),
        verdict=verdict_,
        small_tests_better=probability,
        at_target=sizes,
        gaps=gaps,
        after_epochs=_after_epochs(for_epochs),
        epochs_problem=comparison_problem(for_epochs, facts),
    )


def _compared(rows: pd.DataFrame, facts: Facts) -> Comparison | Problem:
    """The test scores of Small and Large where the training loss in `rows` crosses the target, paired by seed."""
    if problem := comparison_problem(rows, facts):
        return problem
    scores = at_target(rows, facts, "test_score")
    small, large = scores[facts.small], scores[facts.large]
    return Comparison(mean_interval(small - large), float(small.mean()), float(large.mean()))


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


# How it is judged


@dataclass(frozen=True)
class OfLastIterate:
    """The effect where loss and score are those of the parameters after the last update."""

    effect: Interval

    def __str__(self) -> str:
        return f"of the last iterate {with_bounds(self.effect, signed(4))}"


def judge(findings: Findings) -> list[Row]:
    """A row for each reading: averaged parameters, and the last iterate."""
    facts, last = findings.facts, findings.last_iterate
    flags = (OfLastIterate(last.effect),) if isinstance(last, Comparison) else ()
    readings = (
        (findings.comparison, target_protocol(facts), flags),
        (last, last_iterate_protocol(facts), ()),
    )
    return [
        Row.of(
            comparison,
            backend=findings.backend,
            protocol=protocol,
            small=facts.small,
            large=facts.large,
            measure=f"test {facts.score_name} at equal training loss, Small − Large",
            unit=facts.score_name,
            kind="difference",
            null=0,
            flags=flags,
            headline=comparison is findings.comparison,
        )
        for comparison, protocol, flags in readings
    ]


# How it is shown


def answer(findings: Findings) -> str:
    comparison, score_name = findings.comparison, findings.facts.score_name
    if isinstance(comparison, Problem):
        return f"Trained to the same loss, the batch sizes cannot be compared: {comparison}."
    small, large = decimals(4)(comparison.small), decimals(4)(comparison.large)
    if findings.verdict is Verdict.UNDECIDED:
        return (
            "Trained to the same loss, neither batch size tests better for certain: the test "
            f"{score_name} is {small} with the small batch and {large} with the large one."
        )
    better, scores = "small", f"{small} against {large}"
    if findings.verdict is Verdict.FAILS:
        better, scores = ("large", f"{large} against {small}")
    return f"Trained to the same loss, the {better} batch tests better{_points(findings)}: {score_name} {scores}."


def _points(findings: Findings) -> str:
    """How much better; empty where the score is no share."""
    if findings.facts.score_name != "accuracy":
        return ""
    return f" by {decimals(1)(100 * abs(findings.comparison.effect.estimate))} points"


def figure(findings: Findings) -> Figure:
    """The paired gap at equal training loss, and the lecture's figure: both scores after equal epochs."""
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
    split = "Each seed has its own train/test split." if findings.facts.resplit else ""
    return sentences(_gap_sentence(findings), split, _last_iterate_sentence(findings), _epochs_sentence(findings))


def _gap_sentence(findings: Findings) -> str:
    if isinstance(findings.comparison, Problem):
        return ""
    facts, effect, probability = findings.facts, findings.comparison.effect, findings.small_tests_better
    return (
        f"At a training loss of {facts.target_loss:g} the difference in test {facts.score_name}, batch size "
        f"{thousands(facts.small)} minus {thousands(facts.large)}, is {with_bounds(effect, signed(4))}. The small "
        f"batch tests better in {percent(probability.estimate)} of {effect.n} seeds (ties count half; 95% interval "
        f"of this probability: {bounds(probability, percent)})."
    )


def _last_iterate_sentence(findings: Findings) -> str:
    """What the other reading of the same trainings says."""
    if isinstance(findings.last_iterate, Problem):
        return ""
    return (
        "These are averaged parameters. Where those after the last update first reach the same loss, the difference "
        f"is {with_bounds(findings.last_iterate.effect, signed(4))}. Averaging removes the noise of the last updates."
    )


def _epochs_sentence(findings: Findings) -> str:
    if findings.epochs_problem is not None:
        return f"After equal epochs (right panel) the two cannot be compared: {findings.epochs_problem}."
    small, large = (findings.after_epochs[size] for size in (findings.facts.small, findings.facts.large))
    behind = (
        large.train.mean.estimate < small.train.mean.estimate and large.test.mean.estimate < small.test.mean.estimate
    )
    return (
        f"After equal epochs (right panel) the large batch scores {_train_and_test(large)}, the small one "
        f"{_train_and_test(small)}"
        + (": the large batch is behind in both, so it is under-trained, not overfitted." if behind else ".")
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


claim = Claim(
    name="generalization",
    row=6,
    title="Generalization",
    small="Better",
    large="Worse",
    says="Trained to the same training loss, a small batch tests better than a large one.",
    rule=(
        "Holds when the 95% interval of the difference (test score at Small) − (test score at Large), both where the "
        "training loss of averaged parameters crosses the same target, lies above 0; the difference is the mean over "
        "seeds, paired by initial parameters and split."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
