import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from suite.instruments import (
    batch_gradient,
    gradient_statistics,
    noise_scale_from_two_batch_sizes,
    sampled_noise,
    theoretical_noise,
)
from suite.instruments.gradient_noise import effective_batch_size
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, network


def each_gradient(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Gradient of every example's loss, [N, P], by autograd, one after another."""
    gradients = []
    for i in range(len(inputs)):
        model.zero_grad()
        cross_entropy(model(inputs[i : i + 1]), targets[i : i + 1]).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return torch.stack(gradients)


@pytest.mark.parametrize("batch_size", range(1, 9))
def test_the_theory_is_the_mean_over_all_possible_batches(batch_size):
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

    def batch(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        indices = torch.randperm(40, generator=generator)[:batch_size]
        return tuple(part[indices] for part in parts)

    squares = [sampled_noise(model, cross_entropy, *examples, [batch(*examples)]) ** 2 for _ in range(400)]
    half = stats.t.ppf(0.995, 399) * np.std(squares, ddof=1) / math.sqrt(400)
    assert abs(np.mean(squares) - theoretical_noise(statistics.variance, batch_size, 40) ** 2) < half


@pytest.mark.parametrize("with_replacement", [True, False])
def test_two_batch_sizes_give_the_noise_scale(with_replacement):
    """Both expectations are exact: from the exact mean squares, the estimate is the exact noise scale."""
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    examples = (data.train_inputs.double(), data.train_targets)
    statistics = gradient_statistics(model, cross_entropy, *examples)
    population = statistics.variance * (39 / 40 if with_replacement else 1)
    squares = {
        size: statistics.squared_norm + population / size * (1 if with_replacement else 1 - size / 40)
        for size in (2, 20)
    }
    examples = None if with_replacement else 40
    interval = noise_scale_from_two_batch_sizes([squares[2]] * 2, [squares[20]] * 2, (2, 20), examples)
    assert math.isclose(interval.estimate, population / statistics.squared_norm, rel_tol=1e-9)


def test_the_interval_from_sampled_batches_of_two_sizes_contains_the_noise_scale():
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

    interval = noise_scale_from_two_batch_sizes(squares(2), squares(20), (2, 20), examples=40)
    assert interval.low < gradient_statistics(model, cross_entropy, *examples).noise_scale < interval.high


def test_the_batch_gradient_is_that_of_the_mean_loss():
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    inputs, targets = data.train_inputs[:5].double(), data.train_targets[:5]
    expected = each_gradient(model, inputs, targets).mean(dim=0)
    torch.testing.assert_close(batch_gradient(model, cross_entropy, inputs, targets), expected)


@pytest.mark.parametrize("batch_size", [1, 3, 39])
def test_examples_drawn_with_replacement_are_as_noisy_as_a_batch_of_the_effective_size(batch_size):
    """The population variance S² (N − 1) / N over the effective batch size is E|g_B − G|² of the batch."""
    with_replacement = 3.0 * 39 / 40 / effective_batch_size(batch_size, examples=40)
    assert math.isclose(with_replacement, theoretical_noise(3.0, batch_size, examples=40) ** 2)


def test_the_sampled_full_batch_has_no_noise_to_within_rounding():
    torch.manual_seed(0)
    model, data = network().double(), blobs()
    examples = (data.train_inputs.double(), data.train_targets)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert sampled_noise(model, cross_entropy, *examples, [tuple(part[order] for part in examples)]) < 1e-14
