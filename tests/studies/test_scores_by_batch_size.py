"""Scores at every batch size, from trainings with known scores."""

import numpy as np
import pandas as pd
import pytest

from suite.evidence import Problem
from suite.status import Status
from suite.studies.scores_by_batch_size import Findings, analyse, epochs_protocol, explain, figure, numbers, study
from suite.training.protocol import Protocol
from tests.conftest import tiny
from tests.evidence import FACTS, evidence


def trained(scores: dict[int, list[tuple[float, float]]], protocol: Protocol, statuses=None) -> pd.DataFrame:
    """Two evaluations of each seed, at training losses 1 and 0.25, whose logs lie evenly about that of the target
    0.5, with the training and test scores of `scores`."""
    lines = [
        {
            "batch_size": size,
            "seed": seed,
            "updates": updates,
            "epoch": updates / 10,
            "train_loss": loss,
            "train_score": score,
            "test_score": score - 0.1,
            "status": (statuses or {}).get((size, seed), "ok"),
        }
        for size, of_size in scores.items()
        for seed, pair in enumerate(of_size)
        for updates, loss, score in zip((10, 20), (1.0, 0.25), pair, strict=True)
    ]
    return pd.DataFrame(lines).assign(measurement="training", protocol=protocol.key, learning_rate=0.1)


SCORES = {1: [(0.90, 1.00), (0.92, 1.00)], 4: [(0.8, 0.9), (0.8, 0.9)], 16: [(0.80, 0.90), (0.80, 0.92)]}
AVERAGED, EPOCHS = Protocol.to_target(tiny()), epochs_protocol(FACTS)


def analysed(*frames: pd.DataFrame) -> Findings:
    return analyse(evidence(*frames))


def test_gaps_are_interpolated_at_the_target_and_paired_by_seed():
    findings = analysed(trained(SCORES, AVERAGED))
    np.testing.assert_allclose(findings.gaps[1].seeds, [0.95 - 0.85, 0.96 - 0.86])
    assert set(findings.gaps) == {1, 4}
    assert findings.at_target[4].updates == pytest.approx(15)
    assert len(numbers(findings)) == 3


def test_a_large_batch_behind_in_training_and_testing_is_under_trained():
    findings = analysed(trained(SCORES, EPOCHS))
    assert findings.after_epochs[16].test.mean.estimate == pytest.approx(0.81)
    assert study.answer(findings) == (
        "After 3 epochs at one learning rate the large batch has accuracy 0.910 in training and 0.810 in "
        "testing, the small one 1.000 in training and 0.900 in testing: the large batch is behind in both, so it is "
        "under-trained, not overfitted."
    )
    ahead = analysed(trained({1: SCORES[16], 16: SCORES[1]}, EPOCHS))
    assert "under-trained" not in study.answer(ahead)
    assert figure(findings) is not None


def test_a_diverged_seed_leaves_no_comparison_after_equal_epochs():
    findings = analysed(trained(SCORES, AVERAGED), trained(SCORES, EPOCHS, {(1, 0): "diverged"}))
    assert findings.epochs_problem == Problem(Status.DIVERGED, replicas=1, all_replicas=2, where="at batch size 1")
    assert study.answer(findings).endswith("1 of 2 seeds at batch size 1: diverged.")
    assert "left panel" in explain(findings)
