"""Where a small batch generalizes better: the test score with every learning-rate rule and every budget."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from suite.claims import generalization
from suite.claims.claim import Row
from suite.evidence import Evidence, Facts
from suite.evidence.annealed import both_at_loss
from suite.evidence.test_set import shared_variance
from suite.evidence.trainings import at_target, final_values
from suite.formatting import sentences, three_digits
from suite.statistics import Verdict
from suite.studies import factorial, factorial_views
from suite.studies.factorial import Findings, Outcome
from suite.studies.study import Study


def outcome_of_seeds(rows: pd.DataFrame, facts: Facts, rate: str, budget: str) -> pd.DataFrame:
    """The final test score, or that where the training loss crosses the target: a row per seed, a column per batch
    size."""
    if budget == factorial.TO_TARGET:
        if rate == factorial.ANNEALED:
            return both_at_loss(rows, facts, facts.target_loss, "test_score")
        return at_target(rows, facts, "test_score")
    return pd.DataFrame({size: final_values(rows, size, "test_score") for size in (facts.small, facts.large)})


def quantity(facts: Facts, budget: str) -> str:
    at_loss = f" at training loss {three_digits(facts.target_loss)}" if budget == factorial.TO_TARGET else ""
    return f"test {facts.score_name}{at_loss}"


OUTCOME = Outcome(
    outcome_of_seeds,
    quantity,
    unit=lambda facts, budget: facts.score_name,
    is_ratio=False,
    shared_variance=shared_variance,
)


def analyse(evidence: Evidence) -> Findings:
    return factorial.analyse(evidence, OUTCOME)


def judge(findings: Findings) -> list[Row]:
    """A row for each combination but those that the claim judges at the same loss: the fixed rate to the target
    loss, and the annealed rate where examples count as fitted at that loss."""
    facts = findings.facts
    judged_by_claim = [generalization.target_protocol(facts)]
    if facts.fitted_loss == facts.target_loss:
        judged_by_claim.append(generalization.annealed_protocol(facts))
    return factorial.judge(findings, OUTCOME, judged_by_claim)


SAYS = {
    Verdict.HOLDS: "the small batch tests better",
    Verdict.FAILS: "the large batch tests better",
    Verdict.UNDECIDED: "neither tests better for certain",
}


def answer(findings: Findings) -> str:
    place = f"at an equal training loss of {three_digits(findings.facts.target_loss)}"
    return factorial_views.answer(findings, place, SAYS)


def explain(findings: Findings) -> str:
    facts = findings.facts
    return sentences(
        factorial_views.explain(findings),
        "After equal epochs or updates the batch sizes end at different training losses, so that a difference in "
        f"test {facts.score_name} there is not one of generalization alone.",
        f"The row itself is judged at the training loss {three_digits(facts.fitted_loss)}, with the annealed rate.",
    )


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
    answer=answer,
    explain=explain,
    figure=figure,
)
