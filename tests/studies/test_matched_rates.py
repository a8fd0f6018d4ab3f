"""Trainings at matched rates: made up, so that the loss ratios are known."""

from dataclasses import replace

import pandas as pd
import pytest

from suite.evidence import Evidence, Facts, Problem
from suite.experiments.training import TRAINING
from suite.optimizers import Optimizer, adamw, sgd
from suite.studies import matched_rates
from suite.studies.matched_rates import analyse, pairs
from suite.training.momentum_pair import WITH, WITHOUT
from tests.claims.test_momentum import SCOPE
from tests.conftest import blobs, tiny

LOSSES = {WITHOUT: [0.1, 0.4], WITH: [0.2, 0.8]}
ADAMW = adamw()


def trained(optimizer: Optimizer, status_at_highest: str = "ok") -> Evidence:
    """Two seeds that end with LOSSES at both pairs of rates; `status_at_highest` is theirs with momentum."""
    facts = Facts.of(tiny(optimizer=optimizer), blobs())
    lowest, highest = pairs(facts)
    frames = [
        pd.DataFrame({"seed": [0, 1], "updates": 30, "train_loss": losses, "status": "ok"}).assign(
            measurement=TRAINING.name, batch_size=facts.middle, protocol=pair[name].key, backend="cpu"
        )
        for pair in (lowest, highest)
        for name, losses in LOSSES.items()
    ]
    frames[-1]["status"] = status_at_highest
    return Evidence.from_frames(facts, frames)


def test_the_loss_ratio_is_a_geometric_mean_over_paired_seeds():
    findings = analyse(trained(sgd()))
    assert [pair.loss_ratio.estimate for pair in findings.pairs] == pytest.approx([2, 2])
    assert [pair.loss_ratio.n for pair in findings.pairs] == [2, 2]
    assert set(findings.compared) == set(tiny().learning_rates)
    table = matched_rates.numbers(findings)
    assert table["training loss, with / without"].tolist() == ["×2.00", "×2.00"]
    assert table["rate, with"].tolist() == ["0.003", "0.01"]
    assert matched_rates.answer(findings) == (
        "SGD with momentum λ at rate η (1 − λ) is compared with SGD without momentum at rate η: the ratio of their "
        "final training losses is 2.00 at η = 0.03."
    )
    assert "1 / (1 − λ)" in matched_rates.explain(findings)
    (axes,) = matched_rates.figure(findings).axes
    assert "η (1 − λ)" in axes.get_xlabel()


def test_adam_has_the_same_rate_with_momentum_and_without():
    findings = analyse(trained(ADAMW))
    assert [(pair.rate_without, pair.rate_with) for pair in findings.pairs] == [(0.03, 0.03), (0.1, 0.1)]
    assert "AdamW's weights of all past gradients add up to 1, so" in matched_rates.explain(findings)
    assert "SGD" not in matched_rates.explain(findings)
    (axes,) = matched_rates.figure(findings).axes
    assert "with momentum, the same rate" in axes.get_xlabel()


def test_trainings_that_diverge_are_not_compared_and_their_rate_says_why():
    findings = analyse(trained(sgd(), "diverged"))
    assert isinstance(findings.pairs[1].loss_ratio, Problem)
    assert list(findings.compared) == [0.03]
    assert matched_rates.numbers(findings)["95% interval"].iloc[1] == "2 of 2 seeds with momentum: diverged"


def test_trainings_that_were_not_measured_have_a_reason_and_no_figure():
    cells = matched_rates.cells(tiny(), SCOPE)
    assert len(cells) == 4
    rows = [pd.DataFrame([{**cell.describe(), "status": "unavailable", "reason": "no time"}]) for cell in cells]
    findings = analyse(Evidence.from_frames(Facts.of(tiny(), blobs()), rows))
    assert "no time" in matched_rates.answer(findings)
    assert matched_rates.figure(findings) is None
    assert matched_rates.explain(findings) == ""


def test_nothing_is_trained_where_the_middle_batch_size_is_not_trained_with():
    assert matched_rates.cells(tiny(), replace(SCOPE, training_batch_sizes=(1, 16))) == []
