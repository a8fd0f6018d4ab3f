import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from suite.cells import NO_BATCH_SIZE, Cell
from suite.instruments.gradient_noise import (
    GRADIENT_NOISE,
    GRADIENT_VARIANCE,
    STAGES,
    batch_gradient,
    measure_noise,
    measure_variance,
    per_example_variance,
    sampled_batches,
    sampled_noise,
    theoretical_noise,
)
from suite.training.protocol import Protocol, TenthOfTraining
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, network, tiny

PROTOCOL = Protocol(0.1, TenthOfTraining(10, 4))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(9, 3))


class Stubborn(nn.Module):
    """A network that vmap cannot run: it looks at a value."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.layer(inputs) if inputs.sum().item() > -1e9 else inputs


def each_gradient(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Gradient of every example's loss, [N, P], by autograd, one after another."""
    gradients = []
    for i in range(len(inputs)):
        model.zero_grad()
        cross_entropy(model(inputs[i : i + 1]), targets[i : i + 1]).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return torch.stack(gradients)


@pytest.mark.parametrize("make", [network, convolutional, Stubborn])
def test_the_variance_is_that_of_every_examples_own_gradient(make):
    torch.manual_seed(0)
    model, data = make().double(), blobs()
    gradients = each_gradient(model, data.train_inputs.double(), data.train_targets)
    plain = (gradients - gradients.mean(dim=0)).square().sum().item() / (len(gradients) - 1)
    fast = per_example_variance(model, cross_entropy, data.train_inputs.double(), data.train_targets, chunk_size=7)
    assert math.isclose(fast, plain, rel_tol=1e-10)


def test_single_precision_is_enough_for_the_variance():
    torch.manual_seed(0)
    model, data = network(), blobs()
    fast = per_example_variance(model, cross_entropy, data.train_inputs, data.train_targets)
    gradients = each_gradient(model.double(), data.train_inputs.double(), data.train_targets)
    plain = (gradients - gradients.mean(dim=0)).square().sum().item() / (len(gradients) - 1)
    assert math.isclose(fast, plain, rel_tol=1e-5)


def test_frozen_parameters_have_no_share_in_the_noise():
    """Freezing the first layer leaves the gradients of the second, the last 8 * 3 + 3 parameters."""
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    examples = (data.train_inputs.double(), data.train_targets)
    of_the_second = each_gradient(model, *examples)[:, -27:]
    plain = (of_the_second - of_the_second.mean(dim=0)).square().sum().item() / 39
    model[0].requires_grad_(False)
    assert math.isclose(per_example_variance(model, cross_entropy, *examples), plain, rel_tol=1e-10)


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


def test_sampled_batches_scatter_as_the_theory_says():
    """The mean of 4,000 squares is known to about 3%: their relative deviation is 1.3 here."""
    torch.manual_seed(0)
    model, data = network(), blobs()
    examples = (data.train_inputs, data.train_targets)
    variance = per_example_variance(model, cross_entropy, *examples)
    generator = torch.Generator().manual_seed(1)
    sampled = sampled_noise(model, cross_entropy, *examples, 4, 4000, generator)
    assert math.isclose(sampled**2, theoretical_noise(variance, 4, 40) ** 2, rel_tol=0.08)


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
    assert [sampled_batches(size, 60_000) for size in (1, 1000, 10_000, 60_000)] == [200, 200, 20, 1]


def test_every_batch_size_is_measured_at_the_same_parameters():
    noise = [
        measure_noise(tiny(), blobs(), Cell(GRADIENT_NOISE, "tiny", "cpu", size, 2, PROTOCOL)) for size in (1, 16)
    ]
    variance = measure_variance(tiny(), blobs(), Cell(GRADIENT_VARIANCE, "tiny", "cpu", NO_BATCH_SIZE, 2, PROTOCOL))
    assert noise[0]["stage"].tolist() == [*STAGES, *STAGES]
    assert noise[0]["gradient_norm"].tolist() == noise[1]["gradient_norm"].tolist()
    assert noise[0]["gradient_norm"].tolist() == variance["gradient_norm"].tolist()
    assert noise[0]["gradient_norm"].nunique() == 4
    assert noise[0]["relative_noise"].equals(noise[0]["noise"] / noise[0]["gradient_norm"])


def test_the_parameters_are_the_same_at_every_batch_size_with_dropout_too():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)))
    norms = [
        measure_noise(workload, blobs(), Cell(GRADIENT_NOISE, "tiny", "cpu", size, 2, PROTOCOL))["gradient_norm"]
        for size in (1, 16)
    ]
    assert norms[0].equals(norms[1])
