import math

import numpy as np
import pytest
import torch
from torch import nn

from suite import seeds
from suite.cells import Cell
from suite.training.evaluate import evaluate
from suite.training.plain import TRAINING, measure, train
from suite.training.protocol import EqualEpochs, Protocol, TargetLoss
from tests.conftest import blobs, tiny


def curve_by_hand(batch_size: int, replica: int, learning_rate: float, epochs: int) -> list[tuple[float, ...]]:
    """Training and test loss and accuracy after each epoch, from a loop over torch.optim.SGD."""
    data = blobs().resplit(replica)
    torch.manual_seed(seeds.derive("initialisation", replica))
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    sgd = torch.optim.SGD(model.parameters(), lr=learning_rate)
    shuffles = torch.Generator().manual_seed(seeds.derive("shuffle", batch_size, replica))
    cross_entropy = nn.CrossEntropyLoss()
    curve = []
    for number in range(epochs + 1):
        if number > 0:
            order = torch.randperm(40, generator=shuffles)
            for start in range(0, 40, batch_size):
                batch = order[start : start + batch_size]
                sgd.zero_grad()
                cross_entropy(model(data.train_inputs[batch]), data.train_targets[batch]).backward()
                sgd.step()
        with torch.no_grad():
            train_outputs, test_outputs = model(data.train_inputs), model(data.test_inputs)
        curve.append(
            (
                cross_entropy(train_outputs, data.train_targets).item(),
                (train_outputs.argmax(1) == data.train_targets).double().mean().item(),
                cross_entropy(test_outputs, data.test_targets).item(),
                (test_outputs.argmax(1) == data.test_targets).double().mean().item(),
            )
        )
    return curve


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40])
@pytest.mark.parametrize("replica", [0, 3])
def test_the_curve_is_that_of_a_loop_written_by_hand(batch_size, replica):
    looks = train(tiny(), blobs().resplit(replica), Protocol(0.1, EqualEpochs(3)), batch_size, replica)
    measured = looks[["train_loss", "train_score", "test_loss", "test_score"]].to_numpy()
    np.testing.assert_allclose(measured, curve_by_hand(batch_size, replica, 0.1, 3), rtol=1e-6, atol=1e-7)
    assert looks["updates"].tolist() == [number * math.ceil(40 / batch_size) for number in range(4)]
    assert looks["epoch"].tolist() == [0, 1, 2, 3]
    assert set(looks["status"]) == {"ok"}


def test_training_to_a_target_ends_at_the_first_look_below_it():
    looks = train(tiny(), blobs(), Protocol(0.1, TargetLoss(0.5, 500)), batch_size=4, replica=0)
    assert looks["train_loss"].iloc[-1] <= 0.5
    assert (looks["train_loss"].iloc[:-1] > 0.5).all()
    assert set(looks["status"]) == {"ok"}


def test_a_target_beyond_the_cap_is_not_reached():
    looks = train(tiny(), blobs(), Protocol(0.1, TargetLoss(0.5, 3)), batch_size=16, replica=0)
    assert looks["updates"].iloc[-1] == 3
    assert set(looks["status"]) == {"target_not_reached"}


def test_a_huge_rate_diverges():
    looks = train(tiny(), blobs(), Protocol(1e4, EqualEpochs(3)), batch_size=4, replica=0)
    assert set(looks["status"]) == {"diverged"}


def test_a_replica_starts_from_the_same_parameters_and_split_at_every_batch_size():
    cells = [Cell(TRAINING, "tiny", "cpu", size, 2, Protocol(0.1, EqualEpochs(1))) for size in (1, 16)]
    starts = [measure(tiny(), blobs(), cell).query("updates == 0").drop(columns="status") for cell in cells]
    np.testing.assert_array_equal(starts[0].to_numpy(), starts[1].to_numpy())
    assert starts[0]["train_loss"].nunique() == 2


def test_evaluation_is_in_evaluation_mode_and_leaves_the_mode_as_it_was():
    workload = tiny(model=lambda: nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 3)))
    model, data = workload.initial_model(0).train(), blobs()
    first, second = (evaluate(workload, model, data.train_inputs, data.train_targets) for _ in range(2))
    assert first == second
    assert model.training
