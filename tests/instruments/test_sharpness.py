import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suite import seeds
from suite.backends import CPU
from suite.instruments import (
    LossSurface,
    extreme_eigenvalue,
    invariant_sharpness,
    keskar_sharpness,
    largest_eigenvalue,
    trace,
)
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
        offset = self.point - self.centre
        return (0.5 * offset @ self.curvature @ offset).expand(len(inputs))


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
    return torch.autograd.functional.hessian(surface.value, surface.parameters)


@settings(max_examples=20)
@given(st.lists(st.floats(-3, 5), min_size=1, max_size=8))
def test_the_largest_eigenvalue_of_a_quadratic(values):
    surface = quadratic(curvatures(values), torch.zeros(len(values)).double())
    assert math.isclose(largest_eigenvalue(surface), max(values), rel_tol=1e-8, abs_tol=1e-8)


def test_the_largest_is_not_the_largest_in_magnitude():
    assert math.isclose(largest_eigenvalue(quadratic(curvatures([-9, 1, 2, 3]), torch.zeros(4).double())), 3)


def test_the_hessian_vector_product_is_that_of_the_dense_hessian():
    surface = trained_network()
    direction = torch.randn(len(surface.parameters), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(surface.hvp(direction), dense_hessian(surface) @ direction)


def test_the_start_vector_of_lanczos_is_an_argument_and_by_default_always_the_same():
    surface = trained_network()
    smallest = extreme_eigenvalue(surface, "SA")
    assert extreme_eigenvalue(surface, "SA") == smallest
    assert extreme_eigenvalue(surface, "SA", generator=seeds.generator("lanczos")) == smallest
    from_another_start = extreme_eigenvalue(surface, "SA", generator=torch.Generator().manual_seed(1))
    assert math.isclose(from_another_start, smallest, rel_tol=1e-6)


def test_a_networks_eigenvalues_are_those_of_its_dense_hessian():
    surface = trained_network()
    hessian = dense_hessian(surface)
    size = torch.diag(surface.parameters.abs())
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
    assert math.isclose(keskar_sharpness(surface), expected, rel_tol=1e-9)


def test_keskars_sharpness_beside_the_minimum():
    """f = h (x - c)^2 / 2 is greatest at the corner that lies farther from c."""
    surface = quadratic(torch.eye(1).double() * 3, torch.ones(1).double(), torch.tensor([0.9], dtype=torch.float64))
    bottom, top = 1.5 * 0.1**2, 1.5 * 0.102**2
    sharpness = keskar_sharpness(surface)
    assert math.isclose(sharpness, 100 * (top - bottom) / (1 + bottom), rel_tol=1e-9)


def rise(surface: LossSurface, signs: torch.Tensor) -> float:
    """φ with the maximum replaced by the loss at the corner with these `signs` [P]."""
    centre = surface.parameters
    corner = centre + signs * 1e-3 * (centre.abs() + 1)
    bottom, top = surface.value(centre).item(), surface.value(corner).item()
    return 100 * (top - bottom) / (1 + bottom)


def greatest_rise(surface: LossSurface) -> float:
    """φ by trying every corner."""
    corners = itertools.product((-1.0, 1.0), repeat=len(surface.parameters))
    return max(rise(surface, torch.tensor(signs, dtype=torch.float64)) for signs in corners)


def test_keskars_sharpness_where_the_gradient_points_at_another_corner_than_the_greatest():
    """The gradient is 1e-4 (2, 1), but the loss curves most along (1, -1)."""
    curvature = torch.tensor([[2.0, -1.5], [-1.5, 1.2]], dtype=torch.float64)
    offset = torch.linalg.solve(curvature, torch.tensor([2e-4, 1e-4], dtype=torch.float64))
    surface = quadratic(curvature, offset, torch.zeros(2).double())
    first = rise(surface, surface.gradient(surface.parameters).sign())
    assert keskar_sharpness(surface) > 5 * first
    assert math.isclose(keskar_sharpness(surface), greatest_rise(surface), rel_tol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_keskars_sharpness_lies_between_the_gradients_corner_and_the_greatest_of_all(seed):
    generator = torch.Generator().manual_seed(seed)
    point = 1e-3 * torch.randn(6, generator=generator, dtype=torch.float64)
    surface = quadratic(curvatures([0.1, 0.5, 1, 2, 4, 8]), point, torch.zeros(6).double())
    first = rise(surface, surface.gradient(surface.parameters).sign())
    assert first <= keskar_sharpness(surface) <= greatest_rise(surface) * (1 + 1e-9)


def test_no_corner_tried_at_random_is_higher_than_a_networks_keskar_sharpness():
    surface, generator = trained_network(), torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(2, (200, len(surface.parameters)), generator=generator) - 1
    assert max(rise(surface, corner) for corner in signs) < keskar_sharpness(surface)


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_only_the_invariant_measure_survives_rescaled_layers(alpha):
    """(alpha W1, W2 / alpha) leaves a ReLU network's function as it is (Dinh et al. 2017)."""
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double(), blobs()
    examples = (data.train_inputs.double(), data.train_targets)
    before = LossSurface(model, cross_entropy, *examples)
    value, largest, invariant = (
        before.value(before.parameters),
        largest_eigenvalue(before),
        invariant_sharpness(before),
    )
    with torch.no_grad():
        model[0].weight *= alpha
        model[2].weight /= alpha
    after = LossSurface(model, cross_entropy, *examples)
    assert math.isclose(after.value(after.parameters), value, rel_tol=1e-12)
    assert math.isclose(invariant_sharpness(after), invariant, rel_tol=1e-6)
    assert not math.isclose(largest_eigenvalue(after), largest, rel_tol=0.5)


def test_full_batch_gradient_descent_drives_the_largest_eigenvalue_to_two_over_the_rate():
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


def test_dropout_and_batch_norm_are_in_evaluation_mode_and_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).train(), blobs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    surface = LossSurface(model, cross_entropy, data.train_inputs, data.train_targets)
    assert surface.value(surface.parameters) == surface.value(surface.parameters)
    assert largest_eigenvalue(surface) == largest_eigenvalue(surface)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Bag(nn.Module):
    """The sum of word vectors, word 0 being padding, then a linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 3, padding_idx=0)
        self.head = nn.Linear(3, 3)

    def forward(self, words):
        return self.head(self.embedding(words).sum(dim=1))


def test_padding_has_no_part_in_the_hessian():
    """In reverse mode an embedding has no gradient for its padding, and in forward mode it has a derivative."""
    torch.manual_seed(0)
    words, targets = torch.randint(0, 6, (40, 5)), torch.arange(40) % 3
    surface = LossSurface(Bag(), cross_entropy, words, targets)
    dense = torch.autograd.functional.hessian(surface.value, surface.parameters)
    direction = torch.randn(len(dense), dtype=torch.float64)
    torch.testing.assert_close(surface.hvp(direction), dense @ direction)
    assert largest_eigenvalue(surface) == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]))
    assert trace(surface, 2000, seeds.generator("test")).estimate == pytest.approx(float(dense.trace()), rel=0.1)


def test_a_layer_without_forward_mode_has_a_hessian_too():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(inputs):
            return inputs**3

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, gradient):
            (inputs,) = ctx.saved_tensors
            return 3 * inputs**2 * gradient

    class Cubed(nn.Module):
        def __init__(self):
            super().__init__()
            self.point = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))

        def forward(self, inputs):
            return Cube.apply(self.point).sum().expand(len(inputs))

    surface = LossSurface(Cubed(), lambda outputs, targets: outputs, torch.zeros(2, 1), torch.zeros(2, 1))
    assert largest_eigenvalue(surface) == pytest.approx(24)


def test_second_derivatives_that_are_wrong_are_found_out():
    """Those of torch's weight_norm are, on a CPU: by finite differences the Hessian is symmetric."""
    torch.manual_seed(0)
    data = blobs()
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    surface = LossSurface(model, cross_entropy, data.train_inputs, data.train_targets)
    with pytest.raises(ValueError, match="the computed Hessian is not symmetric"):
        largest_eigenvalue(surface)


def test_a_flat_surface_has_no_curvature():
    surface = quadratic(torch.zeros(4, 4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    assert largest_eigenvalue(surface) == 0


def test_keskars_sharpness_is_made_for_losses_that_are_not_negative():
    centre = torch.zeros(4, dtype=torch.float64)
    anything = torch.zeros(2, 1)
    model = Quadratic(torch.eye(4, dtype=torch.float64), centre.clone(), centre)
    surface = LossSurface(model, lambda outputs, targets: outputs - 1, anything, anything)
    assert math.isnan(keskar_sharpness(surface))


class Force(nn.Module):
    """The gradient of an energy with respect to the inputs, as in molecular dynamics."""

    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, inputs):
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_()
            return torch.autograd.grad(self.energy(inputs).sum(), inputs, create_graph=True)[0]


def test_a_model_that_takes_a_gradient_in_its_forward_pass_has_a_hessian():
    torch.manual_seed(0)
    inputs, targets = torch.randn(20, 4), torch.zeros(20, 4)
    surface = LossSurface(Force(), lambda outputs, targets: (outputs - targets).square().sum(1), inputs, targets)
    size, step = len(surface.parameters), 1e-5
    directions = step * torch.eye(size, dtype=torch.float64)
    differences = [
        surface.gradient(surface.parameters + d) - surface.gradient(surface.parameters - d) for d in directions
    ]
    dense = torch.stack(differences) / (2 * step)
    assert largest_eigenvalue(surface) == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-6)
    assert keskar_sharpness(surface) > 0
