"""Where a small batch optimizes better: the final training loss, or the epochs to a target loss, with every
learning-rate rule and every budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.claims import optimization
from suite.claims.claim import Row
from suite.evidence import Evidence, Facts
from suite.evidence.annealed import both_at_loss
from suite.evidence.trainings import at_target, final_log_loss
from suite.formatting import sentences, three_digits
from suite.statistics import Verdict
from suite.studies import factorial, factorial_views
from suite.studies.factorial import Findings, Outcome
from suite.studies.study import Study


def outcome_of_seeds(rows: pd.DataFrame, facts: Facts, rate: str, budget: str) -> pd.DataFrame:
    """Log of the final training loss, or of the epochs to the target: a row per seed, a column per batch size."""
    if budget == factorial.TO_TARGET:
        if rate == factorial.ANNEALED:
            logs = rows.assign(log_epoch=np.log(rows["epoch"]))
            return both_at_loss(logs, facts, facts.target_loss, "log_epoch")
        return np.log(at_target(rows, facts, "epoch"))
    return pd.DataFrame({size: final_log_loss(rows, size) for size in (facts.small, facts.large)})


def quantity(facts: Facts, budget: str) -> str:
    if budget == factorial.TO_TARGET:
        return f"epochs to training loss {three_digits(facts.target_loss)}"
    return "training loss"


def unit(facts: Facts, budget: str) -> str:
    return "epochs" if budget == factorial.TO_TARGET else "training loss"


OUTCOME = Outcome(outcome_of_seeds, quantity, unit, is_ratio=True)


def analyse(evidence: Evidence) -> Findings:
    return factorial.analyse(evidence, OUTCOME)


def judge(findings: Findings) -> list[Row]:
    """A row for each combination but the fixed rate at equal epochs, which the claim judges at all rates."""
    facts = findings.facts
    return factorial.judge(findings, OUTCOME, [optimization.protocol(facts, rate) for rate in facts.learning_rates])


SAYS = {
    Verdict.HOLDS: "the small batch does better",
    Verdict.FAILS: "the large batch does better",
    Verdict.UNDECIDED: "neither does better for certain",
}


def answer(findings: Findings) -> str:
    place = f"in the number of epochs to a training loss of {three_digits(findings.facts.target_loss)}"
    return factorial_views.answer(findings, place, SAYS)


def explain(findings: Findings) -> str:
    return sentences(
        "The row is about equal epochs. Equal updates ask whether an update of a large batch is worth "
        "more, and equal training loss asks which batch size needs fewer epochs.",
        factorial_views.explain(findings),
    )


def figure(findings: Findings) -> Figure:
    return factorial_views.figure(findings, OUTCOME)


study = Study(
    name="optimization_factorial",
    claim="optimization",
    place=2,
    title=factorial_views.TITLE,
    cells=factorial.cells,
    analyse=analyse,
    judge=judge,
    answer=answer,
    explain=explain,
    figure=figure,
)
