"""Peak memory on an accelerator, without the examples, in bytes: exact counts, not timings."""

import torch

from benchmarks.findings import finding
from suite.backends import fastest
from suite.instruments.gradient_pass import gradient_statistics
from suite.training.ensemble import Ensemble
from suite.training.update import update
from suite.workloads import find

EXAMPLES, BATCH_SIZE, REPLICAS = 10_000, 1000, 32


def _update(inputs, targets):
    workload = find("mnist")
    model = workload.initial_model(0).to(inputs.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        update(fastest(), model, workload.loss, optimizer, inputs[:BATCH_SIZE], targets[:BATCH_SIZE])


def _ensemble(inputs, targets):
    batches = torch.arange(BATCH_SIZE, device=inputs.device).expand(REPLICAS, -1)
    ensemble = Ensemble(find("mnist"), range(REPLICAS), 0.01, device=inputs.device)
    for _ in range(2):
        ensemble.update(inputs, targets, batches)


def _gradient_noise(inputs, targets):
    workload = find("mnist")
    gradient_statistics(workload.initial_model(0).to(inputs.device), workload.loss, inputs, targets)


PATHS = {"update": _update, "ensemble's update": _ensemble, "gradient noise's pass": _gradient_noise}


@finding("bytes", *PATHS)
def track_peak_memory(of):
    """On random examples in the shape of MNIST."""
    device, generator = fastest().device, torch.Generator().manual_seed(0)
    inputs = torch.rand(EXAMPLES, 784, generator=generator).to(device.torch_device)
    targets = torch.randint(10, (EXAMPLES,), generator=generator).to(device.torch_device)
    return device.peak_bytes(lambda: PATHS[of](inputs, targets))


track_peak_memory.version = "2"


def _setup(of):
    if not fastest().device.is_accelerator:
        raise NotImplementedError("no accelerator on this machine")


track_peak_memory.setup = _setup
