import pytest
import torch

from suite.experiments.cell import Cell
from suite.experiments.stuck_or_slow import STANDSTILL, measure
from suite.optimizers import adamw, sgd
from suite.training.budgets import CappedUpdates, EqualEpochs
from suite.training.plain import trained
from suite.training.protocol import Protocol
from tests.conftest import blobs, tiny
from tests.training.constructed import saddle


def cell(workload, epochs: int = 3) -> Cell:
    protocol = Protocol.of(workload, CappedUpdates(epochs, workload.small, max_updates=workload.max_updates))
    return Cell(STANDSTILL, workload.name, "cpu", workload.large, 2, protocol)


@pytest.mark.parametrize(("rate", "optimizer"), [(0.1, sgd()), (0.02, sgd(momentum=0.5)), (0.01, adamw())])
def test_the_losses_are_those_at_the_end_of_a_training_for_the_epochs_at_both_batch_sizes(rate, optimizer):
    workload = tiny(learning_rate=rate, learning_rates=(rate,), optimizer=optimizer)
    rows = measure(workload, blobs(), cell(workload))
    for replica, row in rows.iterrows():
        for size, column in ((workload.small, "small_loss"), (workload.large, "train_loss")):
            split = workload.replica_data(blobs(), replica)
            _, evaluations = trained(
                workload, split, Protocol(rate, EqualEpochs(3), optimizer=optimizer), size, replica
            )
            assert row[column] == pytest.approx(evaluations["train_loss"].iloc[-1], rel=1e-6)
    assert (rows["updates"] == 3 * 3).all()
    assert (rows["small_updates"] == 3 * 40).all()


def test_a_slow_training_reaches_the_small_batchs_loss_within_its_updates():
    rows = measure(tiny(), blobs(), cell(tiny()))
    assert (rows["further_loss"] <= rows["small_loss"]).all()
    assert (rows["further_updates"] <= rows["small_updates"]).all()
    assert (rows["train_loss"] > rows["small_loss"]).all()


def test_a_training_stuck_at_a_saddle_stays_there_and_its_eigenvalues_have_both_signs():
    """(1 - w1 w2)^2 at 0 has the Hessian [[0, -2], [-2, 0]]; the full batch has no noise that would leave it."""
    workload = saddle(small=8, large=64, epochs=6)
    rows = measure(workload, workload.load(), cell(workload, 6))
    assert rows["further_loss"].to_list() == pytest.approx([1, 1])
    assert (rows["small_loss"] < 0.9).all()
    assert rows["gradient_norm"].to_list() == pytest.approx([0, 0], abs=1e-6)
    assert rows["smallest"].to_list() == pytest.approx([-2, -2], rel=1e-5)
    assert rows["largest"].to_list() == pytest.approx([2, 2], rel=1e-5)


def test_a_diverging_training_has_that_status():
    workload = tiny(model=lambda: torch.nn.Linear(4, 3), learning_rate=1e9, learning_rates=(1e9,))
    assert set(measure(workload, blobs(), cell(workload))["status"]) == {"diverged"}
