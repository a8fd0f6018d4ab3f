"""The rows that come from trainings: optimization and generalization."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.claims import generalization, optimization
from suite.training.protocol import EqualEpochs, Protocol, TargetLoss
from tests.claims.evidence import evidence

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
    return pd.DataFrame(lines).assign(measurement="training", protocol=str(protocol), learning_rate=learning_rate)


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
    return pd.DataFrame(lines).assign(measurement="training", protocol=str(protocol), learning_rate=0.1)


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
    rows = optimization.judge(
        evidence(
            after_equal_epochs({1: SMALL_LOSSES, 16: LARGE_LOSSES}),
            after_equal_epochs({1: LARGE_LOSSES, 16: SMALL_LOSSES}, learning_rate=0.03),
        )
    )
    assert [(row.headline, row.verdict) for row in rows] == [(True, "holds"), (False, "fails")]
    assert rows[0].flags == "at learning rate 0.1; holds at 1 of 2 rates tried: 0.1"


@pytest.mark.parametrize("claim", [optimization, generalization])
def test_a_cell_that_is_missing_has_its_reason(claim):
    absent = pd.DataFrame([{"batch_size": size, "status": "unavailable", "reason": "not yet"} for size in (1, 16)])
    protocol = Protocol(0.1, EqualEpochs(3) if claim is optimization else TargetLoss(0.5, 500))
    (row,) = claim.judge(evidence(absent.assign(protocol=str(protocol), learning_rate=0.1)))
    assert (row.status, row.verdict, row.flags) == ("unavailable", "", "not yet")


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


def test_a_target_that_was_not_reached_leaves_no_verdict():
    scores = [(0.8, 0.9), (0.7, 0.8)]
    missed = {(16, 1): "target_not_reached"}
    (row,) = generalization.judge(evidence(to_target({1: scores, 16: scores}, statuses=missed)))
    assert (row.status, row.verdict) == ("target_not_reached", "")
    assert row.flags == "1 of 2 seeds at batch size 16: target not reached"
