from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.experiments.cell import Scope
from suite.optimizers import adamw
from suite.studies.decay_or_grow import CONSTANT, DECAY, GROW, analyse, change_epochs, protocols, study
from suite.training.budgets import GrowingBatch
from suite.training.protocol import Protocol
from tests.conftest import tiny
from tests.evidence import FACTS, evidence

SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), 5, 1, backends=("cpu",), training_backend="cpu", factorial=True)
START_BATCH_SIZES = (1, 4)
"""Small and the middle batch size."""


def trained(
    protocol: Protocol,
    losses: list[float],
    batch_size: int,
    updates: int = 10,
    status: str = "ok",
    test_scores: list[float] | float = 0.8,
) -> pd.DataFrame:
    """Two evaluations of each seed: at initialisation, and at the end with its training loss."""
    scores = np.broadcast_to(test_scores, len(losses))
    lines = [
        {
            "seed": seed,
            "updates": evaluation * updates,
            "epoch": 3 * evaluation,
            "train_loss": loss if evaluation else 2.0,
            "test_score": scores[seed],
        }
        for seed, loss in enumerate(losses)
        for evaluation in (0, 1)
    ]
    return pd.DataFrame(lines).assign(protocol=protocol.key, batch_size=batch_size, status=status)


def trainings(grown: list[float], status: str = "ok", **of_grown) -> list[pd.DataFrame]:
    by_name, seeds = protocols(FACTS), len(grown)
    return [
        rows
        for size in START_BATCH_SIZES
        for rows in (
            trained(by_name[CONSTANT], [1.0] * seeds, size),
            trained(by_name[DECAY], [0.5] * seeds, size),
            trained(by_name[GROW], grown, size, updates=6, status=status, **of_grown),
        )
    ]


def test_growing_is_compared_in_pairs_with_decaying_and_decaying_with_a_constant_rate():
    findings = analyse(evidence(*trainings([0.5, 0.51, 0.52])))
    logs = np.log([1.0, 1.02, 1.04])
    low, high = np.exp(stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs)))
    for size in START_BATCH_SIZES:
        start = findings.starts[size]
        ratio = start.agreement.loss_ratio
        assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((np.exp(logs.mean()), low, high), rel=1e-12)
        assert ratio.n == 3
        assert start.agreement.decayed_over_constant == pytest.approx(0.5)
        assert start.updates == {CONSTANT: 10, DECAY: 10, GROW: 6}
        assert start.problems == ()
    assert findings.change_epochs == (1, 2)
    answer, text = study.answer(findings), study.explain(findings)
    assert f"({low:.3f} to {high:.3f}) when both start at batch size 1" in answer
    assert f"{np.exp(logs.mean()):.3f} ({low:.3f} to {high:.3f})" in text
    assert "0.500 times the loss of a constant rate" in text
    assert "After 1 and 2 epochs" in text


def test_test_scores_are_subtracted_in_pairs():
    findings = analyse(evidence(*trainings([0.5, 0.5, 0.5], test_scores=[0.81, 0.82, 0.86])))
    difference = findings.starts[4].agreement.score_difference
    scores = np.array([0.01, 0.02, 0.06])
    bounds = stats.t.interval(0.95, 2, scores.mean(), stats.sem(scores))
    assert (difference.estimate, difference.low, difference.high) == pytest.approx((scores.mean(), *bounds))


def test_losses_are_geometric_means_over_seeds_by_epoch():
    start = analyse(evidence(*trainings([0.5, 2.0]))).starts[1]
    assert start.losses[GROW] == {0: pytest.approx(2), 3: pytest.approx(1)}
    assert start.losses[DECAY] == {0: pytest.approx(2), 3: pytest.approx(0.5)}


def test_nothing_is_compared_with_a_diverged_training():
    findings = analyse(evidence(*trainings([0.5] * 3, "diverged")))
    assert all(start.agreement is None for start in findings.starts.values())
    reason = "3 of 3 seeds with a growing batch: diverged"
    assert [str(problem) for problem in findings.starts[1].problems] == [reason]
    assert reason in study.answer(findings)
    assert "From batch size 4 the two cannot be compared: " + reason in study.explain(findings)
    assert study.figure(findings) is None


def test_nothing_is_compared_with_a_training_without_memory():
    failure = {"protocol": protocols(FACTS)[GROW].key, "status": "out_of_memory", "reason": "too much"}
    failed = pd.DataFrame([failure | {"batch_size": size} for size in START_BATCH_SIZES])
    rows = [frame for frame in trainings([0.5] * 3) if frame["updates"].max() > 6]
    findings = analyse(evidence(*rows, failed))
    assert findings.starts[1].agreement is None
    assert findings.starts[1].updates[GROW] == 0
    assert [problem.status for problem in findings.starts[1].problems] == ["out_of_memory"]
    text = study.explain(findings)
    assert "From batch size 1 the two cannot be compared: out of memory with a growing batch, too much." in text
    assert study.figure(findings) is None


def test_a_start_without_all_three_trainings_is_left_out():
    findings = analyse(evidence(*trainings([0.5] * 3)[:2]))
    assert findings.starts == {}
    assert "not measured" in study.answer(findings)
    assert study.explain(findings) == ""
    assert study.figure(findings) is None


def test_a_single_seed_is_not_compared():
    findings = analyse(evidence(*trainings([0.5])))
    assert findings.starts[1].agreement is None
    assert "a single seed" in study.answer(findings)


def test_the_figure_has_three_lines_from_each_start_and_the_epochs_of_changes():
    panels = study.figure(analyse(evidence(*trainings([0.5, 0.51, 0.52])))).axes
    assert [axes.get_title() for axes in panels] == ["from batch size 1", "from batch size 4"]
    labels = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert labels == [
        "constant rate and batch size: 10 updates",
        "decaying rate: 10 updates",
        "growing batch: 6 updates",
    ]
    assert len(panels[0].lines) == 3 + 2


def test_a_batch_grows_only_where_it_stays_among_the_workloads():
    """From 1 to 4 and from 4 to 16; not from 4 where 8 is the largest batch size."""
    assert {cell.batch_size for cell in study.cells(tiny(), SCOPE)} == {1, 4}
    smaller = tiny(batch_sizes=(1, 4, 8), large=8)
    assert {cell.batch_size for cell in study.cells(smaller, SCOPE)} == {1}
    assert study.cells(tiny(), replace(SCOPE, factorial=False)) == []


def test_rate_over_batch_size_is_the_same_with_a_decaying_rate_and_a_growing_batch():
    by_name = protocols(tiny(epochs=10))
    assert change_epochs(10) == (3, 6, 8)
    for epoch in range(10):
        grown = by_name[GROW].batch_size(4, epoch)
        assert by_name[DECAY].rate(40, 4, 10 * epoch) / 4 == pytest.approx(by_name[GROW].learning_rate / grown)
    assert isinstance(by_name[GROW].budget, GrowingBatch)


def test_in_a_single_epoch_nothing_can_change():
    assert protocols(tiny(epochs=1)) == {}
    assert study.cells(tiny(epochs=1), SCOPE) == []
    single = replace(evidence(*trainings([0.5] * 3)), facts=replace(FACTS, epochs=1))
    assert analyse(single).starts == {}


def test_another_optimizer_than_sgd_is_named():
    text = study.explain(analyse(evidence(*trainings([0.5, 0.51, 0.52]))))
    assert "Here the optimizer is" not in text
    facts = replace(FACTS, optimizer=adamw())
    rows = evidence(*trainings([0.5, 0.51, 0.52])).rows
    keys = {protocols(FACTS)[name].key: protocols(facts)[name].key for name in (CONSTANT, DECAY, GROW)}
    with_adamw = replace(evidence(rows.assign(protocol=rows["protocol"].map(keys))), facts=facts)
    assert "Here the optimizer is AdamW" in study.explain(analyse(with_adamw))
