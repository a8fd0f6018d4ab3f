"""Optimization, from trainings with known losses."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.claims import optimization
from suite.claims.claim import Row
from suite.evidence import Problem
from suite.statistics import Verdict
from suite.status import Status
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from tests.evidence import FACTS, evidence

SMALL_LOSSES, LARGE_LOSSES = [0.1, 0.2, 0.15], [0.9, 1.0, 1.1]


def after_equal_epochs(losses: dict[int, list[float]], learning_rate=0.1, statuses=None) -> pd.DataFrame:
    """Two evaluations of each seed: at the start, and at the end with its training loss."""
    statuses = statuses or {}
    lines = [
        {
            "batch_size": size,
            "seed": seed,
            "updates": evaluation * 10,
            "epoch": evaluation * 3,
            "train_loss": loss if evaluation else 2.0,
            "train_score": 0.9,
            "test_score": 0.8,
            "status": statuses.get((size, seed), "ok"),
        }
        for size, of_size in losses.items()
        for seed, loss in enumerate(of_size)
        for evaluation in (0, 1)
    ]
    protocol = Protocol(learning_rate, EqualEpochs(3))
    return pd.DataFrame(lines).assign(measurement="training", protocol=protocol.key, learning_rate=learning_rate)


BOTH = {1: SMALL_LOSSES, 16: LARGE_LOSSES}
SWAPPED = {1: LARGE_LOSSES, 16: SMALL_LOSSES}


def optimized(*frames: pd.DataFrame) -> optimization.Findings:
    return optimization.analyse(evidence(*frames))


def optimization_rows(*frames: pd.DataFrame) -> list[Row]:
    return optimization.judge(optimized(*frames))


def test_optimization_compares_log_losses_in_pairs():
    rows = optimization_rows(after_equal_epochs(BOTH))
    differences = np.log(LARGE_LOSSES) - np.log(SMALL_LOSSES)
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    expected = np.exp([differences.mean(), low, high])
    np.testing.assert_allclose([rows[0].effect.estimate, rows[0].effect.low, rows[0].effect.high], expected)
    assert rows[0].verdict is Verdict.HOLDS
    assert math.isclose(rows[0].value_small, (0.1 * 0.2 * 0.15) ** (1 / 3))


def test_optimization_fails_where_the_large_batch_ends_lower():
    assert optimization_rows(after_equal_epochs(SWAPPED))[0].verdict is Verdict.FAILS


def test_a_single_diverged_seed_leaves_no_verdict():
    (row,) = optimization_rows(after_equal_epochs(BOTH, statuses={(1, 2): "diverged"}))
    assert (row.status, row.verdict) == (Status.DIVERGED, None)
    assert row.flags == (Problem(Status.DIVERGED, replicas=1, all_replicas=3, where="at batch size 1"),)


def test_every_rate_is_a_row_and_that_of_the_workload_says_where_the_claim_holds():
    """In the order of the workload's rates."""
    rows = optimization_rows(after_equal_epochs(BOTH), after_equal_epochs(SWAPPED, learning_rate=0.03))
    assert [(row.headline, row.verdict) for row in rows] == [(False, "fails"), (True, "holds")]
    assert [row.protocol for row in rows] == [Protocol(rate, EqualEpochs(3)) for rate in (0.03, 0.1)]
    assert rows[0].flags == ()
    assert rows[1].flags == (optimization.RatesThatHold(0.1, (0.1,), 2),)
    assert str(rows[1].flags[0]) == "at learning rate 0.1; holds at 1 of 2 rates tried: 0.1"


def test_only_a_verdict_that_stands_holms_correction_counts_as_holding():
    """One rate has p = 0.03 alone: it holds by itself, and not as one of two."""
    small, large = [1.0] * 4, np.exp([0.3, 0.8, 1.7, 1.2])
    p_value = stats.ttest_1samp(np.log(large), 0).pvalue
    assert 0.025 < p_value < 0.05
    alone = optimized(after_equal_epochs({1: small, 16: large}))
    pair = optimized(
        after_equal_epochs({1: small, 16: large}),
        after_equal_epochs({1: small, 16: [1.5, 0.5, 1.5, 0.5]}, learning_rate=0.03),
    )
    assert [at_rate.holds for at_rate in alone.rates] == [True]
    assert [at_rate.holds for at_rate in pair.rates] == [False, False]
    np.testing.assert_allclose(pair.headline.p_holm, 2 * p_value)


def test_a_claim_holds_at_a_rate_however_little_the_losses_differ():
    (row,) = optimization_rows(after_equal_epochs({1: [1.0, 1.0, 1.0], 16: [1.2, 1.21, 1.22]}))
    assert row.flags == (optimization.RatesThatHold(0.1, (0.1,), 1),)


def test_a_large_batch_that_ends_lower_at_every_rate_holds_at_none():
    (row,) = optimization_rows(after_equal_epochs(SWAPPED))
    assert row.flags == (optimization.RatesThatHold(0.1, (), 1),)
    assert str(row.flags[0]) == "at learning rate 0.1; holds at 0 of 1 rates tried"


def test_a_rate_that_diverged_takes_no_part_in_holms_correction():
    diverged = {(16, seed): "diverged" for seed in range(3)}
    findings = optimized(after_equal_epochs(BOTH), after_equal_epochs(BOTH, learning_rate=0.03, statuses=diverged))
    low, high = findings.rates
    assert (low.learning_rate, high.learning_rate) == (0.03, 0.1)
    assert low.comparison == Problem(Status.DIVERGED, replicas=3, all_replicas=3, where="at batch size 16")
    assert math.isnan(low.p_holm)
    assert not low.holds
    assert high.p_holm == high.p_value
    assert (
        "Learning rate 0.03 is not judged since trainings failed (3 of 3 seeds at batch size 16: diverged)."
        in optimization.explain(findings)
    )


def test_rates_that_diverged_are_not_counted_as_rates_where_the_claim_does_not_hold():
    """Of three rates the claim holds at one and fails at one, and one diverged."""
    diverged = {(1, 0): "diverged"}
    rows = evidence(
        after_equal_epochs(BOTH),
        after_equal_epochs(SWAPPED, learning_rate=0.03),
        after_equal_epochs(BOTH, learning_rate=0.3, statuses=diverged),
    )
    findings = optimization.analyse(replace(rows, facts=replace(FACTS, learning_rates=(0.03, 0.1, 0.3))))
    assert [at_rate.corrected_verdict for at_rate in findings.rates] == [Verdict.FAILS, Verdict.HOLDS, None]
    (flag,) = next(row.flags for row in optimization.judge(findings) if row.headline)
    assert str(flag) == "at learning rate 0.1; holds at 1 of 3 rates tried: 0.1; 1 could not be compared"
    assert (
        "With Holm's correction the claim holds at 1 of 3 learning rates tried: 0.1; it fails at 0.03. "
        "Learning rate 0.3 is not judged since trainings failed (1 of 3 seeds at batch size 1: diverged)."
    ) in optimization.explain(findings)


def test_every_rate_may_have_diverged():
    diverged = {(size, seed): "diverged" for size in (1, 16) for seed in range(3)}
    findings = optimized(after_equal_epochs(BOTH, statuses=diverged))
    (row,) = optimization.judge(findings)
    problem = Problem(Status.DIVERGED, replicas=3, all_replicas=3, where="at batch size 1")
    assert (row.status, row.flags) == (Status.DIVERGED, (problem,))
    assert not any(at_rate.holds for at_rate in findings.rates)
    assert str(problem) in optimization.answer(findings)
    assert optimization.figure(findings) is not None
    assert optimization.numbers(findings)["diverged"].tolist() == ["3 of 3", "3 of 3"]


def test_seeds_are_paired_by_their_number_not_by_their_place():
    rows = after_equal_epochs(BOTH)
    assert optimization_rows(rows) == optimization_rows(rows[::-1])


@pytest.mark.parametrize("loss", [0.0, -0.5])
def test_losses_that_are_not_positive_have_no_ratio(loss):
    """As those of a likelihood. The curve of their mean is drawn as long as it is positive."""
    findings = optimized(after_equal_epochs({1: [loss, 0.1, 0.2], 16: BOTH[16]}))
    (row,) = optimization.judge(findings)
    assert (row.status, row.verdict) == (Status.LOSS_NOT_POSITIVE, None)
    assert str(row.flags[0]) == "1 of 3 seeds at batch size 1: loss not positive"
    assert "cannot be compared: 1 of 3 seeds at batch size 1: loss not positive." in optimization.answer(findings)
    assert len(findings.courses[1].losses) < len(findings.courses[16].losses)
    assert math.isnan(findings.ends[1].loss.high)
    assert optimization.figure(findings) is not None


def test_a_single_seed_is_undecided():
    findings = optimized(after_equal_epochs({1: [0.1], 16: [0.9]}))
    (row,) = optimization.judge(findings)
    assert (row.verdict, row.effect.n) == (Verdict.UNDECIDED, 1)
    assert "undecided" in optimization.answer(findings)


def test_the_answer_and_the_views_of_optimization_have_the_losses_of_both_batch_sizes():
    findings = optimized(after_equal_epochs(BOTH))
    assert findings.headline.small_ends_lower.estimate == 1
    assert findings.courses[16].updates == (0, 10)
    assert findings.courses[16].epochs == (0, 3)
    np.testing.assert_allclose(findings.courses[16].losses, [2, (0.9 * 1.0 * 1.1) ** (1 / 3)])
    assert "6.91 times the training loss of the small one: 0.997 against 0.144." in optimization.answer(findings)
    assert "holds at 1 of 1 learning rates tried: 0.1." in optimization.explain(findings)
    assert optimization.numbers(findings)["training loss"].tolist() == ["0.144", "0.997"]
    assert optimization.figure(findings) is not None


def test_a_large_batch_alone_that_is_missing_has_its_reason():
    trained = after_equal_epochs({1: SMALL_LOSSES})
    absent = trained.iloc[:1][["protocol", "learning_rate"]].assign(
        batch_size=16, status="out_of_memory", reason="it was too much"
    )
    findings = optimization.analyse(evidence(trained, absent))
    row = optimization.judge(findings)[0]
    problem = Problem(Status.OUT_OF_MEMORY, "it was too much")
    assert (row.status, row.verdict, row.flags) == (Status.OUT_OF_MEMORY, None, (problem,))
    assert "it was too much" in optimization.answer(findings)
    assert optimization.figure(findings) is not None


def test_a_cell_that_is_missing_has_its_reason():
    absent = pd.DataFrame([{"batch_size": size, "status": "unavailable", "reason": "not yet"} for size in (1, 16)])
    protocol = Protocol(0.1, EqualEpochs(3))
    findings = optimization.analyse(evidence(absent.assign(protocol=protocol.key, learning_rate=0.1)))
    row = optimization.judge(findings)[0]
    assert (row.status, row.verdict) == (Status.UNAVAILABLE, None)
    assert row.flags == (Problem(Status.UNAVAILABLE, "not yet"),)
    assert optimization.figure(findings) is not None
    assert optimization.numbers(findings).empty
