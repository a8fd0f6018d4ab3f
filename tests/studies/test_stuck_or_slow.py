from dataclasses import replace

import pandas as pd
import pytest

from suite.evidence import Problem
from suite.experiments.cell import Scope
from suite.status import Status
from suite.studies.stuck_or_slow import Findings, analyse, answer, explain, study
from tests.conftest import tiny
from tests.evidence import evidence


def standstill(further: float, left: float) -> pd.DataFrame:
    """Five seeds whose small batch ends at 0.1."""
    row = {
        "measurement": "standstill",
        "batch_size": 16,
        "updates": 9,
        "train_loss": 2.0,
        "initial_norm": 1.0,
        "gradient_norm": left,
        "small_updates": 120,
        "small_loss": 0.1,
        "smallest": -0.4,
        "largest": 0.7,
        "further_updates": 100,
        "further_loss": further,
        "status": "ok",
    }
    return pd.DataFrame([row | {"seed": seed} for seed in range(5)])


def analysed(rows: pd.DataFrame) -> Findings:
    return analyse(evidence(rows))


@pytest.mark.parametrize(
    ("further", "left", "slow", "stuck", "words"),
    [
        (0.09, 0.9, True, False, "slow, not stuck"),
        (2.0, 0.001, False, True, "was stuck"),
        (2.0, 0.9, False, False, "neither stuck nor only slow"),
        (0.09, 0.001, True, False, "slow, not stuck"),
    ],
)
def test_the_large_batch_is_slow_or_stuck_or_neither(further, left, slow, stuck, words):
    findings = analysed(standstill(further, left))
    course = findings.course
    assert (course.slow, course.stuck, course.caught_up) == (slow, stuck, 5 if slow else 0)
    assert course.gradient_left.estimate == pytest.approx(left)
    assert (course.smallest_eigenvalue, course.largest_eigenvalue) == pytest.approx((-0.4, 0.7))
    assert (course.loss, course.further_loss, course.small_loss) == pytest.approx((2.0, further, 0.1))
    assert (course.updates, course.further_updates, course.small_updates) == (9, 100, 120)
    assert words in answer(findings)
    assert "range from −0.400 to 0.700" in explain(findings)


def test_a_large_batch_that_catches_up_in_some_seeds_is_neither():
    rows = standstill(2.0, 0.001)
    rows.loc[:1, "further_loss"] = 0.1
    findings = analysed(rows)
    assert findings.course.caught_up == 2
    assert not findings.course.slow
    assert not findings.course.stuck
    assert "in 2 of 5 seeds" in answer(findings)


def failed() -> pd.DataFrame:
    row = {"measurement": "standstill", "batch_size": 16, "status": "out_of_memory", "reason": "too much"}
    return pd.DataFrame([row])


@pytest.mark.parametrize(
    ("rows", "problems", "reason"),
    [
        (
            standstill(1, 1).assign(status="diverged"),
            (Problem(Status.DIVERGED, replicas=5, all_replicas=5),),
            "5 of 5 seeds: diverged",
        ),
        (standstill(1, 1).head(1), (), "a single seed was trained"),
        (failed(), (Problem(Status.OUT_OF_MEMORY, "out of memory, too much"),), "out of memory, too much"),
    ],
)
def test_it_says_why_it_cannot_tell(rows, problems, reason):
    findings = analysed(rows)
    assert (findings.course, findings.problems) == (None, problems)
    assert answer(findings) == f"Whether the large batch was stuck or slow cannot be told: {reason}."
    assert explain(findings) == ""


def test_it_is_planned_for_the_large_batch_in_a_factorial_scope_alone():
    workload = tiny()
    scope = Scope((1, 16), (1, 16), (1, 16), seeds=9, processes=2, backends=("cpu",), training_backend="cpu")
    assert study.cells(workload, scope) == []
    (cell,) = study.cells(workload, replace(scope, factorial=True))
    assert (cell.batch_size, cell.repeats) == (16, 5)


def test_seeds_that_diverged_are_counted():
    rows = standstill(0.09, 0.9)
    rows.loc[3:, "status"] = "diverged"
    findings = analysed(rows)
    assert (findings.course.seeds, findings.course.caught_up) == (3, 3)
    assert findings.problems == (Problem(Status.DIVERGED, replicas=2, all_replicas=5),)
    assert "reaches the loss of the small one in 3 of 3 seeds" in explain(findings)
    assert explain(findings).endswith("Seeds without a value are left out (2 of 5 seeds: diverged).")


def test_its_answer_opens_the_section():
    assert study.opens_section
    assert study.place == 1
