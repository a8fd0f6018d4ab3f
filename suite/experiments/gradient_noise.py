"""The noise of batch gradients about the gradient over the whole training set, at initialisation and in training."""

import itertools
import math
from collections.abc import Iterator

import pandas as pd
import torch
from torch import nn

from suite import seeds
from suite.backends import BACKENDS, Backend
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, POSITIVE_OR_ZERO, TEXT
from suite.instruments.gradient_noise import batch_gradient, sampled_noise
from suite.instruments.gradient_pass import gradient_statistics
from suite.training.epoch import Batch, resident_batches
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

STAGES = ("at initialisation", "after a tenth of training")


def train_a_tenth(
    workload: Workload, data: Data, model: nn.Module, protocol: Protocol, replica: int, backend: Backend
) -> None:
    """Train `model` on `backend` for the updates of the protocol's `TenthOfTraining`."""
    batch_size = protocol.budget.batch_size
    optimizer = protocol.optimizer_at(batch_size).make(model, protocol.learning_rate)
    batches = endless_batches(workload, data, protocol, batch_size, replica)
    with seeds.torch_seeded("dropout", batch_size, replica, base_seed=workload.base_seed):
        for _ in range(protocol.budget.updates(len(data.train_inputs))):
            update(backend, model, workload.loss, optimizer, *next(batches))


def sampled_batches(batch_size: int, examples: int) -> int:
    """The number of batches to sample: 100, fewer of large batches, one of the full batch, which has no noise."""
    return 1 if batch_size == examples else max(8, min(100, 50_000 // batch_size))


def batches_of_epochs(data: Data, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """The batches of one epoch after another, shuffled as for training. The smaller batch at the end of an epoch is
    left out."""
    while True:
        epoch = resident_batches(data.train_inputs, data.train_targets, batch_size, generator)
        yield from itertools.islice(epoch, len(data.train_inputs) // batch_size)


def stages(workload: Workload, data: Data, cell: Cell) -> Iterator[tuple[int, str, Data, nn.Module]]:
    """Yield each replica of the cell at each stage: its number, the stage, its split, and the model there, in
    evaluation mode; on the cell's device."""
    backend = BACKENDS[cell.backend]
    device = backend.device.torch_device
    data = data.to(device)
    for replica in range(cell.repeats):
        split = workload.replica_data(data, replica)
        model = workload.initial_model(replica).to(device)
        for stage in STAGES:
            if stage != STAGES[0]:
                train_a_tenth(workload, split, model.train(), cell.protocol, replica, backend)
            yield replica, stage, split, model.eval()


def measure_noise(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica and stage: `gradient_norm` |G| and `noise`, the root mean square of |g_B − G| over
    sampled batches of the cell's size, both in the loss's unit over the parameters', and `relative_noise`."""
    rows = []
    for replica, stage, split, model in stages(workload, data, cell):
        examples = (split.train_inputs, split.train_targets)
        generator = workload.generator("noise", stage, cell.batch_size, replica)
        count = sampled_batches(cell.batch_size, len(split.train_inputs))
        batches = itertools.islice(batches_of_epochs(split, cell.batch_size, generator), count)
        norm = batch_gradient(model, workload.loss, *examples).norm().item()
        noise = sampled_noise(model, workload.loss, *examples, batches)
        rows.append((replica, stage, norm, noise, noise / norm, count, "ok"))
    columns = ["seed", "stage", "gradient_norm", "noise", "relative_noise", "batches", "status"]
    return pd.DataFrame(rows, columns=columns)


def measure_variance(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica and stage: `gradient_norm` |G| and `variance` S², from which the noise of every batch
    size follows."""
    rows = []
    for replica, stage, split, model in stages(workload, data, cell):
        examples = (split.train_inputs, split.train_targets)
        statistics = gradient_statistics(model, workload.loss, *examples)
        rows.append((replica, stage, math.sqrt(statistics.squared_norm), statistics.variance, "ok"))
    return pd.DataFrame(rows, columns=["seed", "stage", "gradient_norm", "variance", "status"])


AT_STAGE = {"seed": COUNT, "stage": TEXT, "gradient_norm": POSITIVE_OR_ZERO}

GRADIENT_NOISE = Measurement(
    "gradient_noise",
    version=5,
    columns={**AT_STAGE, "noise": POSITIVE_OR_ZERO, "relative_noise": POSITIVE_OR_ZERO, "batches": COUNT},
    measure=measure_noise,
)
GRADIENT_VARIANCE = Measurement(
    "gradient_variance", version=2, columns={**AT_STAGE, "variance": POSITIVE_OR_ZERO}, measure=measure_variance
)
