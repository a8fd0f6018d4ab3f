import math

import pandas as pd
import pytest
import torch
from torch import nn

from suite.backends import CPU
from suite.experiments.cell import Cell
from suite.experiments.edge_of_stability import EDGE_OF_STABILITY, START, measure, squared_loss
from suite.instruments import LossSurface, largest_eigenvalue
from suite.optimizers import adamw
from suite.training.epoch import resident_batches
from suite.training.update import update
from suite.workloads import Workload
from tests.conftest import blobs, network, tiny

EVALUATED = (300, 350, 400)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """So few updates settle on a tiny model."""
    monkeypatch.setattr("suite.experiments.edge_of_stability.EVALUATED", EVALUATED)


def cell(batch_size: int, seeds: int = 2) -> Cell:
    return Cell(EDGE_OF_STABILITY, "tiny", "cpu", batch_size, seeds)


def initial_surface(workload: Workload, replica: int) -> LossSurface:
    split = workload.replica_data(blobs(), replica)
    return LossSurface(workload.initial_model(replica), squared_loss, split.train_inputs, split.train_targets)


def test_the_squared_loss_is_half_the_squared_distance_to_the_one_hot_target():
    outputs = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, -1.0]])
    assert squared_loss(outputs, torch.tensor([0, 1])).tolist() == [0, 0.5 * (1 + 1 + 1)]


def test_the_full_batch_ends_at_the_edge_of_stability_and_a_small_one_below_it():
    """Cohen et al. 2021."""
    full, small = (measure(tiny(), blobs(), cell(batch_size)) for batch_size in (40, 8))
    scaled = [(rows["largest_eigenvalue"] * rows["learning_rate"] / 2).mean() for rows in (full, small)]
    assert scaled[0] == pytest.approx(1, abs=0.1)
    assert scaled[1] < 0.8


def test_the_rate_puts_the_initial_eigenvalue_beyond_the_edge_and_is_the_same_at_every_batch_size():
    rates = [measure(tiny(), blobs(), cell(size)).groupby("seed")["learning_rate"].first() for size in (4, 16)]
    assert rates[0].to_dict() == rates[1].to_dict()
    for replica, rate in rates[0].items():
        assert largest_eigenvalue(initial_surface(tiny(), replica)) * rate / 2 == pytest.approx(START, rel=1e-4)


def test_every_evaluation_is_that_of_a_training_by_plain_sgd_whatever_the_optimizer():
    workload = tiny(optimizer=adamw())
    rows = measure(workload, blobs(), cell(4, seeds=1))
    assert rows["updates"].tolist() == list(EVALUATED)
    model, split = workload.initial_model(0), workload.replica_data(blobs(), 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=rows["learning_rate"][0])
    generator, updates = workload.generator("shuffle", 4, 0), 0
    while updates < EVALUATED[0]:
        for batch in resident_batches(split.train_inputs, split.train_targets, 4, generator):
            update(CPU, model, squared_loss, optimizer, *batch)
            updates += 1
    surface = LossSurface(model, squared_loss, split.train_inputs, split.train_targets)
    assert rows["largest_eigenvalue"][0] == pytest.approx(largest_eigenvalue(surface), rel=1e-2)
    assert rows["train_loss"][0] == pytest.approx(surface.value(surface.parameters).item(), rel=1e-2)


def test_the_model_is_trained_in_evaluation_mode():
    def with_dropout() -> nn.Module:
        return nn.Sequential(*network(), nn.Dropout(0.9))

    rows, expected = (measure(tiny(model=model), blobs(), cell(40, seeds=1)) for model in (with_dropout, network))
    pd.testing.assert_frame_equal(rows, expected)


def test_a_loss_above_that_of_the_best_constant_output_has_diverged(monkeypatch):
    """A third of the examples in each class: its loss is 1/2 (1 - 3 / 9) = 1/3."""
    monkeypatch.setattr("suite.experiments.edge_of_stability.START", 50)
    rows = measure(tiny(), blobs(), cell(4))
    assert rows["updates"].tolist() == [EVALUATED[0]] * 2
    assert rows["status"].tolist() == ["diverged"] * 2
    assert all(math.isnan(loss) or loss > 0.33 for loss in rows["train_loss"])
    assert "largest_eigenvalue" not in rows
