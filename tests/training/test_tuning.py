"""The tuned learning rate against known optima, and trials of an ensemble against trials one by one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from suite.experiments.cell import Cell
from suite.experiments.training import TRAINING, engine_of
from suite.experiments.tuned_training import FINAL, TRIAL, TUNED_TRAINING, measure
from suite.optimizers import adamw, sgd
from suite.training.budgets import EqualEpochs, EqualUpdates, TargetLoss
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol
from suite.training.tuning import (
    FIRST_TRIAL_REPLICA,
    EarlyStopping,
    Tuning,
    best_rate,
    extend_grid,
    first_grid,
    trial_replicas,
)
from tests.conftest import blobs, tiny
from tests.training.constructed import quadratic, saddle

TUNED = Tuned(factor=2, each_way=2, growths=2, seeds=2)
SGD = sgd()


def cell(budget, batch_size=4, seeds=2, replicas_per_call=2, tuned=TUNED, rate=0.1, optimizer=SGD) -> Cell:
    protocol = Protocol(rate, budget, tuned, optimizer)
    return Cell(TUNED_TRAINING, "tiny", "cpu", batch_size, seeds, protocol, replicas_per_call=replicas_per_call)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_best_rate_of_a_quadratic_is_that_of_its_finite_number_of_updates(momentum):
    """Curvatures 1 and 100: after 100 updates .01936 is best, not .0198, the best in the limit."""
    curvatures = torch.tensor([1.0, 100.0])
    workload = quadratic(curvatures, learning_rate=0.018, learning_rates=(0.018,))
    fine = Tuned(factor=1.005, each_way=10, growths=12, seeds=1)
    budget, optimizer = EqualUpdates(100, 64), sgd(momentum)
    tuned = cell(budget, batch_size=64, seeds=1, tuned=fine, rate=0.018, optimizer=optimizer)
    trials = measure(workload, workload.load(), tuned)
    rates = np.linspace(0.015, 0.035, 200_001)
    before, now = (np.ones((2, len(rates))) for _ in range(2))
    for _ in range(100):
        before, now = now, now - rates * curvatures.numpy()[:, None] * now + momentum * (now - before)
    best = rates[(curvatures.numpy()[:, None] * now**2).sum(axis=0).argmin()]
    tuned_rate = trials.loc[trials["stage"] == FINAL, "learning_rate"].iloc[0]
    assert tuned_rate == pytest.approx(best, rel=0.004)
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
def test_trials_one_by_one_give_the_same_rows_as_trials_of_an_ensemble(budget, rate, optimizer):
    low = Tuned(factor=2, each_way=2, growths=0, seeds=2)  # at high rates rounding errors grow
    ensemble, plain = (
        measure(tiny(), blobs(), cell(budget, replicas_per_call=replicas, tuned=low, rate=rate, optimizer=optimizer))
        for replicas in (2, 1)
    )
    values = ["train_loss", "train_score", "test_loss", "test_score", "cost_updates", "cost_loss"]
    pd.testing.assert_frame_equal(ensemble.drop(columns=values), plain.drop(columns=values))
    np.testing.assert_allclose(ensemble[values], plain[values], rtol=1e-4)


def test_early_stopping_saves_updates_and_does_not_change_the_best_rate():
    class NoEarlyStopping(EarlyStopping):
        def ended(self, place, protocol, history):
            return history[-1][1] <= protocol.budget.loss or not np.isfinite(history[-1][1])

    to_target = cell(TargetLoss(0.6, 400))
    rates = first_grid(0.1, TUNED)
    stopped, complete = (
        Tuning.of(tiny(), blobs(), to_target.protocol, 4, engine_of(to_target)).try_rates(
            rates, trial_replicas(2), stopping.ended
        )
        for stopping in (EarlyStopping(2), NoEarlyStopping(2))
    )
    assert best_rate(stopped) == best_rate(complete)
    best = stopped["learning_rate"] == best_rate(stopped)
    pd.testing.assert_frame_equal(stopped[best], complete[best])
    assert stopped["updates"].sum() < complete["updates"].sum()


def test_final_trainings_use_other_replicas_than_trials():
    rows = measure(tiny(), blobs(), cell(EqualEpochs(1)))
    assert set(rows.loc[rows["stage"] == TRIAL, "seed"]) == {FIRST_TRIAL_REPLICA, FIRST_TRIAL_REPLICA + 1}
    assert set(rows.loc[rows["stage"] == FINAL, "seed"]) == {0, 1}


def test_a_grid_is_extended_at_the_edge_on_which_the_best_rate_lies():
    assert first_grid(0.1, TUNED) == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.4])
    assert extend_grid([1, 2, 4], 2, TUNED) == []
    assert extend_grid([1, 2, 4], 4, TUNED) == [8, 16]
    assert extend_grid([1, 2, 4], 1, TUNED) == [0.25, 0.5]


def test_a_grid_that_is_too_low_is_extended_until_the_best_rate_is_inside():
    rows = measure(
        quadratic(torch.ones(1)), quadratic(torch.ones(1)).load(), cell(EqualUpdates(3, 64), 64, rate=0.05)
    )
    assert rows.loc[rows["stage"] == FINAL, "learning_rate"].iloc[0] == pytest.approx(0.8)
    assert not rows["on_edge"].any()


def test_a_best_rate_that_stays_on_the_edge_is_flagged():
    """At the saddle the gradient is zero: all rates are equally good, and the lowest one is chosen."""
    rows = measure(saddle(), saddle().load(), cell(EqualUpdates(2, 8), batch_size=64))
    assert rows["on_edge"].all()
    assert rows["learning_rate"].nunique() == 5 + 2 * 2


def test_a_rate_that_diverges_is_never_the_best():
    wide = replace(TUNED, factor=100)
    rows = measure(tiny(), blobs(), cell(EqualEpochs(2), tuned=wide))
    assert not np.isfinite(rows.loc[rows["stage"] == TRIAL, "cost_loss"]).all()
    assert np.isfinite(rows.loc[rows["stage"] == FINAL, "train_loss"]).all()


@pytest.mark.parametrize("budget", [EqualEpochs(2), TargetLoss(0.6, 400)])
def test_the_finer_grid_brackets_the_best_rate_with_more_replicas(budget):
    fine = replace(TUNED, fine_seeds=5)
    to_target = cell(budget, tuned=fine)
    trials = Tuning.of(tiny(), blobs(), to_target.protocol, 4, engine_of(to_target)).trials()
    best, tried = best_rate(trials), trials[trials["fine"]]
    assert (tried.groupby("learning_rate")["seed"].nunique() == 5).all()
    rates = np.sort(tried["learning_rate"].unique())
    assert rates[1:] / rates[:-1] == pytest.approx(np.sqrt(2))
    assert rates[0] < best < rates[-1]
    assert not trials["on_edge"].any()


def test_the_finer_grid_ends_where_no_rate_reaches_the_target():
    to_target = cell(TargetLoss(1e-9, 30), tuned=replace(TUNED, fine_seeds=2))
    trials = Tuning.of(tiny(), blobs(), to_target.protocol, 4, engine_of(to_target)).trials()
    assert np.isinf(trials["cost_updates"]).all()


@pytest.mark.parametrize("budget", [EqualEpochs(2), EqualUpdates(2, batch_size=4)], ids=str)
def test_a_tuned_rate_is_annealed_to_zero_over_a_fixed_length(budget):
    """The trials are judged by their final loss, and the final trainings are those from the best peak rate."""
    tuned = cell(budget)
    tuned = replace(tuned, protocol=replace(tuned.protocol, annealed=True))
    rows = measure(tiny(), blobs(), tuned)
    trials, finals = (rows[rows["stage"] == stage] for stage in (TRIAL, FINAL))
    losses = trials.groupby("learning_rate")["train_loss"].mean()
    assert finals["learning_rate"].unique().tolist() == [losses.idxmin()]
    alone = Protocol(losses.idxmin(), budget, annealed=True)
    expected = TRAINING.measure(tiny(), blobs(), replace(tuned, measurement=TRAINING, protocol=alone))
    np.testing.assert_allclose(finals["train_loss"], expected["train_loss"])
