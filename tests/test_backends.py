import pytest
import torch

from suite import backends, devices
from suite.backends import BACKENDS, CPU, SEQUENTIAL
from suite.devices import Accelerator
from suite.training.update import update
from tests.conftest import blobs, tiny


def parameters_after_one_update(inputs, targets, learning_rate):
    """theta - eta * mean_i grad loss_i, one example at a time, in float64."""
    model = tiny().initial_model(0).double()
    parameters = list(model.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for example, target in zip(inputs.double(), targets, strict=True):
        loss = tiny().loss(model(example[None]), target[None])[0]
        for part, gradient in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            part += gradient
    return [p.detach() - learning_rate * g / len(inputs) for p, g in zip(parameters, total, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
def test_an_update_equals_a_plain_transcription_of_the_formula(backend, batch_size):
    if reason := backend.unavailable():
        pytest.skip(reason)
    data = blobs()
    inputs, targets = data.train_inputs[:batch_size], data.train_targets[:batch_size]
    device, dtype = backend.device.torch_device, backend.device.widest_float
    model = tiny().initial_model(0).to(dtype).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    update(backend, model, tiny().loss, optimizer, inputs.to(dtype).to(device), targets.to(device))
    expected = parameters_after_one_update(inputs, targets, 0.3)
    rounding = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    for parameter, expected_parameter in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach().cpu().double(), expected_parameter, **rounding)


def test_an_update_does_not_accumulate_the_gradient_of_the_last_one():
    data, model = blobs(), tiny().initial_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    norms = []
    for _ in range(2):
        update(BACKENDS["cpu"], model, tiny().loss, optimizer, data.train_inputs, data.train_targets)
        norms.append([parameter.grad.norm().item() for parameter in model.parameters()])
    assert norms[0] == norms[1]


def test_only_an_accelerator_can_be_unavailable():
    assert list(BACKENDS)[:2] == ["sequential", "cpu"]
    assert all(BACKENDS[name].device.is_accelerator for name in list(BACKENDS)[2:])
    assert not SEQUENTIAL.unavailable()
    assert not CPU.unavailable()


def test_every_device_has_a_backend_that_computes_whole_batches():
    assert {"cuda", "mps", "xpu"} <= set(BACKENDS)
    for device in devices.DEVICES:
        assert backends.on(device).device is device
        assert backends.on(device).parallel


UNAVAILABLE, AVAILABLE = "no such device", None


@pytest.fixture
def accelerators(monkeypatch):
    """`accelerators(cuda=..., mps=...)` sets why each of them is unavailable; None means available."""

    def set_reasons(**reasons):
        monkeypatch.setattr(Accelerator, "unavailable", lambda device: reasons.get(device.type, UNAVAILABLE))

    return set_reasons


def test_training_runs_on_the_fastest_backend_by_default(accelerators):
    accelerators()
    assert backends.fastest() is CPU
    accelerators(mps=AVAILABLE)
    assert backends.fastest() is BACKENDS["mps"]


@pytest.mark.parametrize(
    ("names", "available", "chosen"),
    [
        (tuple(BACKENDS), (), "cpu"),
        (tuple(BACKENDS), ("xpu",), "xpu"),
        (("cpu",), ("cuda",), "cpu"),
        (("cpu", "cuda"), ("cuda",), "cuda"),
        (("sequential", "cuda"), ("cuda",), "cuda"),
        (("cuda",), (), "cuda"),
        (("sequential", "mps"), (), "mps"),
        (("cuda", "mps"), ("mps",), "mps"),
        (("sequential",), ("cuda",), "cpu"),
    ],
)
def test_training_runs_on_the_fastest_named_backend_that_computes_whole_batches(
    accelerators, names, available, chosen
):
    accelerators(**dict.fromkeys(available, AVAILABLE))
    assert backends.training_backend(names) is BACKENDS[chosen]


def test_only_sequential_is_not_parallel():
    assert [name for name, backend in BACKENDS.items() if not backend.parallel] == ["sequential"]
