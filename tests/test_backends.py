import pytest
import torch

from suite.backends import BACKENDS
from suite.training.update import update
from tests.conftest import blobs, tiny


def parameters_after_one_update(inputs, targets, learning_rate):
    """theta - eta * mean_i grad loss_i, one example after another, in float64."""
    model = tiny().initial_model(0).double()
    parameters = list(model.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for one_input, one_target in zip(inputs.double(), targets, strict=True):
        loss = tiny().loss(model(one_input[None]), one_target[None])[0]
        for part, gradient in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            part += gradient
    return [p.detach() - learning_rate * g / len(inputs) for p, g in zip(parameters, total, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
def test_an_update_is_a_plain_transcription_of_the_rule(backend, batch_size):
    if reason := backend.unavailable():
        pytest.skip(reason)
    data = blobs()
    inputs, targets = data.train_inputs[:batch_size], data.train_targets[:batch_size]
    model = tiny().initial_model(0).double().to(backend.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    on_device = inputs.double().to(backend.device), targets.to(backend.device)
    update(backend, model, tiny().loss, optimizer, *on_device)
    expected = parameters_after_one_update(inputs, targets, 0.3)
    for parameter, wanted in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach().cpu(), wanted, rtol=1e-12, atol=1e-14)


def test_a_second_update_starts_from_a_fresh_gradient():
    data, model = blobs(), tiny().initial_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    norms = []
    for _ in range(2):
        update(BACKENDS["cpu"], model, tiny().loss, optimizer, data.train_inputs, data.train_targets)
        norms.append([parameter.grad.norm().item() for parameter in model.parameters()])
    assert norms[0] == norms[1]


def test_only_a_gpu_can_be_absent():
    absent = {name for name, backend in BACKENDS.items() if backend.unavailable()}
    assert absent == (set() if torch.cuda.is_available() else {"cuda"})


def test_only_sequential_is_not_parallel():
    assert [name for name, backend in BACKENDS.items() if not backend.parallel] == ["sequential"]
