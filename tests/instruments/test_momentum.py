"""Heavy ball against its closed forms (Goh 2017; Kidambi et al. 2018), all through the ensemble."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from suite.instruments import fitted_weights, growth, weighted_sums
from suite.optimizers import sgd
from suite.training.ensemble import Ensemble
from suite.workloads import find
from tests.training.constructed import quadratic, workload


def positions(curvatures, rates, momenta, updates: int) -> torch.Tensor:
    """Where replicas with their own rates and momenta [R] stand on sum_j h_j x_j^2 / 2, from ones, in double
    precision: [updates + 1, R, P]."""
    toy = quadratic(torch.tensor(curvatures, dtype=torch.float64))
    data, single = toy.load(), toy.model
    toy = replace(toy, model=lambda: single().double())
    ensemble = Ensemble(toy, [0] * len(rates), rates, sgd(), varied={"momentum": momenta})
    (vector,) = ensemble.parameters.values()
    inputs = data.train_inputs.double()
    seen = [vector.clone()]
    for _ in range(updates):
        ensemble.update(inputs, data.train_targets.double(), torch.arange(1).expand(len(rates), -1))
        seen.append(vector.clone())
    return torch.stack(seen)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_heavy_ball_is_stable_exactly_below_its_limit(momentum):
    limit = 2 * (1 + momentum) / 0.5
    below, above = positions([0.5], [0.99 * limit, 1.01 * limit], [momentum] * 2, 3000)[-1, :, 0].abs()
    assert below < 0.1
    assert above > 10
    assert growth(0.99 * limit, momentum, 0.5) < 1 < growth(1.01 * limit, momentum, 0.5)


@pytest.mark.parametrize("damping", [0.04, 0.25, 0.64])
def test_heavy_ball_oscillates_from_the_critical_momentum_on(damping):
    critical = (1 - math.sqrt(damping)) ** 2
    path = positions([1.0], [damping] * 2, [critical - 0.02, critical + 0.02], 300)[:, :, 0]
    assert (path[:, 0] > 0).all()
    assert (path[:, 1] < 0).any()
    assert growth(damping, critical, 1.0) == pytest.approx(math.sqrt(critical))


def best(condition: float) -> tuple[float, float]:
    """Heavy ball's best rate and momentum for curvatures from 1 to `condition`."""
    root = math.sqrt(condition)
    return (2 / (root + 1)) ** 2, ((root - 1) / (root + 1)) ** 2


def test_the_best_rates_at_a_condition_number_of_100():
    """As spectral radius. After 100 updates heavy ball is still slower than its limit: its slowest root is double."""
    rate, momentum = best(100)
    assert max(growth(rate, momentum, h) for h in (1, 10, 100)) == pytest.approx(9 / 11, abs=1e-6)
    assert max(growth(2 / 101, 0, h) for h in (1, 10, 100)) == pytest.approx(99 / 101)
    distance = positions([1.0, 100.0], [rate], [momentum], 100)[-1, 0].norm() / math.sqrt(2)
    assert distance ** (1 / 100) == pytest.approx(0.859, abs=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_constant_gradient_moves_heavy_ball_by_the_closed_form(momentum):
    slope, rate, updates = 0.3, 0.1, 40
    toy = workload("line", torch.zeros(2, 1), torch.zeros(1), lambda x, inputs: slope * x.sum() + inputs[:, 0])
    ensemble = Ensemble(toy, [0], rate, sgd(momentum))
    data = toy.load()
    for _ in range(updates):
        ensemble.update(data.train_inputs, data.train_targets, torch.arange(2).expand(1, -1))
    expected = -rate * slope / (1 - momentum) * (updates - momentum * (1 - momentum**updates) / (1 - momentum))
    assert ensemble.parameters["vector"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("rate", "momentum"), [(0.1, 0.0), (0.1, 0.9), (0.5, 0.5)])
def test_the_variance_of_heavy_ball_under_noise(rate, momentum):
    """Var x = (1 + lambda) eta c / [B (1 - lambda) h (2 (1 + lambda) - eta h)] with c the variance of an example's
    gradient; independent batches of 4. A mean over 5,000 replicas at 20 distant times errs by some 0.5%."""
    noise = torch.tensor([-1.0, 1.0])[:, None]
    toy = workload("noisy", noise, torch.zeros(1), lambda x, inputs: x.square().sum() / 2 + inputs[:, 0] * x.sum())
    ensemble = Ensemble(toy, [0] * 5000, rate, sgd(momentum))
    data, generator = toy.load(), torch.Generator().manual_seed(1)
    seen = []
    for updates in range(1, 2001):
        ensemble.update(data.train_inputs, data.train_targets, torch.randint(2, (5000, 4), generator=generator))
        if updates % 100 == 0 and updates > 200:
            seen.append(ensemble.parameters["vector"].square().mean().item())
    expected = (1 + momentum) * rate / (4 * (1 - momentum) * (2 * (1 + momentum) - rate))
    assert np.mean(seen) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_rule_is_the_lectures_while_the_rate_is_constant_and_torchs_when_it_changes(nesterov):
    """The lecture keeps m = λ m - η g, torch b = λ b + g, and steps -η b. When the rate changes, the lecture
    keeps the rest of the last movement as it is, and torch rescales it by the change."""
    optimizer = sgd(momentum=0.9, nesterov=nesterov)

    def walk(rates):
        ensemble = Ensemble(quadratic(torch.ones(1)), [0], rates[0], optimizer)
        point = torch.ones(1, requires_grad=True)
        torchs = torch.optim.SGD([point], rates[0], momentum=0.9, nesterov=nesterov)
        lecture, movement = 1.0, 0.0
        examples = torch.zeros(64, 1), torch.zeros(64)
        for rate in rates:
            ensemble.learning_rates.fill_(rate)
            ensemble.update(*examples, torch.arange(2).expand(1, -1))
            torchs.param_groups[0]["lr"] = rate
            point.grad = point.detach().clone()
            torchs.step()
            gradient = lecture
            movement = 0.9 * movement - rate * gradient
            lecture += 0.9 * movement - rate * gradient if nesterov else movement
        return ensemble.parameters["vector"].item(), point.item(), lecture

    end, torchs, lecture = walk([0.01] * 10)
    assert end == pytest.approx(torchs, rel=1e-6)
    assert end == pytest.approx(lecture, rel=1e-6)
    last = end - walk([0.01] * 9)[0]
    end, torchs, lecture = walk([0.01] * 10 + [0.001])
    assert end == pytest.approx(torchs, rel=1e-6)
    if not nesterov:
        assert lecture - end == pytest.approx(0.9 * last * (1 - 0.001 / 0.01), rel=1e-3)


def test_the_sum_is_that_of_the_recursion():
    gradients = torch.randn(12, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    movement, movements = torch.zeros(7, dtype=torch.float64), []
    for gradient in gradients:
        movement = 0.9 * movement - 0.1 * gradient
        movements.append(movement)
    torch.testing.assert_close(weighted_sums(gradients, 0.1, 0.9), torch.stack(movements))


def test_the_fit_recovers_any_weights():
    """Not only powers: the fit does not know the rule."""
    gradients = torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([[1, 0, 0], [0.3, 1, 0], [0.7, -0.2, 1.0]], dtype=torch.float64)
    fitted = fitted_weights(-0.1 * weights @ gradients, gradients, 0.1)
    grid = fitted.pivot(index="updates", columns="gradient", values="weight").fillna(0)
    np.testing.assert_allclose(grid, weights, atol=1e-12)


def test_with_momentum_changes_groups_too():
    optimizer = sgd(momentum=0.9).group("*.bias", momentum=0.9, dampening=0.5, weight_decay=0.1)
    (group,) = optimizer.with_momentum(0.0).groups
    assert dict(group.hyperparameters) == {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.1}
    assert optimizer.with_momentum(0.0).momentum == 0
    (group,) = sgd(momentum=0.9).group("*.bias", nesterov=True).with_momentum(0.0).groups
    assert dict(group.hyperparameters) == {"nesterov": False}


def test_plain_sgd_and_momentum_agree_at_the_matched_rate_while_it_is_small():
    """On digits, after 400 updates on the same batch: they differ by the lag of momentum, or by several times as
    much."""
    digits = find("digits")
    data = digits.load()

    def difference(rate: float) -> float:
        pair = Ensemble(digits, [0, 0], [rate, rate / 10], sgd(), varied={"momentum": [0.0, 0.9]})
        start = pair.parameters["0.weight"][0].clone()
        for _ in range(400):
            pair.update(data.train_inputs, data.train_targets, torch.arange(256).expand(2, -1))
        plain, heavy = pair.parameters["0.weight"]
        return ((plain - heavy).norm() / (plain - start).norm()).item()

    assert difference(0.01) < 0.1
    assert difference(2.0) > 4 * difference(0.01)
