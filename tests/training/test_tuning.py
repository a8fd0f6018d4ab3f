"""The tuned rate against rates that are known to be best, and the ensemble of trials against trials one by one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from suite.cells import Cell
from suite.optimizers import adamw, sgd
from suite.training.learning_rate import Tuned
from suite.training.protocol import EqualEpochs, EqualUpdates, Protocol, TargetLoss
from suite.training.repaid import Compiling
from suite.training.tuning import (
    FINAL,
    FIRST_TRIED,
    TRIAL,
    TUNED_TRAINING,
    Race,
    best_rate,
    beyond,
    first_grid,
    measure,
    try_rates,
)
from tests.conftest import blobs, tiny
from tests.training.constructed import quadratic, saddle

TUNED = Tuned(factor=2, each_way=2, growths=2, seeds=2)


def cell(budget, batch_size=4, seeds=2, together=2, tuned=TUNED, rate=0.1, **protocol) -> Cell:
    of = Protocol(rate, budget, tuned, **protocol)
    return Cell(TUNED_TRAINING, "tiny", "cpu", batch_size, seeds, of, replicas_per_call=together)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_best_rate_of_a_quadratic_is_that_of_its_finite_number_of_updates(momentum):
    """Curvatures 1 and 100: after 100 updates .01936 is best, not .0198, the best in the limit."""
    curvatures = torch.tensor([1.0, 100.0])
    workload = quadratic(curvatures, learning_rate=0.018, learning_rates=(0.018,))
    fine = Tuned(factor=1.005, each_way=10, growths=12, seeds=1)
    one = cell(EqualUpdates(100, 64), batch_size=64, seeds=1, tuned=fine, rate=0.018, optimizer=sgd(momentum))
    trials = measure(workload, workload.load(), one)
    rates = np.linspace(0.015, 0.035, 200_001)
    before, now = (np.ones((2, len(rates))) for _ in range(2))
    for _ in range(100):
        before, now = now, now - rates * curvatures.numpy()[:, None] * now + momentum * (now - before)
    best = rates[(curvatures.numpy()[:, None] * now**2).sum(axis=0).argmin()]
    found = trials.loc[trials["stage"] == FINAL, "learning_rate"].iloc[0]
    assert found == pytest.approx(best, rel=0.004)
    if not momentum:
        assert best == pytest.approx(0.01936, abs=1e-5)
    assert not trials["on_edge"].any()


@pytest.mark.parametrize(
    ("budget", "rate", "optimizer"),
    [
        (EqualEpochs(2), 0.03, sgd()),
        (TargetLoss(0.6, 400), 0.03, sgd()),
        (EqualUpdates(2, 8), 0.03, sgd()),
        (EqualEpochs(2), 0.01, sgd(momentum=0.9, nesterov=True)),
        (EqualEpochs(2), 0.003, adamw(weight_decay=0.1)),
    ],
    ids=str,
)
def test_trials_one_by_one_find_the_same(budget, rate, optimizer):
    low = Tuned(factor=2, each_way=2, growths=0, seeds=2)  # at high rates rounding grows
    together, alone = (
        measure(tiny(), blobs(), cell(budget, together=pack, tuned=low, rate=rate, optimizer=optimizer))
        for pack in (2, 1)
    )
    values = ["train_loss", "train_score", "test_loss", "test_score", "cost_updates", "cost_loss"]
    pd.testing.assert_frame_equal(together.drop(columns=values), alone.drop(columns=values))
    np.testing.assert_allclose(together[values], alone[values], rtol=1e-4)


def test_a_race_ends_trials_that_cannot_win_and_changes_no_winner():
    class NoRace(Race):
        def ended(self, place, protocol, seen):
            return seen[-1][1] <= protocol.budget.loss or not np.isfinite(seen[-1][1])

    one = cell(TargetLoss(0.6, 400))
    rates = first_grid(0.1, TUNED)
    raced, whole = (
        try_rates(tiny(), blobs(), one, rates, race, Compiling(tiny(), 40, one, 10, 400))
        for race in (Race(2), NoRace(2))
    )
    assert best_rate(raced) == best_rate(whole)
    won = raced["learning_rate"] == best_rate(raced)
    pd.testing.assert_frame_equal(raced[won], whole[won])
    assert raced["updates"].sum() < whole["updates"].sum()


def test_what_is_trained_in_the_end_was_not_tried():
    rows = measure(tiny(), blobs(), cell(EqualEpochs(1)))
    assert set(rows.loc[rows["stage"] == TRIAL, "seed"]) == {FIRST_TRIED, FIRST_TRIED + 1}
    assert set(rows.loc[rows["stage"] == FINAL, "seed"]) == {0, 1}


def test_every_batch_size_has_the_same_trials_and_the_grid_grows_at_its_edge():
    assert first_grid(0.1, TUNED) == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.4])
    assert beyond([1, 2, 4], 2, TUNED) == []
    assert beyond([1, 2, 4], 4, TUNED) == [8, 16]
    assert beyond([1, 2, 4], 1, TUNED) == [0.25, 0.5]


def test_a_grid_too_low_grows_until_the_best_is_inside():
    rows = measure(
        quadratic(torch.ones(1)), quadratic(torch.ones(1)).load(), cell(EqualUpdates(3, 64), 64, rate=0.05)
    )
    assert rows.loc[rows["stage"] == FINAL, "learning_rate"].iloc[0] == pytest.approx(0.8)
    assert not rows["on_edge"].any()


def test_a_best_rate_that_stays_on_the_edge_is_flagged():
    """At the saddle nothing moves: every rate is as good, and the lowest of them wins."""
    rows = measure(saddle(), saddle().load(), cell(EqualUpdates(2, 8), batch_size=64))
    assert rows["on_edge"].all()
    assert rows["learning_rate"].nunique() == 5 + 2 * 2


def test_a_rate_that_diverges_never_wins():
    wide = replace(TUNED, factor=100)
    rows = measure(tiny(), blobs(), cell(EqualEpochs(2), tuned=wide))
    assert not np.isfinite(rows.loc[rows["stage"] == TRIAL, "cost_loss"]).all()
    assert np.isfinite(rows.loc[rows["stage"] == FINAL, "train_loss"]).all()
