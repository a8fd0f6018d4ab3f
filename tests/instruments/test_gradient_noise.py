import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from suite.cells import NO_BATCH_SIZE, Cell
from suite.instruments.gradient_noise import (
    GRADIENT_NOISE,
    GRADIENT_VARIANCE,
    STAGES,
    batch_gradient,
    measure_noise,
    measure_variance,
    noise_scale_from_two_batch_sizes,
    sampled_batches,
    sampled_noise,
    stages,
    theoretical_noise,
)
from suite.instruments.gradient_pass import gradient_statistics
from suite.optimizers import adam, adamw, sgd
from suite.training.learning_rate import FIXED, AdamSde
from suite.training.plain import trained
from suite.training.protocol import EqualEpochs, Protocol, TenthOfTraining
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, network, tiny

PROTOCOL = Protocol(0.1, TenthOfTraining(10, 4))


def each_gradient(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Gradient of every example's loss, [N, P], by autograd, one after another."""
    gradients = []
    for i in range(len(inputs)):
        model.zero_grad()
        cross_entropy(model(inputs[i : i + 1]), targets[i : i + 1]).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return torch.stack(gradients)


@pytest.mark.parametrize("batch_size", range(1, 9))
def test_the_theory_is_the_mean_over_all_batches_there_are(batch_size):
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    gradients = each_gradient(model, data.train_inputs[:8].double(), data.train_targets[:8])
    mean = gradients.mean(dim=0)
    squares = [
        (gradients[list(batch)].mean(dim=0) - mean).square().sum().item()
        for batch in itertools.combinations(range(8), batch_size)
    ]
    variance = (gradients - mean).square().sum().item() / 7
    expected = theoretical_noise(variance, batch_size, examples=8)
    assert math.isclose(math.sqrt(np.mean(squares)), expected, rel_tol=1e-9, abs_tol=1e-12)


def test_the_full_batch_has_no_noise():
    assert theoretical_noise(3.0, 40, examples=40) == 0


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8, 16, 30, 39])
def test_sampled_batches_scatter_as_the_theory_says(batch_size):
    """The mean of 400 squares |g_B - G|^2 lies within its 99% interval around the formula."""
    torch.manual_seed(0)
    model, data = network(), blobs()
    examples = (data.train_inputs, data.train_targets)
    statistics = gradient_statistics(model, cross_entropy, *examples)
    generator = torch.Generator().manual_seed(1)
    squares = [sampled_noise(model, cross_entropy, *examples, batch_size, 1, generator) ** 2 for _ in range(400)]
    half = stats.t.ppf(0.995, 399) * np.std(squares, ddof=1) / math.sqrt(400)
    assert abs(np.mean(squares) - theoretical_noise(statistics.variance, batch_size, 40) ** 2) < half


@pytest.mark.parametrize("replaced", [True, False])
def test_two_batch_sizes_tell_the_noise_scale(replaced):
    """Both expectations are exact: over squares that are known, the estimate is the truth."""
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    examples = (data.train_inputs.double(), data.train_targets)
    statistics = gradient_statistics(model, cross_entropy, *examples)
    population = statistics.variance * (39 / 40 if replaced else 1)
    squares = {
        size: statistics.squared_norm + population / size * (1 if replaced else 1 - size / 40) for size in (2, 20)
    }
    found = noise_scale_from_two_batch_sizes([squares[2]] * 2, [squares[20]] * 2, (2, 20), None if replaced else 40)
    assert math.isclose(found.estimate, population / statistics.squared_norm, rel_tol=1e-9)


def test_sampled_batches_of_two_sizes_tell_it_within_its_interval():
    torch.manual_seed(0)
    model, data = network(), blobs()
    examples = (data.train_inputs, data.train_targets)
    generator = torch.Generator().manual_seed(2)

    def squares(batch_size: int) -> list[float]:
        batches = [torch.randperm(40, generator=generator)[:batch_size] for _ in range(500)]
        return [
            batch_gradient(model, cross_entropy, *(part[batch] for part in examples)).square().sum().item()
            for batch in batches
        ]

    found = noise_scale_from_two_batch_sizes(squares(2), squares(20), (2, 20), examples=40)
    assert found.low < gradient_statistics(model, cross_entropy, *examples).noise_scale < found.high


def test_the_batch_gradient_is_that_of_the_mean_loss():
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    inputs, targets = data.train_inputs[:5].double(), data.train_targets[:5]
    expected = each_gradient(model, inputs, targets).mean(dim=0)
    torch.testing.assert_close(batch_gradient(model, cross_entropy, inputs, targets), expected)


def test_a_sample_of_everything_is_off_by_rounding_alone():
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    generator = torch.Generator().manual_seed(1)
    assert (
        sampled_noise(model, cross_entropy, data.train_inputs.double(), data.train_targets, 40, 1, generator) < 1e-14
    )


def test_fewer_of_the_large_batches_are_sampled():
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
