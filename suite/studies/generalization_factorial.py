"""Where a small batch generalizes better: the test score with every learning-rate rule and every budget."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from suite.claims import generalization
from suite.claims.claim import Row
from suite.evidence import Evidence, Facts
from suite.evidence.trainings import at_target, final_values
from suite.studies import factorial, factorial_views
from suite.studies.factorial import Findings, Outcome
from suite.studies.study import Study


def outcome_of_seeds(rows: pd.DataFrame, facts: Facts, budget: str) -> pd.DataFrame:
    """The final test score, or that where the training loss crosses the target: a row per seed, a column per batch
    size."""
    if budget == factorial.TO_TARGET:
        return at_target(rows, facts, "test_score")
    return pd.DataFrame({size: final_values(rows, size, "test_score") for size in (facts.small, facts.large)})


OUTCOME = Outcome(of_seeds=outcome_of_seeds, names={"": "test score"}, is_ratio=False)


def analyse(evidence: Evidence) -> Findings:
    return factorial.analyse(evidence, OUTCOME)


def judge(findings: Findings) -> list[Row]:
    """A row for each combination but the fixed rate to the target loss, which the claim judges."""
    return factorial.judge(findings, OUTCOME, [generalization.target_protocol(findings.facts)])


def figure(findings: Findings) -> Figure:
    return factorial_views.figure(findings, OUTCOME)


study = Study(
    name="generalization_factorial",
    claim="generalization",
    place=1,
    title=factorial_views.TITLE,
    cells=factorial.cells,
    analyse=analyse,
    judge=judge,
    answer=factorial_views.answer,
    explain=factorial_views.explain,
    figure=figure,
)
