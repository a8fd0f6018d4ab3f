"""The rows that come from trainings: optimization and generalization."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.cells import Scope
from suite.claims import generalization, optimization
from suite.training.protocol import EqualEpochs, Protocol, TargetLoss
from tests.claims.evidence import evidence
from tests.conftest import tiny

SMALL_LOSSES, LARGE_LOSSES = [0.1, 0.2, 0.15], [0.9, 1.0, 1.1]


def after_equal_epochs(losses: dict[int, list[float]], learning_rate=0.1, statuses=None) -> pd.DataFrame:
    """Two looks at each seed: at the start, and at the end with its training loss."""
    statuses = statuses or {}
    lines = [
        {
            "batch_size": size,
            "seed": seed,
            "updates": look * 10,
            "epoch": look * 3,
            "train_loss": loss if look else 2.0,
            "train_score": 0.9,
            "test_score": 0.8,
            "status": statuses.get((size, seed), "ok"),
        }
        for size, of_size in losses.items()
        for seed, loss in enumerate(of_size)
        for look in (0, 1)
    ]
    protocol = Protocol(learning_rate, EqualEpochs(3))
    return pd.DataFrame(lines).assign(measurement="training", protocol=protocol.key, learning_rate=learning_rate)


def to_target(scores: dict[int, list[tuple[float, float]]], statuses=None) -> pd.DataFrame:
    """Looks at training losses 1 and 0.25, whose logs lie evenly about that of the target 0.5."""
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
        for seed, both in enumerate(of_size)
        for updates, loss, score in zip((10, 20), (1.0, 0.25), both, strict=True)
    ]
    protocol = Protocol(0.1, TargetLoss(0.5, 500))
    return pd.DataFrame(lines).assign(measurement="training", protocol=protocol.key, learning_rate=0.1)


def test_optimization_compares_log_losses_in_pairs():
    rows = optimization.judge(evidence(after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES})))
    differences = np.log(LARGE_LOSSES) - np.log(SMALL_LOSSES)
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    expected = np.exp([differences.mean(), low, high])
    np.testing.assert_allclose([rows[0].effect, rows[0].effect_low, rows[0].effect_high], expected)
    assert rows[0].verdict == "holds"
    assert math.isclose(rows[0].value_small, (0.1 * 0.2 * 0.15) ** (1 / 3))


def test_optimization_fails_where_the_large_batch_ends_lower():
    rows = optimization.judge(evidence(after_equal_epochs({1: LARGE_LOSSES, 16: SMALL_LOSSES})))
    assert rows[0].verdict == "fails"


def test_one_diverged_seed_leaves_no_verdict():
    diverged = {(1, 2): "diverged"}
    (row,) = optimization.judge(evidence(after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}, statuses=diverged)))
    assert (row.status, row.verdict) == ("diverged", "")
    assert row.flags == "1 of 3 seeds at batch size 1: diverged"


def test_every_rate_is_a_row_and_the_workloads_own_says_where_it_holds():
    """In the order of the workload's rates."""
    rows = optimization.judge(
        evidence(
            after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}),
            after_equal_epochs({1: LARGE_LOSSES, 16: SMALL_LOSSES}, learning_rate=0.03),
        )
    )
    assert [(row.headline, row.verdict) for row in rows] == [(False, "fails"), (True, "holds")]
    assert rows[1].flags == "at learning rate 0.1; holds at 1 of 2 rates tried: 0.1"


def test_only_what_stands_holms_correction_counts_as_holding():
    """One rate has p = 0.03 alone: it holds by itself, and not as one of two."""
    small, large = [1.0] * 4, np.exp([0.3, 0.8, 1.7, 1.2])
    p_value = stats.ttest_1samp(np.log(large), 0).pvalue
    assert 0.025 < p_value < 0.05
    alone = optimization.effects_by_rate(evidence(after_equal_epochs({1: small, 16: large})))
    both = optimization.effects_by_rate(
        evidence(
            after_equal_epochs({1: small, 16: large}),
            after_equal_epochs({1: small, 16: [1.5, 0.5, 1.5, 0.5]}, learning_rate=0.03),
        )
    )
    assert alone["holds"].tolist() == [True]
    assert both["holds"].tolist() == [False, False]
    np.testing.assert_allclose(both.set_index("learning_rate").loc[0.1, "p_holm"], 2 * p_value)


def test_a_claim_holds_at_a_rate_however_little_it_does():
    rows = optimization.judge(evidence(after_equal_epochs({1: [1.0, 1.0, 1.0], 16: [1.2, 1.21, 1.22]})))
    assert rows[0].flags == "at learning rate 0.1; holds at 1 of 1 rates tried: 0.1"


def test_a_large_batch_that_ends_lower_at_every_rate_holds_at_none():
    rows = optimization.judge(evidence(after_equal_epochs({1: LARGE_LOSSES, 16: SMALL_LOSSES})))
    assert rows[0].flags == "at learning rate 0.1; holds at 0 of 1 rates tried"


def test_a_rate_that_diverged_takes_no_part_in_holms_correction():
    diverged = {(16, seed): "diverged" for seed in range(3)}
    effects = optimization.effects_by_rate(
        evidence(
            after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}),
            after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}, learning_rate=0.03, statuses=diverged),
        )
    ).set_index("learning_rate")
    assert effects["status"].to_dict() == {0.03: "diverged", 0.1: "ok"}
    assert math.isnan(effects.loc[0.03, "effect"])
    assert effects.loc[0.1, "p_holm"] == effects.loc[0.1, "p"]


def test_every_rate_may_have_diverged():
    diverged = {(size, seed): "diverged" for size in (1, 16) for seed in range(3)}
    (row,) = optimization.judge(evidence(after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}, statuses=diverged)))
    assert (row.status, row.flags) == ("diverged", "3 of 3 seeds at batch size 1: diverged")
    effects = optimization.effects_by_rate(
        evidence(after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}, statuses=diverged))
    )
    assert not effects["holds"].any()


def test_seeds_are_paired_by_their_number_not_by_their_place():
    rows = after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES})
    (row,), (shuffled,) = (optimization.judge(evidence(these)) for these in (rows, rows[::-1]))
    assert row == shuffled


def test_a_loss_of_zero_has_a_logarithm_all_the_same():
    (row,) = optimization.judge(evidence(after_equal_epochs({1: [0.0, 0.0, 1e-12], 16: [1e-11, 1e-11, 1e-11]})))
    assert math.isclose(row.effect, 10)


def test_a_single_seed_is_undecided():
    (row,) = optimization.judge(evidence(after_equal_epochs({1: [0.1], 16: [0.9]})))
    assert (row.verdict, row.seeds) == ("undecided", 1)


@pytest.mark.parametrize("claim", [optimization, generalization])
def test_a_large_batch_alone_that_is_missing_has_its_reason(claim):
    both = {1: SMALL_LOSSES} if claim is optimization else {1: [(0.8, 0.9), (0.7, 0.8)]}
    measured = after_equal_epochs(both) if claim is optimization else to_target(both)
    absent = measured.iloc[:1][["protocol", "learning_rate"]].assign(
        batch_size=16, status="out_of_memory", reason="it was too much"
    )
    (row,) = claim.judge(evidence(measured, absent))
    assert (row.status, row.verdict, row.flags) == ("out_of_memory", "", "it was too much")


@pytest.mark.parametrize("claim", [optimization, generalization])
def test_a_cell_that_is_missing_has_its_reason(claim):
    absent = pd.DataFrame([{"batch_size": size, "status": "unavailable", "reason": "not yet"} for size in (1, 16)])
    protocol = Protocol(0.1, EqualEpochs(3) if claim is optimization else TargetLoss(0.5, 500))
    (row,) = claim.judge(evidence(absent.assign(protocol=protocol.key, learning_rate=0.1)))
    assert (row.status, row.verdict, row.flags) == ("unavailable", "", "not yet")


def test_where_neither_small_nor_large_is_trained_to_the_target_there_is_no_verdict():
    """The only batch size trained with is none of the coarse ones."""
    workload = tiny(batch_sizes=(1, 2, 4, 8, 16), training_batch_sizes=(2,))
    scope = Scope(workload.batch_sizes, (1, 4, 16), (2,), 3, 2, backends=("cpu",), training_backend="cpu")
    (cell,) = generalization.cells(workload, scope)
    found = evidence(pd.DataFrame([cell.describe() | {"status": "unavailable", "reason": "not yet"}]))
    (row,) = generalization.judge(found)
    assert (row.backend, row.status, row.verdict) == ("cpu", "unavailable", "")
    assert generalization.explain(found, [row])


def test_generalization_reads_the_score_where_the_loss_crosses_the_target():
    small, large = [(0.80, 0.90), (0.82, 0.90), (0.84, 0.92)], [(0.70, 0.80), (0.70, 0.82), (0.72, 0.82)]
    (row,) = generalization.judge(evidence(to_target({1: small, 16: large})))
    differences = np.array([0.85 - 0.75, 0.86 - 0.76, 0.88 - 0.77])
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    np.testing.assert_allclose([row.effect, row.effect_low, row.effect_high], [differences.mean(), low, high])
    assert row.verdict == "holds"
    assert row.kind == "difference"


def test_generalization_is_undecided_where_seeds_disagree():
    small, large = [(0.8, 0.9), (0.7, 0.8), (0.8, 0.9)], [(0.7, 0.8), (0.8, 0.9), (0.8, 0.9)]
    (row,) = generalization.judge(evidence(to_target({1: small, 16: large})))
    assert row.verdict == "undecided"


def test_generalization_leaves_the_trainings_of_equal_epochs_aside():
    small, large = [(0.80, 0.90), (0.82, 0.90)], [(0.70, 0.80), (0.70, 0.82)]
    reached = to_target({1: small, 16: large})
    other = after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}, statuses={(1, 0): "diverged"})
    assert generalization.judge(evidence(other, reached)) == generalization.judge(evidence(reached))
    said = generalization.explain(evidence(other, reached), generalization.judge(evidence(reached)))
    assert said.strip().endswith("cannot be compared: 1 of 3 seeds at batch size 1: diverged.")


def test_generalization_fails_where_the_large_batch_tests_better():
    small, large = [(0.70, 0.80), (0.70, 0.82), (0.72, 0.82)], [(0.80, 0.90), (0.82, 0.90), (0.84, 0.92)]
    (row,) = generalization.judge(evidence(to_target({1: small, 16: large})))
    assert row.verdict == "fails"
    assert math.isclose(row.value_large, (0.85 + 0.86 + 0.88) / 3)


def test_generalization_of_a_seed_that_diverged_leaves_no_verdict():
    scores = [(0.8, 0.9), (0.7, 0.8)]
    (row,) = generalization.judge(evidence(to_target({1: scores, 16: scores}, statuses={(1, 0): "diverged"})))
    assert (row.status, row.verdict, row.flags) == ("diverged", "", "1 of 2 seeds at batch size 1: diverged")


def test_a_target_that_was_not_reached_leaves_no_verdict():
    scores = [(0.8, 0.9), (0.7, 0.8)]
    missed = {(16, 1): "target_not_reached"}
    (row,) = generalization.judge(evidence(to_target({1: scores, 16: scores}, statuses=missed)))
    assert (row.status, row.verdict) == ("target_not_reached", "")
    assert row.flags == "1 of 2 seeds at batch size 16: target not reached"
