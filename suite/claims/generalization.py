"""Generalization: better for Small, worse for Large.

Keskar et al. (2017) train a small and a large batch to the same training accuracy, and the large one tests
worse. Here both train to the same training loss, and the test score is read off at the crossing. The
lecture's own figure, test and training score after equal epochs, stands beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from suite.cells import Cell, Scope
from suite.claims import factorial
from suite.claims.claim import Claim, Evidence, Facts, Illustration, Row, backend_of, paragraphs
from suite.claims.drawing import GREY, batch_size_axis, bounds, new_figure, published, thousands
from suite.claims.trained import at_target, at_the_end, paired, troubles
from suite.statistics import mean_interval, probability_above_zero
from suite.training.engine import TRAINING
from suite.training.protocol import EqualEpochs, Protocol, TargetLoss
from suite.workloads import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "test {score} at equal training loss, Small − Large"


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Every batch size trained for equal epochs, and a coarse choice of them to the target loss; Small and Large by
    every protocol."""
    to_target = [size for size in scope.training_batch_sizes if size in scope.coarse_batch_sizes]
    protocols = {
        target_protocol(workload): to_target,
        Protocol.of(workload, EqualEpochs(workload.epochs)): scope.training_batch_sizes,
    }
    at_one_rate = [
        Cell(TRAINING, workload.name, scope.training_backend, batch_size, scope.seeds, protocol)
        for protocol, batch_sizes in protocols.items()
        for batch_size in batch_sizes
    ]
    return [*at_one_rate, *factorial.cells(workload, scope)]


def to_target(evidence: Evidence) -> pd.DataFrame:
    """The trainings to the target loss, at the workload's rate."""
    return _by(evidence, target_protocol(evidence.facts))


def target_protocol(of: Facts | Workload) -> Protocol:
    return Protocol.of(of, TargetLoss(of.target_loss, of.max_updates))


def for_equal_epochs(evidence: Evidence) -> pd.DataFrame:
    """The trainings for equal epochs, at the workload's rate."""
    return _by(evidence, Protocol.of(evidence.facts, EqualEpochs(evidence.facts.epochs)))


def _by(evidence: Evidence, protocol: Protocol) -> pd.DataFrame:
    return evidence.rows[evidence.rows["protocol"] == protocol.key]


def outcome(rows: pd.DataFrame, facts: Facts, budget: str) -> pd.DataFrame:
    """Test score at the end, or where the training loss crosses the target: a column per batch size."""
    if budget == factorial.TO_TARGET:
        return at_target(rows, facts, "test_score")
    return pd.DataFrame({size: paired(rows, size, "test_score") for size in (facts.small, facts.large)})


OUTCOME = factorial.Outcome(of_seeds=outcome, what={"": "test score"}, ratio=False)


def judge(evidence: Evidence) -> list[Row]:
    """Holds when the test score of Small minus that of Large, both read where the training loss crosses the
    same target, lies above 0 with its whole interval.

    Student's t on the differences, paired by initial parameters and split.
    """
    facts = evidence.facts
    rows = to_target(evidence)
    shared = {
        "backend": backend_of(evidence.rows),
        "protocol": str(target_protocol(facts)),
        "small": facts.small,
        "large": facts.large,
        "measure": MEASURE.format(score=facts.score_name),
        "unit": facts.score_name,
        "kind": "difference",
        "null": 0,
    }
    status, reason = troubles(rows, facts)
    if status != "ok":
        row = Row(**shared, status=status, flags=reason)
        return [row, *factorial.rows(evidence, OUTCOME, {target_protocol(facts).key})]
    scores = at_target(rows, facts, "test_score")
    row = Row.judged(
        mean_interval(scores[facts.small] - scores[facts.large]),
        **shared,
        value_small=float(scores[facts.small].mean()),
        value_large=float(scores[facts.large].mean()),
    )
    return [row, *factorial.rows(evidence, OUTCOME, {target_protocol(facts).key})]


def draw(evidence: Evidence) -> Figure:
    """The paired gap at equal training loss, and the lecture's figure: both scores after equal epochs."""
    facts = evidence.facts
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    scores = at_target(to_target(evidence), facts, "test_score")
    if facts.large in scores:
        gaps = scores.sub(scores[facts.large], axis="index").drop(columns=facts.large)
        _draw_scores(left, gaps, "mean over seeds, 95% interval", "C3")
    left.axhline(0, color="black", linewidth=1)
    left.set_title(f"at training loss {facts.target_loss:g}", pad=18)
    left.set_ylabel(f"test {facts.score_name} minus that of Large")
    equal_epochs = for_equal_epochs(evidence)
    end = at_the_end(equal_epochs[equal_epochs["status"] == "ok"])
    for column, name, colour in (("train_score", "training", "C0"), ("test_score", "test", "C3")):
        scores = end.pivot(index="seed", columns="batch_size", values=column)
        _draw_scores(right, scores, f"{name} {facts.score_name}", colour)
    published(right, replace(facts, published_by=f"{facts.published_by}, training"), "train_score")
    published(right, replace(facts, published_by=f"{facts.published_by}, test"), "test_score", marker="^")
    right.set_title(f"after {facts.epochs} epochs, learning rate {facts.learning_rate:g}", pad=18)
    right.set_ylabel(facts.score_name)
    for axes in (left, right):
        batch_size_axis(axes, facts)
        axes.legend(loc="best")
    return figure


def _draw_scores(axes, scores: pd.DataFrame, label: str, colour: str) -> None:
    """Mean over seeds with its interval, and every seed as a dot."""
    intervals = [mean_interval(scores[size].dropna()) for size in scores]
    means = [interval.estimate for interval in intervals]
    bars = [[i.estimate - i.low for i in intervals], [i.high - i.estimate for i in intervals]]
    for _, seed in scores.iterrows():
        axes.plot(seed.index, seed, ".", color=GREY, alpha=0.25, markersize=4, zorder=1)
    axes.errorbar(scores.columns, means, yerr=bars, fmt="o-", color=colour, capsize=3, markersize=4, label=label)


def explain(evidence: Evidence, rows: list[Row]) -> str:
    facts, row = evidence.facts, rows[0]
    if row.status != "ok":
        return paragraphs(
            f"Trained to a training loss of {facts.target_loss:g}, the comparison cannot be made: {row.flags}.",
            _after_equal_epochs(evidence),
        )
    scores = at_target(to_target(evidence), facts, "test_score")
    difference = scores[facts.small] - scores[facts.large]
    wins, difference_interval = probability_above_zero(difference), mean_interval(difference)
    told = {
        "holds": "so the small batch generalizes better here",
        "fails": "so the large batch generalizes better here",
        "undecided": "which cannot be told from zero",
    }[row.verdict]
    split = "Each seed has a train/test split of its own. " if facts.resplit else ""
    return paragraphs(
        f"Trained to the same training loss of {facts.target_loss:g}, the test {facts.score_name} is "
        f"{row.value_small:.4f} with batch size {thousands(row.small)} and {row.value_large:.4f} with "
        f"{thousands(row.large)}. The gap, Small minus Large, is {row.effect:+.4f} "
        f"({bounds(difference_interval, '{:+.4f}'.format)}), {told}. The small batch tested better in "
        f"{wins.estimate:.0%} of {row.seeds} seeds, a tie counting half (interval of the probability "
        f"{wins.low:.0%} to {wins.high:.0%}). {split}",
        f"{_after_equal_epochs(evidence)} {factorial.sentence(evidence, OUTCOME)}",
    )


def _after_equal_epochs(evidence: Evidence) -> str:
    facts = evidence.facts
    equal_epochs = for_equal_epochs(evidence)
    status, reason = troubles(equal_epochs, facts)
    if status != "ok":
        return f"After equal epochs (right panel) the two cannot be compared: {reason}."
    train_small, train_large, test_small, test_large = (
        paired(equal_epochs, size, f"{split}_score").mean()
        for split in ("train", "test")
        for size in (facts.small, facts.large)
    )
    behind = train_large < train_small and test_large < test_small
    return (
        f"After equal epochs (right panel) the large batch scores {train_large:.3f} in training and "
        f"{test_large:.3f} in testing, against {train_small:.3f} and {test_small:.3f}"
        + (": behind in both, so it is under-trained, not overfitted." if behind else ".")
    )


def numbers(evidence: Evidence) -> pd.DataFrame:
    facts = evidence.facts
    rows = to_target(evidence)
    table = []
    scores, updates = at_target(rows, facts, "test_score"), at_target(rows, facts, "updates")
    for batch_size in scores:
        score = mean_interval(scores[batch_size].dropna())
        table.append(
            {
                "batch size": thousands(batch_size),
                "updates to the target": thousands(updates[batch_size].mean()),
                f"test {facts.score_name} there": f"{score.estimate:.4f}",
                "95% interval": bounds(score, "{:.4f}".format),
                "seeds that reached it": f"{score.n}",
            }
        )
    return pd.DataFrame(table)


claim = Claim(
    name="generalization",
    row=6,
    title="Generalization",
    small="Better",
    large="Worse",
    says="Trained to the same training loss, a small batch tests better than a large one.",
    cells=cells,
    judge=judge,
    draw=draw,
    explain=explain,
    numbers=numbers,
    illustrations=(
        Illustration(lambda evidence: factorial.draw(evidence, OUTCOME), factorial.TITLE, factorial.says),
    ),
)
