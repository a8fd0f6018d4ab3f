"""Keskar's networks: their parameters, and their trainings with Adam. Their data is not needed here."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from suite.backends import BACKENDS
from suite.claims import all_claims
from suite.devices import CPU
from suite.experiments.cell import Cell
from suite.experiments.training import TRAINING, measure
from suite.optimizers import adam
from suite.runs.plan import PRESETS
from suite.studies import studies_of
from suite.training.budgets import EqualEpochs
from suite.training.engine import best_replicas_per_call
from suite.training.protocol import Protocol
from suite.workloads import Data, find
from suite.workloads.check import load_checked

EXAMPLES = {"keskar_f1": 60_000, "keskar_c1": 50_000}
SHAPES = {"keskar_f1": (784,), "keskar_c1": (3, 32, 32)}
MOMENTUM_CLAIMS = {"momentum_sum", "momentum_speed_up"}
"""The claims that also train without Adam's momentum."""


def fake(name: str) -> Data:
    """Twelve bright and twelve dark examples, alternating, for each split."""
    generator = torch.Generator().manual_seed(4)
    targets = torch.arange(24) % 2
    inputs = (torch.rand(24, *SHAPES[name], generator=generator).flatten(1) + targets[:, None]).view(
        24, *SHAPES[name]
    )
    return Data(inputs, targets, inputs, targets)


PARAMETERS = {
    "keskar_f1": 784 * 512 + 4 * 512 * 512 + 5 * 3 * 512 + 512 * 10 + 10,
    "keskar_c1": 3 * 64 * 25 + 64 * 64 * 25 + 2 * 3 * 64 + 4096 * 384 + 384 * 192 + 3 * (384 + 192) + 192 * 10 + 10,
}
"""The weights between layers, three parameters per unit (a bias and those of batch norm), and the last layer."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_number_of_parameters(name):
    parameters = find(name).initial_model(0).parameters()
    assert sum(parameter.numel() for parameter in parameters) == PARAMETERS[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_few_updates_on_fake_images_lower_the_loss(name):
    workload = replace(
        find(name), load=lambda: fake(name), batch_sizes=(8, 12), small=8, large=12, training_batch_sizes=None
    )
    data = load_checked(workload)
    protocol = Protocol.of(workload, EqualEpochs(3))
    replicas = best_replicas_per_call(workload, CPU, 2, 8)
    rows = measure(workload, data, Cell(TRAINING, name, "cpu", 8, 2, protocol, replicas_per_call=replicas))
    losses = rows[rows["seed"] == 0]["train_loss"].tolist()
    assert losses[-1] < losses[0]
    assert set(rows["status"]) == {"ok"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_training_uses_adam(name):
    workload = find(name)
    scope = PRESETS["full"].scope(workload, None, tuple(BACKENDS))
    trained = {
        claim.name: {
            cell.protocol
            for row in (claim, *studies_of(claim.name))
            for cell in row.cells(workload, scope)
            if cell.protocol and cell.workload == name
        }
        for claim in all_claims()
    }
    others = set().union(*(protocols for claim, protocols in trained.items() if claim not in MOMENTUM_CLAIMS))
    assert len(others) > 12
    assert {protocol.optimizer for protocol in others} == {adam()}
    without = adam(betas=(0.0, 0.999))
    for claim in MOMENTUM_CLAIMS:
        assert {protocol.optimizer for protocol in trained[claim]} == {adam(), without}


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_epoch_ends_with_a_batch_of_one_example_which_batch_norm_rejects(name):
    """Small and Large are Keskar's batch sizes: 256, and a tenth of the data."""
    workload, examples = find(name), EXAMPLES[name]
    assert all(examples % size != 1 for size in workload.batch_sizes)
    assert (workload.small, workload.large) == (256, examples // 10)
    assert set(workload.published.values["test_score"]) == {workload.small, workload.large}
    assert any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in workload.initial_model(0).modules())
