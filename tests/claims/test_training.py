"""The rows that are judged from trainings: optimization and generalization."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.claims import generalization, optimization
from suite.claims.claim import Row
from suite.evidence import Problem
from suite.experiments.cell import Scope
from suite.statistics import Verdict
from suite.status import Status
from suite.training.budgets import EqualEpochs, TargetLoss
from suite.training.protocol import Protocol
from tests.conftest import tiny
from tests.evidence import evidence

SCORES = ("train_score", "test_score")
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


AVERAGED = Protocol.to_target(tiny())


def to_target(scores: dict[int, list[tuple[float, float]]], statuses=None, protocol=AVERAGED) -> pd.DataFrame:
    """Evaluations at training losses 1 and 0.25, whose logs lie evenly about that of the target 0.5."""
    statuses = statuses or {}
    lines = [
        {
            "batch_size": size,
            "seed": seed,
            "updates": updates,
            "train_loss": loss,
            "test_score": score,
            "status": statuses.get((size, seed), "ok"),
        }
        for size, of_size in scores.items()
        for seed, pair in enumerate(of_size)
        for updates, loss, score in zip((10, 20), (1.0, 0.25), pair, strict=True)
    ]
    return pd.DataFrame(lines).assign(measurement="training", protocol=protocol.key, learning_rate=0.1)


BOTH = {1: SMALL_LOSSES, 16: LARGE_LOSSES}
SWAPPED = {1: LARGE_LOSSES, 16: SMALL_LOSSES}


def optimized(*frames: pd.DataFrame) -> optimization.Findings:
    return optimization.analyse(evidence(*frames))


def optimization_rows(*frames: pd.DataFrame) -> list[Row]:
    return optimization.judge(optimized(*frames))


def generalized(*frames: pd.DataFrame) -> generalization.Findings:
    return generalization.analyse(evidence(*frames))


def generalization_row(*frames: pd.DataFrame) -> Row:
    row, last_iterate = generalization.judge(generalized(*frames))
    assert (row.headline, last_iterate.headline) == (True, False)
    return row


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
        "At learning rate 0.03 there is no comparison (3 of 3 seeds at batch size 16: diverged)."
        in optimization.explain(findings)
    )


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


def test_a_loss_of_zero_has_a_logarithm_all_the_same():
    (row,) = optimization_rows(after_equal_epochs({1: [0.0, 0.0, 1e-12], 16: [1e-11, 1e-11, 1e-11]}))
    assert math.isclose(row.effect.estimate, 10)


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


@pytest.mark.parametrize("claim", [optimization, generalization])
def test_a_large_batch_alone_that_is_missing_has_its_reason(claim):
    small_alone = {1: SMALL_LOSSES} if claim is optimization else {1: [(0.8, 0.9), (0.7, 0.8)]}
    trained = after_equal_epochs(small_alone) if claim is optimization else to_target(small_alone)
    absent = trained.iloc[:1][["protocol", "learning_rate"]].assign(
        batch_size=16, status="out_of_memory", reason="it was too much"
    )
    findings = claim.analyse(evidence(trained, absent))
    row = claim.judge(findings)[0]
    problem = Problem(Status.OUT_OF_MEMORY, "it was too much")
    assert (row.status, row.verdict, row.flags) == (Status.OUT_OF_MEMORY, None, (problem,))
    assert "it was too much" in claim.answer(findings)
    assert claim.figure(findings) is not None


@pytest.mark.parametrize("claim", [optimization, generalization])
def test_a_cell_that_is_missing_has_its_reason(claim):
    absent = pd.DataFrame([{"batch_size": size, "status": "unavailable", "reason": "not yet"} for size in (1, 16)])
    protocol = Protocol(0.1, EqualEpochs(3)) if claim is optimization else Protocol.to_target(tiny())
    findings = claim.analyse(evidence(absent.assign(protocol=protocol.key, learning_rate=0.1)))
    row = claim.judge(findings)[0]
    assert (row.status, row.verdict) == (Status.UNAVAILABLE, None)
    assert row.flags == (Problem(Status.UNAVAILABLE, "not yet"),)
    assert claim.figure(findings) is not None
    assert claim.numbers(findings).empty


def test_where_neither_small_nor_large_is_trained_to_the_target_there_is_no_verdict():
    """The only batch size trained with is none of the coarse ones."""
    workload = tiny(batch_sizes=(1, 2, 4, 8, 16), training_batch_sizes=(2,))
    scope = Scope(workload.batch_sizes, (1, 4, 16), (2,), 3, 2, backends=("cpu",), training_backend="cpu")
    (cell,) = generalization.cells(workload, scope)
    findings = generalized(pd.DataFrame([cell.describe() | {"status": "unavailable", "reason": "not yet"}]))
    row, _ = generalization.judge(findings)
    assert (row.backend, row.status, row.verdict) == ("cpu", Status.UNAVAILABLE, None)
    assert generalization.explain(findings)


def test_generalization_interpolates_the_score_where_the_loss_crosses_the_target():
    small, large = [(0.80, 0.90), (0.82, 0.90), (0.84, 0.92)], [(0.70, 0.80), (0.70, 0.82), (0.72, 0.82)]
    findings = generalized(to_target({1: small, 16: large}))
    row, _ = generalization.judge(findings)
    differences = np.array([0.85 - 0.75, 0.86 - 0.76, 0.88 - 0.77])
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    np.testing.assert_allclose(
        [row.effect.estimate, row.effect.low, row.effect.high], [differences.mean(), low, high]
    )
    assert row.verdict is Verdict.HOLDS
    assert row.kind == "difference"
    np.testing.assert_allclose(findings.gaps[1].seeds, differences)
    assert set(findings.gaps) == {1}
    assert "small batch tests better by 10.3 points: accuracy 0.8633 against 0.7600." in generalization.answer(
        findings
    )


def test_the_last_iterate_is_a_second_reading_that_the_row_names():
    last_iterate = to_target(
        {1: [(0.6, 0.7), (0.6, 0.7)], 16: [(0.7, 0.8), (0.7, 0.8)]}, protocol=Protocol(0.1, TargetLoss(0.5, 500))
    )
    averaged = to_target({1: [(0.8, 0.9), (0.8, 0.9)], 16: [(0.7, 0.8), (0.7, 0.8)]})
    headline, second = generalization.judge(findings := generalized(averaged, last_iterate))
    assert (headline.effect.estimate, second.effect.estimate) == pytest.approx((0.1, -0.1))
    assert [str(flag) for flag in headline.flags] == ["of the last iterate −0.1000 (−0.1000 to −0.1000)"]
    assert "first reach the same loss, the difference is −0.1000" in generalization.explain(findings)


def test_generalization_is_undecided_where_seeds_disagree():
    small, large = [(0.8, 0.9), (0.7, 0.8), (0.8, 0.9)], [(0.7, 0.8), (0.8, 0.9), (0.8, 0.9)]
    findings = generalized(to_target({1: small, 16: large}))
    row, _ = generalization.judge(findings)
    assert row.verdict is Verdict.UNDECIDED
    assert findings.small_tests_better.estimate == pytest.approx(1 / 3)
    assert "neither batch size tests better for certain" in generalization.answer(findings)


def test_generalization_is_not_judged_by_the_trainings_of_equal_epochs():
    small, large = [(0.80, 0.90), (0.82, 0.90)], [(0.70, 0.80), (0.70, 0.82)]
    reached = to_target({1: small, 16: large})
    after_epochs = after_equal_epochs(BOTH, statuses={(1, 0): "diverged"})
    assert generalization_row(after_epochs, reached) == generalization_row(reached)
    text = generalization.explain(generalized(after_epochs, reached))
    assert text.endswith("cannot be compared: 1 of 3 seeds at batch size 1: diverged.")


def test_a_large_batch_behind_in_training_and_testing_is_under_trained():
    reached = to_target({1: [(0.80, 0.90)] * 2, 16: [(0.70, 0.80)] * 2})
    alike = after_equal_epochs(BOTH)
    behind = alike.assign(**{name: alike[name] - 0.1 * (alike["batch_size"] == 16) for name in SCORES})
    assert "under-trained, not overfitted" not in generalization.explain(generalized(reached, alike))
    findings = generalized(reached, behind)
    assert findings.after_epochs[16].test.mean.estimate == pytest.approx(0.7)
    assert "under-trained, not overfitted" in generalization.explain(findings)


def test_generalization_fails_where_the_large_batch_tests_better():
    small, large = [(0.70, 0.80), (0.70, 0.82), (0.72, 0.82)], [(0.80, 0.90), (0.82, 0.90), (0.84, 0.92)]
    findings = generalized(to_target({1: small, 16: large}))
    row, _ = generalization.judge(findings)
    assert row.verdict is Verdict.FAILS
    assert math.isclose(row.value_large, (0.85 + 0.86 + 0.88) / 3)
    assert "the large batch tests better" in generalization.answer(findings)


def test_generalization_of_a_seed_that_diverged_leaves_no_verdict():
    scores = [(0.8, 0.9), (0.7, 0.8)]
    row = generalization_row(to_target({1: scores, 16: scores}, statuses={(1, 0): "diverged"}))
    assert (row.status, row.verdict) == (Status.DIVERGED, None)
    assert row.flags == (Problem(Status.DIVERGED, replicas=1, all_replicas=2, where="at batch size 1"),)


def test_a_target_that_was_not_reached_leaves_no_verdict():
    scores = [(0.8, 0.9), (0.7, 0.8)]
    row = generalization_row(to_target({1: scores, 16: scores}, statuses={(16, 1): "target_not_reached"}))
    assert (row.status, row.verdict) == (Status.TARGET_NOT_REACHED, None)
    assert row.flags == (Problem(Status.TARGET_NOT_REACHED, replicas=1, all_replicas=2, where="at batch size 16"),)
    assert str(row.flags[0]) == "1 of 2 seeds at batch size 16: target not reached"
