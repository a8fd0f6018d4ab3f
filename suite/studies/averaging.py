"""The parameters after the last update, or their average? Both at the end of the same trainings for equal epochs.

At a constant learning rate the noise of the last updates stays in the parameters, most of all with small batches; the
average over the updates has less of it (Polyak, Juditsky 1992, "Acceleration of stochastic approximation by
averaging"). Where a training makes few updates, the average lags behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.evidence import Evidence, Facts, Problem
from suite.evidence.trainings import (
    by_protocol,
    final_log_loss,
    final_values,
    left_out_sentence,
    outcomes,
    problems_in_words,
    seeds_without_log_loss,
)
from suite.experiments.cell import Cell, Scope
from suite.experiments.training import TRAINING
from suite.figures import LARGE_COLOUR, SMALL_COLOUR, batch_size_axis, draw_intervals, loss_axis, new_figure
from suite.formatting import (
    bounds,
    decimals,
    listed,
    percent,
    sentences,
    signed,
    thousands,
    three_digits,
    with_bounds,
)
from suite.statistics import Interval, Verdict, mean_interval, verdict
from suite.status import Status
from suite.studies.scores_by_batch_size import epochs_protocol
from suite.studies.study import Study
from suite.training.average import POWER
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from suite.workloads import Workload

LAST, AVERAGED = "last update", "averaged"
LABELS = {LAST: "after the last update", AVERAGED: "averaged parameters"}
STYLES = {
    LAST: {"color": SMALL_COLOUR, "fmt": "o--", "markersize": 4},
    AVERAGED: {"color": LARGE_COLOUR, "fmt": "s-", "markersize": 4},
}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Both at a coarse choice of batch sizes; those after the last update are cells of the claim as well."""
    return [
        Cell(TRAINING, workload.name, scope.training_backend, batch_size, scope.seeds, protocol)
        for protocol in protocols(workload).values()
        for batch_size in scope.training_batch_sizes
        if batch_size in scope.coarse_batch_sizes
    ]


def protocols(workload: Facts | Workload) -> dict[str, Protocol]:
    """Equal epochs at the workload's rate, evaluated after the last update and averaged."""
    return {
        LAST: epochs_protocol(workload),
        AVERAGED: Protocol.of(workload, EqualEpochs(workload.epochs), averaged=True),
    }


@dataclass(frozen=True)
class Ends:
    """The end of the trainings with one batch size, over the seeds that have a value of both parameters."""

    updates: int
    test_scores: dict[str, Interval]
    """By LAST and AVERAGED, mean over seeds."""
    train_losses: dict[str, Interval]
    """By LAST and AVERAGED, geometric mean over seeds."""
    score_difference: Interval
    """Test score, AVERAGED − LAST, paired by seed."""
    tests_better: Verdict
    """Whether AVERAGED has the higher test score."""
    lags: Verdict
    """Whether AVERAGED has the higher training loss, paired by seed."""


@dataclass(frozen=True)
class Findings:
    facts: Facts
    ends: dict[int, Ends]
    """By batch size, ascending; without those where no seed has a value of both."""
    problems: tuple[Problem, ...]


def analyse(evidence: Evidence) -> Findings:
    by_batch_size = {
        int(batch_size): by_protocol(evidence, batch_size, protocols(evidence.facts))
        for batch_size in sorted(evidence.rows["batch_size"].unique())
    }
    problems = [
        problem
        for batch_size, trainings in by_batch_size.items()
        for name, rows in trainings.items()
        for problem in seeds_without_log_loss(rows, f"at batch size {thousands(batch_size)}, {LABELS[name]}")
    ]
    ends = {batch_size: _ends(trainings, batch_size) for batch_size, trainings in by_batch_size.items()}
    return Findings(evidence.facts, {size: of_size for size, of_size in ends.items() if of_size}, tuple(problems))


def _ends(trainings: Mapping[str, pd.DataFrame], batch_size: int) -> Ends | None:
    """None where no seed has a value of both."""
    seeds = set.intersection(*map(_seeds_with_value, trainings.values()))
    if not seeds:
        return None
    paired = {name: rows[rows["seed"].isin(seeds)] for name, rows in trainings.items()}
    scores = {name: final_values(rows, batch_size, "test_score") for name, rows in paired.items()}
    logs = {name: final_log_loss(rows, batch_size) for name, rows in paired.items()}
    difference = mean_interval(scores[AVERAGED] - scores[LAST])
    return Ends(
        updates=int(paired[LAST]["updates"].max()),
        test_scores={name: mean_interval(values) for name, values in scores.items()},
        train_losses={name: mean_interval(values).map(np.exp) for name, values in logs.items()},
        score_difference=difference,
        tests_better=verdict(difference, 0),
        lags=verdict(mean_interval(logs[AVERAGED] - logs[LAST]), 0),
    )


def _seeds_with_value(rows: pd.DataFrame) -> set[int]:
    statuses = outcomes(rows)
    return set(statuses.index[statuses == Status.OK].astype(int))


def answer(findings: Findings) -> str:
    if not findings.ends:
        return (
            "Averaged parameters cannot be compared with those after the last update: "
            f"{problems_in_words(findings.problems)}."
        )
    facts, ends = findings.facts, findings.ends
    smallest, *others = dict.fromkeys((min(ends), max(ends)))
    effects = [
        _effect_in_words(ends[smallest], f"the test {facts.score_name}", smallest),
        *(_effect_in_words(ends[size], "it", size) for size in others),
    ]
    return f"After {facts.epochs} epochs, averaging the parameters {listed(effects)}."


def _effect_in_words(ends: Ends, score: str, batch_size: int) -> str:
    last, averaged = (decimals(4)(ends.test_scores[name].estimate) for name in (LAST, AVERAGED))
    where = f"at batch size {thousands(batch_size)}"
    if ends.tests_better is Verdict.UNDECIDED:
        return f"has no significant effect on {score} {where} ({averaged} instead of {last})"
    effect = "lifts" if ends.tests_better is Verdict.HOLDS else "lowers"
    return f"{effect} {score} {where} from {last} to {averaged}"


def explain(findings: Findings) -> str:
    if not findings.ends:
        return ""
    facts = findings.facts
    return sentences(
        _difference_sentence(findings),
        _noise_sentence(findings),
        _lag_sentence(findings),
        "The trainings with and without averaging start from the same parameters and see the same batches. The "
        f"learning rate is {facts.learning_rate:g} at every batch size.",
        "Each seed has its own train/test split." if facts.resplit else "",
        f"In the average, the parameters after update t have a weight in proportion to t to the power {POWER}: the "
        f"last half of the updates has {percent(1 - 0.5 ** (POWER + 1))} of the weight.",
        left_out_sentence(findings.problems),
    )


def _difference_sentence(findings: Findings) -> str:
    ends = findings.ends
    differences = [
        f"{with_bounds(ends[size].score_difference, signed(4))} at batch size {thousands(size)}"
        for size in dict.fromkeys((min(ends), max(ends)))
    ]
    return (
        f"The difference in test {findings.facts.score_name}, averaged − last update, paired by seed, is "
        f"{listed(differences)}."
    )


def _noise_sentence(findings: Findings) -> str:
    """Where averaging lowers the training loss."""
    losses = _losses_in_words(findings, Verdict.FAILS)
    if not losses:
        return ""
    return (
        "At a constant learning rate the noise of the last updates keeps the parameters from settling, and the "
        f"average has less of it: averaging lowers the training loss {losses}."
    )


def _lag_sentence(findings: Findings) -> str:
    """Where averaging raises the training loss."""
    losses = _losses_in_words(findings, Verdict.HOLDS)
    if not losses:
        return ""
    return (
        "Where the loss still falls from update to update, the average lags behind, since it includes earlier "
        f"parameters: averaging raises the training loss {losses}."
    )


def _losses_in_words(findings: Findings, lags: Verdict) -> str:
    """The batch sizes with this verdict, and both training losses where their ratio is largest; empty without any."""
    changed = {size: ends for size, ends in findings.ends.items() if ends.lags is lags}
    if not changed:
        return ""
    most = max(changed, key=lambda size: _factor_of_loss(changed[size]))
    last, averaged = (three_digits(changed[most].train_losses[reading].estimate) for reading in (LAST, AVERAGED))
    change = f"from {last} to {averaged} ({thousands(changed[most].updates)} updates)"
    if len(changed) == 1:
        return f"{change} at batch size {thousands(most)}"
    return f"at batch sizes {listed(map(thousands, changed))}, by the largest factor at {thousands(most)}, {change}"


def _factor_of_loss(ends: Ends) -> float:
    """The factor, above 1, by which averaging raises or lowers the training loss."""
    factor = ends.train_losses[AVERAGED].estimate / ends.train_losses[LAST].estimate
    return max(factor, 1 / factor)


def figure(findings: Findings) -> Figure | None:
    """The test score and the training loss over the batch size, each after the last update and averaged."""
    if not findings.ends:
        return None
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    _draw(left, {size: ends.test_scores for size, ends in findings.ends.items()})
    left.set_ylabel(f"test {findings.facts.score_name}")
    _draw(right, {size: ends.train_losses for size, ends in findings.ends.items()})
    loss_axis(right)
    for axes in (left, right):
        batch_size_axis(axes, findings.facts)
    left.legend(loc="best")
    figure.suptitle(f"after {findings.facts.epochs} epochs, learning rate {findings.facts.learning_rate:g}")
    return figure


def _draw(axes: Axes, values: Mapping[int, Mapping[str, Interval]]) -> None:
    """Draw a line for each kind of parameters over the batch size."""
    for name, label in LABELS.items():
        intervals = [of_size[name] for of_size in values.values()]
        draw_intervals(axes, list(values), intervals, label=label, **STYLES[name])


def numbers(findings: Findings) -> pd.DataFrame:
    score = f"test {findings.facts.score_name}"
    return pd.DataFrame(
        {
            "batch size": thousands(batch_size),
            "updates": thousands(ends.updates),
            f"{score}, last update": with_bounds(ends.test_scores[LAST], decimals(4)),
            f"{score}, averaged": with_bounds(ends.test_scores[AVERAGED], decimals(4)),
            "averaged − last update": signed(4)(ends.score_difference.estimate),
            "95% interval": bounds(ends.score_difference, signed(4)),
            "training loss, last update": three_digits(ends.train_losses[LAST].estimate),
            "training loss, averaged": three_digits(ends.train_losses[AVERAGED].estimate),
            "seeds": str(ends.score_difference.n),
        }
        for batch_size, ends in findings.ends.items()
    )


study = Study(
    name="averaging",
    claim="generalization",
    place=3,
    title="The last update or averaged parameters?",
    cells=cells,
    analyse=analyse,
    answer=answer,
    explain=explain,
    figure=figure,
    numbers=numbers,
)
