"""Every instrument on a GPU against itself on the CPU, mostly in double precision. On the CPU against itself too, so
that the code of a test that is skipped has been run."""

import pytest
import torch
from torch import nn

from suite.cells import Cell
from suite.instruments.escape import ROLLING, ends, measure_escape_times, rolled
from suite.instruments.gradient_noise import batch_gradient, sampled_noise
from suite.instruments.gradient_pass import gradient_statistics
from suite.instruments.landscape import surface
from suite.instruments.line import along
from suite.instruments.saddle import LEAVING, measure_leaving
from suite.instruments.sharpness import (
    LossSurface,
    extreme_eigenvalue,
    invariant_sharpness,
    keskar_sharpness,
    largest_eigenvalue,
    trace,
)
from suite.optimizers import sgd
from suite.training.evaluate import evaluate
from suite.training.protocol import EqualEpochs, Protocol
from suite.workloads import Data, Workload, find
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
    return [gradient.norm().item(), sampled_noise(model, WORKLOAD.loss, *examples, 8, 10, generator())]


def an_evaluation(device):
    return evaluate(WORKLOAD, *on(device))


def loss_surface(device):
    model, *examples = on(device)
    return LossSurface(model, WORKLOAD.loss, *examples)


def the_eigenvalues(device):
    of = loss_surface(device)
    return [largest_eigenvalue(of), extreme_eigenvalue(of, "SA"), invariant_sharpness(of)]


def the_trace(device):
    interval = trace(loss_surface(device), 5, generator())
    return [interval.estimate, interval.low, interval.high]


def keskars_sharpness(device):
    return [keskar_sharpness(loss_surface(device), generator())]


def the_norm_at_a_standstill(device):
    of = loss_surface(device)
    return [of.value(of.here).item(), of.gradient(of.here).norm().item()]


def the_line(device):
    data = double_blobs().to(torch.device(device))
    models = [on(device, replica)[0] for replica in (0, 1)]
    return along(WORKLOAD, data, *models).drop(columns=["train_score", "test_score"]).to_numpy().flatten().tolist()


def the_landscape(device):
    toy = find("twenty")
    rows = surface(toy, toy.load().to(torch.device(device)), (-1.0, 1.0), (-1.0, 1.0))
    return rows["train_loss"].tolist()[::100]


def toy_cell(measurement, toy: Workload, device: str, epochs: int) -> Cell:
    protocol = Protocol(toy.learning_rate, EqualEpochs(epochs), optimizer=sgd(momentum=0.5))
    return Cell(measurement, toy.name, device, toy.large, 3, protocol)


def the_saddle(device):
    toy = find("saddle")
    rows = measure_leaving(toy, toy.load(), toy_cell(LEAVING, toy, device, 50))
    return rows["train_loss"].tolist()


def the_ball(device):
    toy = find("ball")
    starts, momenta = torch.tensor([-2.0, -1.3, 0.5]), torch.tensor([0.0, 0.5, 0.9])
    return ends(rolled(toy, toy.load(), toy_cell(ROLLING, toy, device, 20), starts, momenta, 20)).tolist()


def the_escape_times(device):
    toy = find("ball")
    return measure_escape_times(toy, toy.load(), toy_cell(ROLLING, toy, device, 20))["updates"].tolist()


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
    the_saddle,
    the_ball,
    the_escape_times,
]
FLOAT32 = (the_landscape, the_saddle, the_ball, the_escape_times)
"""Of toys whose parameters are in single precision."""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.__name__)
def test_an_instrument_reads_the_same_on_a_gpu(instrument, device):
    expected = instrument("cpu")
    assert expected
    assert instrument(device) == pytest.approx(
        expected, rel=1e-3 if instrument in FLOAT32 else 1e-6, abs=1e-12, nan_ok=True
    )
