"""Annealed trainings of growing length, on a quadratic with known losses and against trainings one by one."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from suite.experiments.annealed_training import ANNEALED_TRAINING, LOWER, LOWER_RATE, measure
from suite.experiments.cell import Cell
from suite.experiments.training import engine_of
from suite.experiments.tuned_training import FINAL, TRIAL
from suite.training import plain
from suite.training.annealing import MAX_STALLED, Annealing, mean_loss
from suite.training.budgets import FixedUpdates
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol
from suite.workloads import Workload
from tests.conftest import blobs, tiny
from tests.training.constructed import quadratic

TUNED = Tuned(factor=2, each_way=2, growths=2, seeds=2, fine_seeds=3)


def annealed_protocol(workload: Workload, rule: Tuned = TUNED, **budget) -> Protocol:
    """As `Protocol.annealed_to_fit`, with a short search for the peak rate and changes to the budget."""
    protocol = Protocol.annealed_to_fit(workload)
    return replace(protocol, rate_rule=rule, budget=replace(protocol.budget, **budget))


def cell(workload: Workload, batch_size: int, seeds: int, replicas_per_call: int = 1, **budget) -> Cell:
    protocol = annealed_protocol(workload, **budget)
    return Cell(
        ANNEALED_TRAINING, workload.name, "cpu", batch_size, seeds, protocol, replicas_per_call=replicas_per_call
    )


def annealing_of(workload: Workload, measured_cell: Cell) -> Annealing:
    engine = engine_of(measured_cell)
    return Annealing.of(workload, workload.load(), measured_cell.protocol, measured_cell.batch_size, engine)


def test_final_losses_of_a_quadratic_are_those_of_the_closed_form():
    """Loss x² / 2 from x = 1: an update at rate η (1 − t / n) multiplies x by 1 − η (1 − t / n)."""
    workload = quadratic(torch.tensor([1.0]), learning_rate=0.1, learning_rates=(0.1,), target_loss=1e-2)
    annealing = annealing_of(workload, cell(workload, 64, seeds=1))
    ends = annealing.final_trainings(0.1, [0])
    for length, loss in zip(ends["updates"], ends["train_loss"], strict=True):
        x = np.prod(1 - 0.1 * (1 - np.arange(length) / length))
        assert loss == pytest.approx(x**2 / 2, rel=1e-4)
    assert ends["train_loss"].iloc[-1] <= workload.fitted_loss < ends["train_loss"].iloc[-2]
    assert ends["updates"].tolist() == list(annealing.lengths())[: len(ends)]


def test_every_replica_trains_for_every_length_until_the_mean_loss_is_the_fitted_loss():
    workload = tiny(fitted_loss=0.3)
    finals = measure(workload, blobs(), cell(workload, 4, seeds=6)).query("stage == @FINAL")
    assert (finals.groupby("updates")["seed"].unique().map(sorted).map(tuple) == tuple(range(6))).all()
    means = np.exp(np.log(finals["train_loss"]).groupby(finals["updates"]).mean())
    assert means.iloc[-1] <= workload.fitted_loss < means.iloc[-2]


def test_the_mean_loss_leaves_out_replicas_that_diverged():
    ends = pd.DataFrame({"train_loss": [0.1, 0.4] * 9 + [math.nan, 9.0], "status": ["ok"] * 18 + ["diverged"] * 2})
    assert mean_loss(ends) == pytest.approx(0.2)
    assert mean_loss(ends.tail(19)) == math.inf


def test_the_lower_peak_rate_is_a_second_set_of_trainings():
    workload = tiny()
    rows = measure(workload, blobs(), cell(workload, 4, seeds=2))
    rates = rows.groupby("stage")["learning_rate"].first()
    assert rates[LOWER_RATE] == pytest.approx(LOWER * rates[FINAL])
    assert rates[FINAL] in set(rows.loc[rows["stage"] == TRIAL, "learning_rate"])


def test_trials_end_at_the_first_length_that_reaches_the_tuning_loss():
    workload = tiny()
    trials = annealing_of(workload, cell(workload, 4, seeds=2)).trials()
    (length,) = trials["updates"].unique()
    coarse = trials[~trials["fine"]].groupby("learning_rate")["cost_loss"].mean()
    assert coarse.min() <= workload.target_loss
    hard = annealing_of(workload, cell(workload, 4, seeds=2, tuning_loss=workload.fitted_loss)).trials()
    assert hard["updates"].iloc[0] > length


def test_an_ensemble_trains_as_replicas_one_by_one():
    workload = tiny()
    alone, together = (measure(workload, blobs(), cell(workload, 8, 3, per_call)) for per_call in (1, 3))
    assert alone[["stage", "seed", "updates", "learning_rate"]].equals(
        together[["stage", "seed", "updates", "learning_rate"]]
    )
    np.testing.assert_allclose(alone["train_loss"], together["train_loss"], rtol=1e-3)


def test_plain_models_end_as_the_final_trainings():
    workload = tiny()
    annealing = annealing_of(workload, cell(workload, 4, seeds=2))
    finals, plainly = annealing.final_trainings(0.1, range(2)), list(annealing.models(0.1, range(2)))
    ends = pd.concat([of_length for _, of_length in plainly], ignore_index=True)
    assert ends[["seed", "updates"]].equals(finals[["seed", "updates"]])
    np.testing.assert_allclose(ends["train_loss"], finals["train_loss"], rtol=1e-5)
    assert {len(models) for models, _ in plainly} == {2}


def test_a_final_training_is_the_plain_training_of_its_length():
    workload = tiny()
    finals = measure(workload, blobs(), cell(workload, 4, seeds=2)).query("stage == @FINAL")
    last = finals.iloc[-1]
    protocol = Protocol(last["learning_rate"], FixedUpdates(int(last["updates"])), annealed=True)
    seed = int(last["seed"])
    _, table = plain.trained(workload, workload.replica_data(blobs(), seed), protocol, 4, seed)
    assert table["train_loss"].iloc[-1] == pytest.approx(last["train_loss"], rel=1e-6)


def test_trainings_whose_loss_no_longer_falls_end_before_the_limit():
    """A loss that cannot fall below 1e-4: the lengths end long before 100,000 updates."""
    workload = quadratic(
        torch.tensor([1.0]), learning_rate=0.1, learning_rates=(0.1,), target_loss=1e-3, max_updates=100_000
    )
    above = replace(workload, loss=lambda outputs, targets: outputs + 1e-4, fitted_loss=1e-6)
    ends = annealing_of(above, cell(above, 64, seeds=1)).final_trainings(0.4, [0])
    assert ends["train_loss"].min() == pytest.approx(1e-4, rel=0.1)
    assert ends["updates"].max() < 1000
    assert (ends["train_loss"] < 1.03e-4).sum() >= MAX_STALLED


def ends(losses: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"train_loss": losses, "status": "ok"})


def test_the_mean_of_losses_that_are_not_positive_is_the_arithmetic_one():
    assert mean_loss(ends([1.0, 4.0])) == pytest.approx(2)
    assert mean_loss(ends([1.0, -4.0])) == pytest.approx(-1.5)
    assert mean_loss(ends([1.0, 0.0])) == pytest.approx(0.5)
