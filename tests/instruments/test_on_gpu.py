"""Every instrument on a GPU against the same on the CPU, mostly in double precision; on the CPU against itself too,
so that the code of a skipped test has run."""

import pytest
import torch
from torch import nn

from suite.experiments.minima_line import line
from suite.instruments import (
    LossSurface,
    batch_gradient,
    extreme_eigenvalue,
    gradient_statistics,
    invariant_sharpness,
    keskar_sharpness,
    largest_eigenvalue,
    loss_surface,
    sampled_noise,
    trace,
)
from suite.training.epoch import resident_batches
from suite.training.evaluate import evaluate
from suite.workloads import Data, find
from tests.conftest import blobs, cuda, tiny


def layered() -> nn.Module:
    """Layers with a formula, and one parameter without."""
    convolution = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Tanh())
    return nn.Sequential(nn.Unflatten(1, (1, 4)), convolution, nn.PReLU(), nn.Flatten(), nn.Linear(16, 3)).double()


WORKLOAD = tiny(model=layered)


def double_blobs() -> Data:
    data = blobs()
    return Data(data.train_inputs.double(), data.train_targets, data.test_inputs.double(), data.test_targets)


def on(device: str, replica: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    data = double_blobs().to(torch.device(device))
    return WORKLOAD.initial_model(replica).to(device).eval(), data.train_inputs, data.train_targets


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def the_gradient_pass(device):
    model, *examples = on(device)
    statistics = gradient_statistics(model, WORKLOAD.loss, *examples)
    return [statistics.squared_norm, statistics.noise_scale, *statistics.variances.values()]


def the_gradient_noise(device):
    model, *examples = on(device)
    gradient = batch_gradient(model, WORKLOAD.loss, *examples)
    batches = resident_batches(*examples, 8, generator())
    return [gradient.norm().item(), sampled_noise(model, WORKLOAD.loss, *examples, batches)]


def an_evaluation(device):
    return evaluate(WORKLOAD, *on(device))


def surface_on(device):
    model, *examples = on(device)
    return LossSurface(model, WORKLOAD.loss, *examples)


def the_eigenvalues(device):
    surface = surface_on(device)
    return [largest_eigenvalue(surface), extreme_eigenvalue(surface, "SA"), invariant_sharpness(surface)]


def the_trace(device):
    interval = trace(surface_on(device), 5, generator())
    return [interval.estimate, interval.low, interval.high]


def keskars_sharpness(device):
    return [keskar_sharpness(surface_on(device))]


def the_norm_at_a_standstill(device):
    surface = surface_on(device)
    point = surface.parameters
    return [surface.value(point).item(), surface.gradient(point).norm().item()]


def the_line(device):
    data = double_blobs().to(torch.device(device))
    models = [on(device, replica)[0] for replica in (0, 1)]
    return line(WORKLOAD, data, *models).drop(columns=["train_score", "test_score"]).to_numpy().flatten().tolist()


def the_landscape(device):
    toy = find("twenty")
    data = toy.load().to(torch.device(device))
    model, bounds = toy.initial_model(0).to(device), ((-1.0, 1.0), (-1.0, 1.0))
    rows = loss_surface(model, toy.loss, data.train_inputs, data.train_targets, bounds)
    return rows["train_loss"].tolist()[::100]


INSTRUMENTS = [
    the_gradient_pass,
    the_gradient_noise,
    an_evaluation,
    the_eigenvalues,
    the_trace,
    keskars_sharpness,
    the_norm_at_a_standstill,
    the_line,
    the_landscape,
]
FLOAT32 = (the_landscape,)
"""On a toy whose parameters are in single precision."""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.__name__)
def test_an_instrument_reads_the_same_on_a_gpu(instrument, device):
    expected = instrument("cpu")
    assert expected
    assert instrument(device) == pytest.approx(
        expected, rel=1e-3 if instrument in FLOAT32 else 1e-6, abs=1e-12, nan_ok=True
    )
