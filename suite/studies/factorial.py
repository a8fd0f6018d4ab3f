"""Small against Large with every learning-rate rule and every budget, for the studies of both training claims.

The lecture compares Small with Large at one learning rate and equal epochs, which gives a large batch fewer updates.
These studies ask what remains when the rate follows the batch size, is tuned for each, or falls to 0 from a tuned
peak, and when both make as many updates or reach the same training loss. Published evidence disagrees (Hoffer 2017;
Shallue 2019; Smith, Elsen, De 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from suite.claims.claim import Comparison, Row
from suite.evidence import Evidence, Facts, Problem, backend_of
from suite.evidence.annealed import annealing_problem, left_out
from suite.evidence.trainings import comparison_problem
from suite.experiments.annealed_training import ANNEALED_TRAINING, LOWER_RATE
from suite.experiments.cell import Cell, Measurement, Scope
from suite.experiments.training import TRAINING
from suite.experiments.tuned_training import TRIAL, TUNED_TRAINING
from suite.formatting import thousands
from suite.statistics import HOLM_LEVEL, Verdict, holm, mean_interval, mean_p_value, seeds_to_decide, verdict
from suite.training.budgets import EqualEpochs, EqualUpdates, GrowingLengths
from suite.training.learning_rate import (
    FINE_SEARCH,
    FIXED,
    AdamSde,
    ConstantHalfLife,
    LinearWarmUp,
    RateRule,
    SquareRoot,
    Tuned,
)
from suite.training.protocol import Protocol
from suite.workloads import Workload

GOYAL_WARM_UP = 5 / 90
"""The share of the epochs over which Goyal et al. (2017) let the rate rise."""
TUNED, ANNEALED = "tuned", "annealed"
BUDGETS = EPOCHS, UPDATES, TO_TARGET = ("equal epochs", "equal updates", "equal training loss")


@dataclass(frozen=True)
class Outcome:
    """The quantity in which a claim compares the two batch sizes at the end of their budget."""

    of_seeds: Callable[[pd.DataFrame, Facts, str, str], pd.DataFrame]
    """From the evaluations of all trainings by a protocol, the facts, the rate and the budget: a row per seed, a
    column per batch size; logs where the effect is a ratio."""
    quantity: Callable[[Facts, str], str]
    """From the facts and the budget: the quantity, with the training loss at which it is read where that is equal."""
    unit: Callable[[Facts, str], str]
    """From the same: the unit of the quantity."""
    is_ratio: bool
    """Whether the effect is Large / Small; else it is Small − Large."""
    shared_variance: Callable[[tuple[float, float], Facts], float] = lambda values, facts: 0.0
    """From the two values and the facts: the variance of an error that all seeds have in common."""

    @property
    def null(self) -> float:
        """The effect where the batch sizes do not differ."""
        return 1 if self.is_ratio else 0

    def measure(self, facts: Facts, budget: str) -> str:
        return f"{self.quantity(facts, budget)}, {'Large / Small' if self.is_ratio else 'Small − Large'}"


# What the studies read


def for_adam(workload: Facts | Workload) -> bool:
    """Whether the rate rules for Adam apply to the workload's optimizer."""
    return workload.optimizer.form is not None and workload.optimizer.form.adam_rules


def rate_rules(workload: Facts | Workload) -> dict[str, RateRule]:
    """Of rates that are not annealed, by name; two more for Adam and AdamW, whose betas these rules let follow the
    batch size too."""
    middle = workload.middle
    rules = {
        "fixed": FIXED,
        "square-root": SquareRoot(middle),
        "warmed-up linear": LinearWarmUp(middle, workload.epochs * GOYAL_WARM_UP),
    }
    if for_adam(workload):
        rules |= {"Adam-SDE": AdamSde(middle), "half-life": ConstantHalfLife(middle)}
    return rules | {TUNED: FINE_SEARCH}


def protocols(workload: Facts | Workload) -> dict[tuple[str, str], Protocol]:
    """The protocol of each combination of a learning rate and a budget: `rate_rules`, then a tuned peak rate that
    falls linearly to 0."""
    lengths = {
        EPOCHS: EqualEpochs(workload.epochs),
        UPDATES: EqualUpdates(workload.epochs, workload.middle),
    }
    combinations = {}
    for rate, rule in rate_rules(workload).items():
        combinations |= {(rate, name): Protocol.of(workload, length, rule) for name, length in lengths.items()}
        combinations[rate, TO_TARGET] = Protocol.to_target(workload, rule)
    for name, length in lengths.items():
        combinations[ANNEALED, name] = Protocol.of(workload, length, FINE_SEARCH, annealed=True)
    return combinations | {(ANNEALED, TO_TARGET): Protocol.annealed_to_fit(workload)}


def cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Small and Large by every protocol; none outside a factorial scope."""
    if not scope.factorial:
        return []
    return [
        Cell(
            _measurement(protocol),
            workload.name,
            scope.training_backend,
            batch_size,
            scope.seeds,
            protocol,
        )
        for protocol in protocols(workload).values()
        for batch_size in (workload.small, workload.large)
        if batch_size in scope.training_batch_sizes
    ]


def _measurement(protocol: Protocol) -> Measurement:
    """The measurement that trains by `protocol`."""
    if isinstance(protocol.budget, GrowingLengths):
        return ANNEALED_TRAINING
    return TUNED_TRAINING if isinstance(protocol.rate_rule, Tuned) else TRAINING


# What the studies compute


@dataclass(frozen=True)
class EdgeOfGrid:
    """The best learning rate of a batch size lies on the edge of the rates tried: a better one may lie outside."""

    learning_rate: float
    batch_size: int

    def __str__(self) -> str:
        return f"best rate {self.learning_rate:g} on the edge of its grid at batch size {thousands(self.batch_size)}"


@dataclass(frozen=True)
class Combination:
    """Small against Large with one rate rule and one budget."""

    rate: str
    budget: str
    comparison: Comparison | Problem
    """Of the study's outcome, paired by seed."""
    edges: tuple[EdgeOfGrid, ...]
    verdict: Verdict | None = None
    """Of this combination alone; None where the two could not be compared."""
    p_value: float = math.nan
    seeds_to_decide: float = math.nan
    """Seeds that would decide with a probability of 80%, at the effect measured; infinite above MAX_SEEDS of
    `suite.statistics`."""
    p_holm: float = math.nan
    """After Holm's correction over the combinations that could be compared."""
    corrected_verdict: Verdict | None = None
    """After that correction."""
    left_out: tuple[Problem, ...] = ()
    """Seeds whose annealed training diverged."""


class Decider(StrEnum):
    """What the verdict after Holm's correction follows from."""

    NOTHING = "nothing"
    """The verdict is the same in every combination."""
    BUDGET = "budget"
    RATE = "rate"
    BOTH = "budget and rate"


@dataclass(frozen=True)
class Findings:
    facts: Facts
    backend: str
    combinations: tuple[Combination, ...]
    decider: Decider | None
    """None where no combination could be compared."""

    @property
    def compared(self) -> tuple[Combination, ...]:
        return tuple(combination for combination in self.combinations if combination.verdict is not None)


def analyse(evidence: Evidence, outcome: Outcome) -> Findings:
    facts = evidence.facts
    rows = evidence.rows[~evidence.rows["stage"].isin([TRIAL, LOWER_RATE])]
    combinations = corrected(
        [
            _combination(rate, budget, rows[rows["protocol"] == protocol.key], facts, outcome)
            for (rate, budget), protocol in protocols(facts).items()
        ]
    )
    return Findings(facts, backend_of(evidence.rows), combinations, decider(combinations))


def _combination(rate: str, budget: str, rows: pd.DataFrame, facts: Facts, outcome: Outcome) -> Combination:
    edges, to_fit = _edges(rows), (rate, budget) == (ANNEALED, TO_TARGET)
    if problem := annealing_problem(rows, facts, facts.target_loss) if to_fit else comparison_problem(rows, facts):
        return Combination(rate, budget, problem, edges)
    values = outcome.of_seeds(rows, facts, rate, budget)
    differences = values[facts.large] - values[facts.small]
    back = np.exp if outcome.is_ratio else float
    small, large = (float(back(values[size].mean())) for size in (facts.small, facts.large))
    shared = outcome.shared_variance((small, large), facts)
    effect = mean_interval(differences if outcome.is_ratio else -differences, shared).map(back)
    return Combination(
        rate,
        budget,
        Comparison(effect, small, large),
        edges,
        verdict(effect, outcome.null),
        mean_p_value(differences, shared),
        seeds_to_decide(differences, shared),
        left_out=left_out(rows, facts, facts.target_loss) if to_fit else (),
    )


def _edges(rows: pd.DataFrame) -> tuple[EdgeOfGrid, ...]:
    """The batch sizes whose best rate lies on the edge of its grid, from the trainings at that rate."""
    if "on_edge" not in rows:
        return ()
    rates = rows[rows["on_edge"].eq(True)].groupby("batch_size")["learning_rate"].first()
    return tuple(EdgeOfGrid(float(rate), int(batch_size)) for batch_size, rate in rates.items())


def corrected(combinations: list[Combination]) -> tuple[Combination, ...]:
    """`combinations` with p-values and verdicts after Holm's correction over those that could be compared."""
    compared = [combination for combination in combinations if combination.verdict is not None]
    p_values = holm([combination.p_value for combination in compared])
    adjusted = {
        (combination.rate, combination.budget): _with_correction(combination, p_holm)
        for combination, p_holm in zip(compared, p_values, strict=True)
    }
    return tuple(adjusted.get((combination.rate, combination.budget), combination) for combination in combinations)


def _with_correction(combination: Combination, p_holm: float) -> Combination:
    stands = combination.verdict if p_holm < HOLM_LEVEL else Verdict.UNDECIDED
    return replace(combination, p_holm=p_holm, corrected_verdict=stands)


def decider(combinations: Collection[Combination]) -> Decider | None:
    """What the corrected verdicts follow from: the budget alone or the rate alone, if either decides."""
    compared = [combination for combination in combinations if combination.corrected_verdict is not None]
    if not compared:
        return None
    if len({combination.corrected_verdict for combination in compared}) == 1:
        return Decider.NOTHING
    if _decides([combination.budget for combination in compared], compared):
        return Decider.BUDGET
    if _decides([combination.rate for combination in compared], compared):
        return Decider.RATE
    return Decider.BOTH


def _decides(names: list[str], compared: list[Combination]) -> bool:
    """Whether all combinations of the same name have the same corrected verdict."""
    pairs = set(zip(names, (combination.corrected_verdict for combination in compared), strict=True))
    return len(pairs) == len(set(names))


# How the studies are judged


def judge(findings: Findings, outcome: Outcome, judged_by_claim: Collection[Protocol]) -> list[Row]:
    """A row of table.csv for each combination whose protocol the claim itself does not judge."""
    facts, all_protocols = findings.facts, protocols(findings.facts)
    return [
        Row.of(
            combination.comparison,
            backend=findings.backend,
            protocol=protocol,
            small=facts.small,
            large=facts.large,
            measure=outcome.measure(facts, combination.budget),
            unit=outcome.unit(facts, combination.budget),
            headline=False,
            kind="ratio" if outcome.is_ratio else "difference",
            null=outcome.null,
            flags=(*combination.edges, *combination.left_out),
        )
        for combination in findings.combinations
        if (protocol := all_protocols[combination.rate, combination.budget]) not in judged_by_claim
    ]
