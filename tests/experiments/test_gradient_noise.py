import numpy as np
import pytest
import torch
from torch import nn

from suite.experiments.cell import NO_BATCH_SIZE, Cell
from suite.experiments.gradient_noise import (
    GRADIENT_NOISE,
    GRADIENT_VARIANCE,
    STAGES,
    measure_noise,
    measure_variance,
    sampled_batches,
    stages,
)
from suite.optimizers import adam, adamw, sgd
from suite.training.budgets import EqualEpochs, TenthOfTraining
from suite.training.learning_rate import FIXED, AdamSde
from suite.training.plain import trained
from suite.training.protocol import Protocol
from tests.conftest import blobs, tiny

PROTOCOL = Protocol(0.1, TenthOfTraining(10, 4))


def test_fewer_large_batches_are_sampled():
    assert [sampled_batches(size, 60_000) for size in (1, 1000, 10_000, 60_000)] == [100, 50, 8, 1]


def test_every_batch_size_is_measured_at_the_same_parameters():
    noise = [
        measure_noise(tiny(), blobs(), Cell(GRADIENT_NOISE, "tiny", "cpu", size, 2, PROTOCOL)) for size in (1, 16)
    ]
    variance = measure_variance(tiny(), blobs(), Cell(GRADIENT_VARIANCE, "tiny", "cpu", NO_BATCH_SIZE, 2, PROTOCOL))
    assert noise[0]["stage"].tolist() == [*STAGES, *STAGES]
    assert noise[0]["gradient_norm"].tolist() == noise[1]["gradient_norm"].tolist()
    np.testing.assert_allclose(noise[0]["gradient_norm"], variance["gradient_norm"], rtol=1e-5)
    assert noise[0]["gradient_norm"].nunique() == 4
    assert noise[0]["relative_noise"].equals(noise[0]["noise"] / noise[0]["gradient_norm"])


def test_the_parameters_are_the_same_at_every_batch_size_with_dropout_too():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)))
    norms = [
        measure_noise(workload, blobs(), Cell(GRADIENT_NOISE, "tiny", "cpu", size, 2, PROTOCOL))["gradient_norm"]
        for size in (1, 16)
    ]
    assert norms[0].equals(norms[1])


@pytest.mark.parametrize(
    ("rate", "rule", "optimizer"),
    [
        (0.1, FIXED, sgd()),
        (0.02, FIXED, sgd(momentum=0.9, weight_decay=0.1)),
        (0.02, FIXED, sgd(momentum=0.9, nesterov=True)),
        (0.01, FIXED, adam()),
        (0.01, FIXED, adamw(weight_decay=0.1).group("*.bias", weight_decay=0)),
        (0.01, AdamSde(4), adam()),
    ],
)
def test_a_tenth_of_training_is_trained_with_the_protocols_optimizer(rate, rule, optimizer):
    """Of ten epochs: one."""
    workload, protocol = tiny(), Protocol(rate, TenthOfTraining(10, 4), rule, optimizer)
    cell = Cell(GRADIENT_VARIANCE, "tiny", "cpu", NO_BATCH_SIZE, 2, protocol)
    for replica, stage, split, model in stages(workload, blobs(), cell):
        epochs = EqualEpochs(1 if stage == STAGES[1] else 0)
        expected, _ = trained(workload, split, Protocol(rate, epochs, rule, optimizer), 4, replica)
        assert all(map(torch.equal, model.parameters(), expected.parameters()))


def test_each_base_seed_samples_its_own_batches():
    """Of the same examples and at the same parameters."""

    def noise(base_seed: int) -> float:
        workload = tiny(resplit=False, base_seed=base_seed, model=lambda: tiny().initial_model(0))
        rows = measure_noise(workload, blobs(), Cell(GRADIENT_NOISE, "tiny", "cpu", 4, 1, PROTOCOL))
        return rows["noise"].iloc[0]

    assert noise(1) == noise(1)
    assert noise(1) != noise(2)
