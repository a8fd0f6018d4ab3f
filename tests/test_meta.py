"""Everything that works on a device, run on torch's `meta` device, whose tensors have shapes and no values: a tensor
left on the CPU fails there as it would on a GPU. Code that reads a value cannot run there."""

import pytest
import torch
from torch import nn

from suite import devices
from suite.advise.timing import Updates
from suite.backends import Backend, batch_gradient
from suite.devices import Device
from suite.instruments import LossSurface, gradient_pass
from suite.instruments import batch_gradient as whole_gradient
from suite.instruments.layer_gradients import FORMULAS, direct_parameters
from suite.training.budgets import EqualEpochs
from suite.training.ensemble import Ensemble
from suite.training.epoch import epoch, loader_batches, resident_batches
from suite.training.evaluate import chunk_sums
from suite.training.lockstep import Examples
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Workload
from tests.conftest import blobs, network, tiny

META = Device("meta", "no values")
BACKEND = Backend("meta", "shapes alone", batch_gradient, META)
BATCH_SIZE, REPLICAS = 16, 3


@pytest.fixture(autouse=True)
def _meta_is_a_device(monkeypatch):
    monkeypatch.setattr(devices, "DEVICES", (*devices.DEVICES, META))


def data():
    return blobs().to(META.torch_device)


def examples():
    return data().train_inputs, data().train_targets


def model_of(workload: Workload) -> nn.Module:
    return workload.initial_model(0).to(META.torch_device)


def model_and_optimizer(workload: Workload) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = model_of(workload).train()
    return model, workload.optimizer.make(model, workload.learning_rate)


def one_update(workload):
    model, optimizer = model_and_optimizer(workload)
    update(BACKEND, model, workload.loss, optimizer, *examples())
    return list(model.parameters())


def resident_epoch(workload):
    model, optimizer = model_and_optimizer(workload)
    batches = resident_batches(*examples(), BATCH_SIZE, torch.Generator())
    epoch(BACKEND, model, workload.loss, optimizer, batches)
    return list(model.parameters())


def dataloader_epoch(workload):
    model, optimizer = model_and_optimizer(workload)
    on_cpu = blobs()
    batches = loader_batches(
        on_cpu.train_inputs, on_cpu.train_targets, BATCH_SIZE, torch.Generator(), META.torch_device
    )
    epoch(BACKEND, model, workload.loss, optimizer, batches)
    return list(model.parameters())


def plain_batches(workload):
    protocol = Protocol.of(workload, EqualEpochs(1))
    batches = endless_batches(workload, data(), protocol, BATCH_SIZE, replica=0)
    model = model_of(workload)
    return [model(inputs) for inputs, _ in (next(batches) for _ in range(4))]


def evaluation(workload):
    return [value for sums in chunk_sums(workload, model_of(workload), *examples()) for value in sums]


def ensemble_of(workload: Workload) -> Ensemble:
    return Ensemble(workload, range(REPLICAS), [0.1, 0.2, 0.3], device=META.torch_device)


def ensemble_update(workload):
    ensemble, lockstep = ensemble_of(workload), Examples(workload, data(), range(REPLICAS))
    batches = lockstep.batches(Protocol.of(workload, EqualEpochs(1)), BATCH_SIZE, range(REPLICAS))
    four = [next(batches) for _ in range(4)]
    for indices in four:
        ensemble.update(lockstep.inputs, lockstep.targets, indices)
    splits = [lockstep.train, lockstep.test] if workload.resplit else []
    return [*ensemble.state, *four, *splits]


def ensemble_evaluation(workload):
    return list(ensemble_of(workload).evaluate(*examples()))


def sums_of(sums: gradient_pass.Sums) -> list[torch.Tensor]:
    return [value for pair in sums.values() for value in pair]


def gradient_pass_by_formula(workload):
    model = model_of(workload).eval()
    layers = {
        name: layer for name, layer in model.named_modules() if type(layer) in FORMULAS and direct_parameters(layer)
    }
    return sums_of(gradient_pass.formula_sums(model, layers, workload.loss, *examples()))


def gradient_pass_by_vmap(workload):
    model = model_of(workload).eval()
    parameters = dict(model.named_parameters())
    return sums_of(gradient_pass.vectorised_sums(model, parameters, workload.loss, *examples()))


def gradient_pass_one_by_one(workload):
    model = model_of(workload).eval()
    return sums_of(gradient_pass.one_by_one_sums(model, dict(model.named_parameters()), workload.loss, *examples()))


def gradient_of_a_batch(workload):
    return [whole_gradient(model_of(workload), workload.loss, *examples())]


def loss_surface(workload):
    surface = LossSurface(model_of(workload), workload.loss, *examples())
    point = surface.parameters
    # the choice between the two ways to a product with the Hessian reads numbers
    products = [surface._forward_over_reverse(point), surface._reverse_over_reverse(point)]
    return [surface.value(point), surface.gradient(point), *products]


def advisors_updates(workload):
    updates = Updates(workload, data(), BACKEND, BATCH_SIZE, learning_rate=0.1)
    assert META.peak_bytes(lambda: updates.updates(4)) > 0
    return list(updates.model.parameters())


PATHS = [
    one_update,
    resident_epoch,
    dataloader_epoch,
    plain_batches,
    evaluation,
    ensemble_update,
    ensemble_evaluation,
    gradient_pass_by_formula,
    gradient_pass_by_vmap,
    gradient_pass_one_by_one,
    gradient_of_a_batch,
    loss_surface,
    advisors_updates,
]
paths = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)


class Layered(nn.Module):
    """One layer of each kind that the gradient pass has a formula for, and dropout."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(2, 4)
        self.convolution = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4), nn.GroupNorm(2, 4))
        self.head = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 3))

    def forward(self, inputs):
        embedded = self.embedding((inputs > 0).long()).mean(dim=1)
        return self.head(embedded + self.convolution(inputs[:, None]).mean(dim=2))


@pytest.mark.parametrize("resplit", [True, False], ids=["own splits", "one split"])
@pytest.mark.parametrize("model", [network, Layered])
@paths
def test_every_tensor_of_an_update_or_an_instrument_lies_on_the_device(path, model, resplit):
    results = path(tiny(model=model, resplit=resplit))
    assert results
    assert {result.device.type for result in results} == {"meta"}


class LeftBehind(nn.Sequential):
    """A network with a tensor that does not move with it."""

    def __init__(self):
        super().__init__(*network())
        self.scale = torch.ones(3)

    def forward(self, inputs):
        return super().forward(inputs) * self.scale


@paths
def test_a_tensor_left_on_the_cpu_fails(path):
    with pytest.raises(RuntimeError, match="device"):
        path(tiny(model=LeftBehind))
