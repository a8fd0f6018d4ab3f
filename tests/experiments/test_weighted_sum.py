"""Recorded movements against the weighted sums of past gradients."""

import pandas as pd
import pytest
import torch

from suite.experiments.cell import Cell
from suite.experiments.weighted_sum import (
    MAX_UPDATES,
    WEIGHTED_SUM,
    last_weights,
    measure,
    record_movements,
    relative_distances,
)
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from tests.conftest import blobs, tiny


@pytest.mark.parametrize("optimizer", [sgd(), sgd(momentum=0.9), adam(), adamw(betas=(0.5, 0.99))], ids=str)
def test_the_weight_of_the_last_gradient_is_that_of_torchs_optimizer(optimizer):
    """In double precision: gradients of zero, then a gradient of 1; Adam's average with its bias corrected."""
    parameter = torch.nn.Linear(1, 1, bias=False).double()
    torch_optimizer = optimizer.changed(weight_decay=0).make(parameter, 0.1)
    weights = []
    for updates in range(1, 8):
        torch_optimizer.state.clear()
        for number in range(1, updates + 1):
            parameter.weight.grad = torch.full((1, 1), float(number == updates), dtype=torch.float64)
            before = parameter.weight.item()
            torch_optimizer.step()
        scale = optimizer.form.scale(torch_optimizer.state[parameter.weight], dict(optimizer.hyperparameters))
        weights.append(float((before - parameter.weight.item()) * scale / 0.1))
    assert last_weights(optimizer, 7).tolist() == pytest.approx(weights)


OPTIMIZERS = {
    "sgd": (0.1, sgd()),
    "sgd, weight decay": (0.1, sgd(weight_decay=0.1)),
    "momentum": (0.1, sgd(momentum=0.9)),
    "momentum, weight decay": (0.1, sgd(momentum=0.9, weight_decay=0.1)),
    "momentum, groups": (0.1, sgd(momentum=0.9, weight_decay=0.1).group("*.bias", weight_decay=0, lr_scale=0.5)),
    "adam without momentum": (0.01, adam(betas=(0.0, 0.999))),
    "adam": (0.01, adam()),
    "adam, weight decay": (0.01, adam(weight_decay=0.1)),
    "adamw": (0.01, adamw(weight_decay=0.1)),
    "adamw, groups": (0.01, adamw(weight_decay=0.1).group("*.bias", weight_decay=0, lr_scale=0.5)),
}


def sums(rate: float, optimizer, replicas: int) -> pd.DataFrame:
    protocol = Protocol(rate, EqualEpochs(3), optimizer=optimizer)
    rows = measure(tiny(), blobs(), Cell(WEIGHTED_SUM, "tiny", "cpu", 4, replicas, protocol))
    return rows[rows["stage"] == "sum"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_movement_of_a_training_lies_within_rounding_of_the_sum(name):
    rate, optimizer = OPTIMIZERS[name]
    rows = sums(rate, optimizer, 3)
    assert set(rows["seed"]) == {0, 1, 2}
    assert (rows["error"] < rows["bound"]).all()
    later = rows[rows["updates"] > 5]
    if optimizer.momentum:
        assert (later["alone"] > 0.3).all()
    else:
        assert (later["alone"] < later["bound"]).all()


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_a_wrong_weight_is_far_outside_rounding(name):
    """The check can fail: weights of λ = 0.899 instead of 0.9."""
    rate, optimizer = OPTIMIZERS[name]
    protocol = Protocol(rate, EqualEpochs(3), optimizer=optimizer)
    recorded = record_movements(tiny(), blobs().resplit(0), protocol, 4, replica=0, updates=MAX_UPDATES)
    weights = last_weights(optimizer, MAX_UPDATES)
    right, wrong = (relative_distances(recorded, weights, rate, momentum).iloc[-1] for momentum in (0.9, 0.899))
    assert right["error"] < right["bound"]
    assert wrong["error"] > 10 * max(right["bound"], wrong["bound"])


@pytest.mark.parametrize("name", ["momentum, weight decay", "adam, weight decay", "adamw"])
def test_another_weight_decay_is_far_outside_rounding(monkeypatch, name):
    """The check can fail: the parameters shrink by another weight decay than the one that the movements allow for."""
    rate, optimizer = OPTIMIZERS[name]
    changed, make = optimizer.changed(weight_decay=0.09), Optimizer.make
    monkeypatch.setattr(Optimizer, "make", lambda _, model, learning_rate: make(changed, model, learning_rate))
    rows = sums(rate, optimizer, 1)
    assert (rows["error"] > 10 * rows["bound"]).all()


def test_a_group_that_does_not_move_is_no_part_of_a_movement():
    optimizer = sgd(momentum=0.9).group("*.bias", lr_scale=0)
    recorded = record_movements(
        tiny(), blobs(), Protocol(0.1, EqualEpochs(3), optimizer=optimizer), 4, replica=0, updates=3
    )
    for biases in (slice(32, 40), slice(64, 67)):
        assert not recorded.movements[:, biases].any()
        assert not recorded.gradients[:, biases].any()
    rows = sums(0.1, optimizer, 1)
    assert (rows["error"] < rows["bound"]).all()
