"""The running average of parameters against torch's, against its closed form, and on a noisy quadratic."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from suite.backends import CPU
from suite.statistics import value_at_crossing
from suite.training.average import POWER, RunningAverage
from suite.training.budgets import TargetLoss
from suite.training.compile_policy import CompilePolicy
from suite.training.engine import Engine
from suite.training.protocol import Protocol
from tests.training.constructed import Point, noisy_quadratic


def tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def test_parameters_and_buffers_are_averaged_as_by_torch():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    averaged = copy.deepcopy(model)
    average = RunningAverage(tensors(model), tensors(averaged))
    reference = AveragedModel(
        model,
        avg_fn=lambda mean, value, count: mean + (POWER + 1) / (count + 1 + POWER) * (value - mean),
        use_buffers=True,
    )
    for _ in range(20):
        for value in tensors(model):
            with torch.no_grad():
                value.add_(torch.randint(1, 5, value.shape).to(value.dtype))
        average.update()
        reference.update_parameters(model)
    for value, expected in zip(averaged.parameters(), reference.module.parameters(), strict=True):
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(averaged[1].running_mean, reference.module[1].running_mean)
    assert averaged[1].num_batches_tracked == model[1].num_batches_tracked


def test_weights_grow_like_a_power_of_the_update():
    value, mean = torch.zeros(200, dtype=torch.float64), torch.zeros(200, dtype=torch.float64)
    average = RunningAverage([value], [mean])
    for update in range(200):
        value.zero_()[update] = 1
        average.update()
    expected = np.cumprod([1, *[(t + POWER) / t for t in range(1, 200)]])
    np.testing.assert_allclose(mean.numpy(), expected / expected.sum(), rtol=1e-9)
    assert mean[100:].sum() == pytest.approx(1 - 0.5 ** (POWER + 1), abs=0.01)


RATE, TARGET = 0.3, 0.1
GROWTHS = (1.02, 1.1, 1.2)


def updates_to_target(growth: float, averaged: bool, replicas: int = 40) -> float:
    """Median over `replicas` of the updates with batch size 1 until the loss of a noisy quadratic, above its minimum,
    is TARGET."""
    workload = noisy_quadratic(learning_rate=RATE, learning_rates=(RATE,))
    data, least = workload.load(), float(least_loss(workload))
    budget = TargetLoss(least + TARGET, max_updates=3000, growth=growth)
    protocol = Protocol(RATE, budget, averaged=averaged, with_replacement=True)
    policy = CompilePolicy({}, work=0, guessed=False)
    histories = Engine(CPU, replicas).train(workload, data, [protocol] * replicas, 1, range(replicas), policy)
    crossings = [
        value_at_crossing(
            [evaluation[1] for evaluation in history], [evaluation[0] for evaluation in history], budget.loss
        )
        for history in histories
    ]
    return float(np.median(crossings))


def least_loss(workload) -> torch.Tensor:
    """The mean loss at the minimum, the mean of the centres, which is 0."""
    inputs = workload.load().train_inputs
    return workload.loss(Point(torch.zeros(10), workload.model().outputs)(inputs), None).mean().detach()


def expected_updates_to_target() -> float:
    """Where the expected loss of the averaged parameters crosses TARGET, from the linear recursion
    x <- (1 - rate h) x + rate h a of each coordinate, with a drawn independently."""
    inputs = noisy_quadratic().load().train_inputs.double().numpy()
    variances, curvatures, losses = inputs.var(axis=0), np.logspace(-2, 0, 10), []
    factors = 1 - RATE * curvatures
    weights = np.cumprod([1, *[(t + POWER) / t for t in range(1, 400)]])
    for last in range(1, 400):
        w = weights[:last] / weights[:last].sum()
        powers = factors[:, None] ** np.arange(last)
        mean = 3 * (factors[:, None] * powers) @ w
        kept = np.array([np.convolve(w[::-1], power)[:last][::-1] for power in powers])
        variance = ((RATE * curvatures[:, None] * kept) ** 2).sum(axis=1) * variances
        losses.append(float((curvatures * (mean**2 + variance)).sum() / 2))
    return value_at_crossing(losses, range(1, 400), TARGET)


def test_updates_to_a_target_hardly_depend_on_the_evaluation_schedule_of_averaged_parameters():
    averaged = [updates_to_target(growth, averaged=True) for growth in GROWTHS]
    assert averaged == pytest.approx([expected_updates_to_target()] * 3, rel=0.05)
    last_iterate = [updates_to_target(growth, averaged=False) for growth in GROWTHS]
    assert max(last_iterate) > 1.1 * min(last_iterate)
