"""Generalization: better for Small, worse for Large.

Keskar et al. (2017) train a small and a large batch until the training loss stops improving, and the large one tests
worse. Here each trains for growing lengths, at a learning rate that falls from a tuned peak to 0, and the test scores
are compared where the final training losses are equal, from early in training until the examples are fitted.

At a constant rate the result depends on which parameters are read: a small batch leaves noise in those of the last
update, and averaged parameters have less of it. Both are shown as further readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.claims.claim import Claim, Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.annealed import (
    AtLoss,
    annealing_problem,
    both_at_loss,
    course,
    left_out,
    losses,
    pair,
)
from suite.evidence.test_set import ACCURACY, has_shared_error, shared_variance
from suite.evidence.trainings import at_target, comparison_problem
from suite.experiments.annealed_training import ANNEALED_TRAINING, LOWER_RATE
from suite.experiments.cell import Cell, Scope
from suite.experiments.training import TRAINING
from suite.experiments.tuned_training import FINAL
from suite.figures import GREY, LARGE_COLOUR, SMALL_COLOUR, draw_intervals, new_figure, training_loss_axis
from suite.formatting import (
    bounds,
    decimals,
    listed,
    sentences,
    signed,
    thousands,
    three_digits,
    with_bounds,
)
from suite.statistics import Interval, Verdict, mean_interval, verdict
from suite.training.budgets import TargetLoss
from suite.training.protocol import Protocol
from suite.workloads import Workload

# What it reads


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Small and Large: annealed, and to the target loss at a constant rate by averaged and by last parameters."""
    plan = (
        (ANNEALED_TRAINING, annealed_protocol(workload)),
        (TRAINING, target_protocol(workload)),
        (TRAINING, last_iterate_protocol(workload)),
    )
    return [
        Cell(measurement, workload.name, scope.training_backend, batch_size, scope.seeds, protocol)
        for measurement, protocol in plan
        for batch_size in (workload.small, workload.large)
        if batch_size in scope.training_batch_sizes
    ]


def annealed_protocol(workload: Facts | Workload) -> Protocol:
    """Annealed from a tuned peak rate, for growing lengths, until the training examples are fitted."""
    return Protocol.annealed_to_fit(workload)


def target_protocol(workload: Facts | Workload) -> Protocol:
    """To the target loss of averaged parameters, at the workload's rate."""
    return Protocol.to_target(workload)


def last_iterate_protocol(workload: Facts | Workload) -> Protocol:
    """To the target loss of the parameters after the last update, at the workload's rate."""
    return Protocol.of(workload, TargetLoss(workload.target_loss, workload.max_updates))


# What it computes


@dataclass(frozen=True)
class Reading:
    """Test score of Small minus that of Large at an equal training loss, by one protocol."""

    loss: float
    comparison: Comparison | Problem
    verdict: Verdict | None
    """None where the two could not be compared."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    annealed: Reading
    """The headline, at the fitted loss: the mean of the two that follow, and the bounds that hold both intervals."""
    tuned_rate: Reading
    """Annealed from the tuned peak rates."""
    lower_rate: Reading
    """Annealed from lower peak rates."""
    averaged: Reading
    """At a constant rate and the target loss, of averaged parameters."""
    last_iterate: Reading
    """The same, of the parameters after the last update."""
    left_out: tuple[Problem, ...]
    """Seeds that the headline leaves out."""
    course: tuple[AtLoss, ...]
    """From the target loss to the fitted loss; empty where they could not be compared."""
    lower_course: tuple[AtLoss, ...]
    """The same from lower peak rates."""
    peaks: tuple[float, float] | None
    """The tuned peak rates of Small and Large."""
    train_scores: tuple[float, float] | None
    """Mean training scores of Small and Large at the fitted loss."""
    course_verdicts: dict[float, Verdict]
    """By training loss, after Holm's correction; undecided where the two peak rates disagree."""


def analyse(evidence: Evidence) -> Findings:
    facts, rows = evidence.facts, evidence.rows
    annealed = rows[rows["protocol"] == annealed_protocol(facts).key]
    tuned, lower = (
        annealed[(annealed["stage"] == stage) | annealed["stage"].isna()] for stage in (FINAL, LOWER_RATE)
    )
    averaged, last = (
        rows[rows["protocol"] == protocol.key] for protocol in (target_protocol(facts), last_iterate_protocol(facts))
    )
    readings = [_annealed_reading(of_rate, facts) for of_rate in (tuned, lower)]
    courses = [course(of_rate, facts) for of_rate in (tuned, lower)]
    compared = isinstance(readings[0].comparison, Comparison)
    return Findings(
        facts=facts,
        backend=backend_of(rows),
        annealed=_both(*readings),
        tuned_rate=readings[0],
        lower_rate=readings[1],
        averaged=_constant_reading(averaged, facts),
        last_iterate=_constant_reading(last, facts),
        left_out=tuple(
            dict.fromkeys(left_out(tuned, facts, facts.fitted_loss) + left_out(lower, facts, facts.fitted_loss))
        )
        if compared
        else (),
        course=courses[0],
        lower_course=courses[1],
        peaks=pair(tuned.groupby("batch_size")["learning_rate"].first(), facts) if compared else None,
        train_scores=pair(both_at_loss(tuned, facts, facts.fitted_loss, "train_score").mean(), facts)
        if compared
        else None,
        course_verdicts=_agreed(*courses),
    )


def _both(tuned: Reading, lower: Reading) -> Reading:
    """The reading that holds only where both do: mean effects, between the outer bounds."""
    for reading in (tuned, lower):
        if isinstance(reading.comparison, Problem):
            return reading
    first, second = tuned.comparison, lower.comparison
    effect = Interval(
        (first.effect.estimate + second.effect.estimate) / 2,
        min(first.effect.low, second.effect.low),
        max(first.effect.high, second.effect.high),
        min(first.effect.n, second.effect.n),
    )
    scores = ((first.small + second.small) / 2, (first.large + second.large) / 2)
    return Reading(tuned.loss, Comparison(effect, *scores), verdict(effect, 0))


def _agreed(tuned: Sequence[AtLoss], lower: Sequence[AtLoss]) -> dict[float, Verdict]:
    by_lower_rate = {at_loss.loss: at_loss.verdict for at_loss in lower}
    return {
        at_loss.loss: at_loss.verdict if at_loss.verdict is by_lower_rate[at_loss.loss] else Verdict.UNDECIDED
        for at_loss in tuned
        if at_loss.loss in by_lower_rate
    }


def _annealed_reading(rows: pd.DataFrame, facts: Facts) -> Reading:
    problem = annealing_problem(rows, facts, facts.fitted_loss)
    scores = None if problem else both_at_loss(rows, facts, facts.fitted_loss, "test_score")
    return _reading(facts.fitted_loss, problem, scores, facts)


def _constant_reading(rows: pd.DataFrame, facts: Facts) -> Reading:
    problem = comparison_problem(rows, facts)
    return _reading(facts.target_loss, problem, None if problem else at_target(rows, facts, "test_score"), facts)


def _reading(loss: float, problem: Problem | None, scores: pd.DataFrame | None, facts: Facts) -> Reading:
    """From the test `scores` of Small and Large, a row per seed, or the `problem` that stands against them."""
    if problem:
        return Reading(loss, problem, None)
    means = pair(scores.mean(), facts)
    effect = mean_interval(scores[facts.small] - scores[facts.large], shared_variance(means, facts))
    return Reading(loss, Comparison(effect, *means), verdict(effect, 0))


# How it is judged


def judge(findings: Findings) -> list[Row]:
    """The headline, then a row for each reading: from either peak rate, by averaged parameters, and by the last
    iterate."""
    facts = findings.facts
    annealed, measure = annealed_protocol(facts), f"test {facts.score_name} at training loss {{}}, Small − Large"
    readings = (
        (
            findings.annealed,
            annealed,
            f"{measure} (the mean of the differences with tuned and with lower peak rates; the range covers both "
            "intervals)",
        ),
        (findings.tuned_rate, f"{annealed}, tuned peak rates only", measure),
        (findings.lower_rate, f"{annealed}, peak rates 1/√2 as high", measure),
        (findings.averaged, target_protocol(facts), measure),
        (findings.last_iterate, last_iterate_protocol(facts), measure),
    )
    return [
        Row.of(
            reading.comparison,
            backend=findings.backend,
            protocol=protocol,
            small=facts.small,
            large=facts.large,
            measure=quantity.format(three_digits(reading.loss)),
            unit=facts.score_name,
            kind="difference",
            null=0,
            flags=() if place else findings.left_out,
            headline=place == 0,
            effect_text="" if place else _effect_text(findings),
        )
        for place, (reading, protocol, quantity) in enumerate(readings)
    ]


def _effect_text(findings: Findings) -> str:
    """Both effects that the headline combines; empty where one is missing."""
    if isinstance(findings.annealed.comparison, Problem):
        return ""
    tuned, lower = _of_both_rates(findings)
    mean = signed(4)(findings.annealed.comparison.effect.estimate)
    return f"{mean} on average: {tuned} from tuned rates, {lower} from lower ones"


# How it is shown


def answer(findings: Findings) -> str:
    comparison, facts = findings.annealed.comparison, findings.facts
    until = f"Annealed to a training loss of {three_digits(facts.fitted_loss)}"
    if isinstance(comparison, Problem):
        return f"{until}, the batch sizes cannot be compared: {comparison}."
    if findings.tuned_rate.verdict is not findings.lower_rate.verdict:
        tuned, lower = _of_both_rates(findings)
        return (
            f"{until}, the verdict depends on the learning rates: the difference in test {facts.score_name}, Small "
            f"− Large, is {tuned} from tuned peak rates and {lower} from rates 1/√2 as high."
        )
    if findings.annealed.verdict is Verdict.UNDECIDED:
        small, large = decimals(4)(comparison.small), decimals(4)(comparison.large)
        return (
            f"{until}, neither batch size tests better for certain: the test {facts.score_name} is {small} with the "
            f"small batch and {large} with the large one."
        )
    better = "small" if findings.annealed.verdict is Verdict.HOLDS else "large"
    tuned, lower = (_amount(reading, facts) for reading in (findings.tuned_rate, findings.lower_rate))
    return (
        f"{until}, the {better} batch tests better: by {tuned} when the learning rates start from their tuned peaks, "
        f"and by {lower} when they start from lower peaks."
    )


def _of_both_rates(findings: Findings) -> tuple[str, str]:
    """The effects from the tuned and from the lower peak rates."""
    tuned, lower = (
        with_bounds(reading.comparison.effect, signed(4)) for reading in (findings.tuned_rate, findings.lower_rate)
    )
    return tuned, lower


def _amount(reading: Reading, facts: Facts) -> str:
    """By how much one batch size tests better."""
    difference = abs(reading.comparison.effect.estimate)
    if facts.score_name == ACCURACY:
        return f"{decimals(1)(100 * difference)} points"
    return f"{three_digits(difference)} in {facts.score_name}"


def figure(findings: Findings) -> Figure | None:
    """The differences of test score and test loss over the training loss, by every reading."""
    if not findings.course:
        return None
    facts = findings.facts
    figure = new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    for at_losses, place, style in (
        (findings.course, 1.0, {"fmt": "o-", "color": SMALL_COLOUR, "label": "annealed from tuned peak rates"}),
        (
            findings.lower_course,
            0.96,
            {"fmt": "o--", "color": GREY, "mfc": "white", "label": "annealed from peak rates 1/√2 as high"},
        ),
    ):
        places = [place * at_loss.loss for at_loss in at_losses]
        draw_intervals(left, places, [at_loss.gap for at_loss in at_losses], **style)
        draw_intervals(right, places, [at_loss.loss_gap for at_loss in at_losses], **style)
    _draw_constant_readings(left, findings)
    left.set_ylabel(f"test {facts.score_name}, Small − Large")
    right.set_ylabel("test loss, Small − Large")
    for axes in (left, right):
        axes.axhline(0, color="black", linewidth=1)
        training_loss_axis(axes, losses(facts))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_constant_readings(axes: Axes, findings: Findings) -> None:
    """The readings at a constant rate, to the left of the target loss."""
    styles = (
        (findings.averaged, 1.09, "s", "constant rate, averaged parameters"),
        (findings.last_iterate, 1.15, "^", "constant rate, parameters after the last update"),
    )
    for reading, place, marker, label in styles:
        if isinstance(reading.comparison, Comparison):
            places, effects = [place * reading.loss], [reading.comparison.effect]
            draw_intervals(axes, places, effects, fmt=marker, color=LARGE_COLOUR, label=label)


def explain(findings: Findings) -> str:
    if isinstance(findings.annealed.comparison, Problem):
        return _constant_sentence(findings)
    return sentences(
        _protocol_sentence(findings),
        _gap_sentence(findings),
        _course_sentence(findings),
        _constant_sentence(findings),
        _splits_sentence(findings.facts),
    )


SPLITS_OVERLAP = (
    "Each seed has its own train/test split of the same examples, so the intervals allow for other seeds and splits "
    "of these examples, not for new examples."
)


def _splits_sentence(facts: Facts) -> str:
    """What the intervals say about other test examples."""
    if facts.resplit:
        return SPLITS_OVERLAP
    if has_shared_error(facts):
        return (
            f"All seeds share the {thousands(facts.test_examples)} test examples; other test examples would give "
            "another difference. The intervals of the difference in test accuracy allow for that: to the variance "
            "between seeds they add an upper bound on the variance due to the choice of test examples. All other "
            "intervals of this row and its studies cover only the variation between seeds."
        )
    return f"All seeds share the {thousands(facts.test_examples)} test examples, and the intervals are about these."


def _protocol_sentence(findings: Findings) -> str:
    facts, (small, large) = findings.facts, findings.peaks
    return (
        "Each training starts from scratch, and its learning rate falls linearly to 0, from a peak that is tuned for "
        f"the batch size ({three_digits(small)} at {thousands(facts.small)}, {three_digits(large)} at "
        f"{thousands(facts.large)}). The training is as long as it takes to end at a given loss."
    )


def _gap_sentence(findings: Findings) -> str:
    facts = findings.facts
    small, large = map(decimals(4), findings.train_scores)
    tuned, lower = _of_both_rates(findings)
    agree = findings.tuned_rate.verdict is findings.lower_rate.verdict
    return sentences(
        f"At a training loss of {three_digits(facts.fitted_loss)} the training {facts.score_name} is {small} at "
        f"batch size {thousands(facts.small)} and {large} at {thousands(facts.large)}.",
        f"The difference in test {facts.score_name}, Small − Large, is {tuned} from these peak rates. With "
        f"both peak rates divided by √2 it is {lower}.",
        f"The mean of the two differences is {signed(4)(findings.annealed.comparison.effect.estimate)}.",
        "" if agree else "The two differ in their verdict, so the row is undecided.",
    )


def _course_sentence(findings: Findings) -> str:
    """Which batch size tests better at which of the losses."""
    if len(findings.course_verdicts) < 2:
        return ""
    places: dict[Verdict, list[str]] = {}
    for loss, outcome in findings.course_verdicts.items():
        places.setdefault(outcome, []).append(three_digits(loss))
    texts = {
        Verdict.HOLDS: "the small batch tests better at {}",
        Verdict.FAILS: "the large batch tests better at {}",
        Verdict.UNDECIDED: "the difference is not significant at {}",
    }
    verdicts = "; ".join(texts[outcome].format(listed(places[outcome])) for outcome in texts if outcome in places)
    return (
        "A batch size counts as better only if the tuned and the lower peak rates agree. The row is judged at a "
        f"training loss of {three_digits(findings.facts.fitted_loss)} alone, without a correction. If all "
        f"{len(findings.course_verdicts)} losses in the figure are tested, with Holm's correction, {verdicts}."
    )


def _constant_sentence(findings: Findings) -> str:
    """What constant rates say, at a higher training loss."""
    facts = findings.facts
    readings = {
        "averaged parameters must reach this loss and are then tested": findings.averaged.comparison,
        "the parameters after the last update must reach it and are tested": findings.last_iterate.comparison,
    }
    differences = [
        f"If {condition}, the difference in test {facts.score_name} is {with_bounds(comparison.effect, signed(4))}."
        for condition, comparison in readings.items()
        if isinstance(comparison, Comparison)
    ]
    if not differences:
        return ""
    return sentences(
        f"Other trainings keep a constant rate of {facts.learning_rate:g} and stop at a training loss of "
        f"{facts.target_loss:g}.",
        *differences,
        "A constant rate leaves noise in the parameters, more so with small batches; averaging and annealing reduce "
        "it.",
    )


def numbers(findings: Findings) -> pd.DataFrame:
    score = findings.facts.score_name
    return pd.DataFrame(
        {
            "training loss": three_digits(at_loss.loss),
            "updates, Small": thousands(at_loss.updates[0]),
            "updates, Large": thousands(at_loss.updates[1]),
            f"test {score}, Small": decimals(4)(at_loss.scores[0]),
            f"test {score}, Large": decimals(4)(at_loss.scores[1]),
            "Small − Large": signed(4)(at_loss.gap.estimate),
            "95% interval": bounds(at_loss.gap, signed(4)),
            "p (Holm)": three_digits(at_loss.p_holm),
            "test loss, Small − Large": with_bounds(at_loss.loss_gap, signed(4)),
        }
        for at_loss in findings.course
    )


claim = Claim(
    name="generalization",
    row=6,
    title="Generalization",
    small="Better",
    large="Worse",
    says="Trained until the training examples are fitted, a small batch tests better than a large one.",
    rule=(
        "Holds when the difference (test score at Small) − (test score at Large), both annealed to the same low "
        "mean training loss, has a 95% interval above 0 with the tuned peak rates, and also with peak rates 1/√2 as "
        "high; it is the mean over seeds, paired by initial parameters and split."
    ),
    cells=cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    figure=figure,
    explain=explain,
    numbers=numbers,
)
