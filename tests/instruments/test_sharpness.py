import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suite import seeds
from suite.backends import CPU
from suite.cells import Cell
from suite.instruments.sharpness import (
    SHARPNESS,
    LossSurface,
    invariant_sharpness,
    keskar_sharpness,
    largest_eigenvalue,
    measure,
    trace,
)
from suite.training.plain import trained
from suite.training.protocol import Protocol, TargetLoss
from suite.training.update import update
from suite.workloads import find
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, network, tiny


class Quadratic(nn.Module):
    """f(x) = 1/2 (x - centre) H (x - centre), the same for every example."""

    def __init__(self, curvature: torch.Tensor, point: torch.Tensor, centre: torch.Tensor):
        super().__init__()
        self.point = nn.Parameter(point)
        self.register_buffer("curvature", curvature)
        self.register_buffer("centre", centre)

    def forward(self, inputs):
        away = self.point - self.centre
        return (0.5 * away @ self.curvature @ away).expand(len(inputs))


def quadratic(curvature, point, centre=None) -> LossSurface:
    centre = point.clone() if centre is None else centre
    anything = torch.zeros(2, 1)
    return LossSurface(Quadratic(curvature, point, centre), lambda outputs, targets: outputs, anything, anything)


def curvatures(values: list[float]) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues, in a random basis."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[0]
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def trained_network() -> LossSurface:
    torch.manual_seed(0)
    model, data = network(), blobs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(50):
        update(CPU, model, cross_entropy, optimizer, data.train_inputs, data.train_targets)
    return LossSurface(model, cross_entropy, data.train_inputs, data.train_targets)


def dense_hessian(surface: LossSurface) -> torch.Tensor:
    return torch.autograd.functional.hessian(surface.value, surface.here)


@settings(max_examples=20)
@given(st.lists(st.floats(-3, 5), min_size=1, max_size=8))
def test_the_largest_eigenvalue_of_a_quadratic(values):
    surface = quadratic(curvatures(values), torch.zeros(len(values)).double())
    assert math.isclose(largest_eigenvalue(surface), max(values), rel_tol=1e-8, abs_tol=1e-8)


def test_the_largest_is_not_the_largest_in_magnitude():
    assert math.isclose(largest_eigenvalue(quadratic(curvatures([-9, 1, 2, 3]), torch.zeros(4).double())), 3)


def test_a_networks_eigenvalues_are_those_of_its_dense_hessian():
    surface = trained_network()
    hessian = dense_hessian(surface)
    size = torch.diag(surface.here.abs())
    assert math.isclose(largest_eigenvalue(surface), torch.linalg.eigvalsh(hessian)[-1].item(), rel_tol=1e-6)
    scaled = torch.linalg.eigvalsh(size @ hessian @ size)[-1].item()
    assert math.isclose(invariant_sharpness(surface), scaled, rel_tol=1e-6)


def test_the_trace_lies_in_its_interval_and_is_exact_for_a_diagonal():
    surface = trained_network()
    interval = trace(surface, 200, seeds.generator("hutchinson", 0))
    assert interval.low < torch.trace(dense_hessian(surface)).item() < interval.high
    surface = quadratic(torch.diag(torch.tensor([1.0, 2, 4])).double(), torch.zeros(3).double())
    diagonal = trace(surface, 3, seeds.generator("hutchinson", 0))
    assert math.isclose(diagonal.estimate, 7)


@pytest.mark.parametrize("point", [[0.0, 0.0, 0.0], [1.0, -2.0, 30.0]])
def test_keskars_sharpness_of_a_diagonal_quadratic(point):
    """50 eps^2 sum h_i (|x_i| + 1)^2 at a minimum of value 0."""
    h, x = torch.tensor([0.5, 2.0, 7.0]).double(), torch.tensor(point).double()
    expected = 50 * 1e-6 * (h * (x.abs() + 1) ** 2).sum().item()
    surface = quadratic(torch.diag(h), x)
    assert math.isclose(keskar_sharpness(surface, seeds.generator("keskar", 0)), expected, rel_tol=1e-9)


def test_keskars_sharpness_beside_the_minimum():
    """f = h (x - c)^2 / 2 is greatest at the corner that lies farther from c."""
    surface = quadratic(torch.eye(1).double() * 3, torch.ones(1).double(), torch.tensor([0.9], dtype=torch.float64))
    bottom, top = 1.5 * 0.1**2, 1.5 * 0.102**2
    found = keskar_sharpness(surface, seeds.generator("keskar", 0))
    assert math.isclose(found, 100 * (top - bottom) / (1 + bottom), rel_tol=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_only_the_invariant_measure_survives_rescaled_layers(alpha):
    """(alpha W1, W2 / alpha) leaves a ReLU network's function as it is (Dinh et al. 2017)."""
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double(), blobs()
    examples = (data.train_inputs.double(), data.train_targets)
    before = LossSurface(model, cross_entropy, *examples)
    value, largest, invariant = before.value(before.here), largest_eigenvalue(before), invariant_sharpness(before)
    with torch.no_grad():
        model[0].weight *= alpha
        model[2].weight /= alpha
    after = LossSurface(model, cross_entropy, *examples)
    assert math.isclose(after.value(after.here), value, rel_tol=1e-12)
    assert math.isclose(invariant_sharpness(after), invariant, rel_tol=1e-6)
    assert not math.isclose(largest_eigenvalue(after), largest, rel_tol=0.5)


def test_full_batch_descent_drives_the_largest_eigenvalue_to_two_over_the_rate():
    """Cohen et al. 2021: digits, 64-64-10, half the squared error over one-hot targets, rate 0.4."""
    data, rate = find("digits").load(), 0.4
    targets = nn.functional.one_hot(data.train_targets, 10).float()
    workload = tiny(model=find("digits").model)
    model = workload.initial_model(0)

    def loss(outputs, targets):
        return 0.5 * (outputs - targets).square().sum(dim=1)

    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    sharpness = []
    for updates in range(1, 3001):
        update(CPU, model, loss, optimizer, data.train_inputs, targets)
        if updates >= 1500 and updates % 150 == 0:
            surface = LossSurface(model, loss, data.train_inputs, targets, torch.float32)
            sharpness.append(largest_eigenvalue(surface) * rate / 2)
    assert 0.9 < statistics.median(sharpness) < 1.1


def test_every_replica_is_measured_where_it_reached_the_target():
    protocol = Protocol(0.1, TargetLoss(0.5, 500, growth=1.02))
    rows = measure(tiny(), blobs(), Cell(SHARPNESS, "tiny", "cpu", 4, 3, protocol))
    assert rows["seed"].tolist() == [0, 1, 2]
    assert set(rows["status"]) == {"ok"}
    assert (rows["train_loss"] <= 0.5).all()
    assert (rows[["largest_eigenvalue", "trace", "keskar", "invariant"]] > 0).all(axis=None)
    model, looks = trained(tiny(), blobs().resplit(1), protocol, 4, 1)
    assert looks["updates"].iloc[-1] == rows["updates"][1]
    split = blobs().resplit(1)
    surface = LossSurface(model, cross_entropy, split.train_inputs, split.train_targets)
    assert math.isclose(rows["largest_eigenvalue"][1], largest_eigenvalue(surface), rel_tol=1e-4)
    assert math.isclose(rows["keskar"][1], keskar_sharpness(surface, seeds.generator("keskar", 1)), rel_tol=1e-2)


def test_a_replica_that_misses_the_target_is_a_row_without_measures():
    rows = measure(tiny(), blobs(), Cell(SHARPNESS, "tiny", "cpu", 4, 2, Protocol(0.1, TargetLoss(1e-6, 10))))
    assert set(rows["status"]) == {"target_not_reached"}
    assert "largest_eigenvalue" not in rows


def test_dropout_and_batch_norm_are_in_evaluation_mode_and_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).train(), blobs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    surface = LossSurface(model, cross_entropy, data.train_inputs, data.train_targets)
    assert surface.value(surface.here) == surface.value(surface.here)
    assert largest_eigenvalue(surface) == largest_eigenvalue(surface)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
