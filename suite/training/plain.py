"""Training one replica after another, with torch's own optimizer: slow and obvious."""

import math
from collections.abc import Iterator

import pandas as pd
import torch
from torch import nn

from suite import seeds
from suite.backends import CPU, Backend
from suite.training import looks
from suite.training.epoch import Batch, resident_batches
from suite.training.evaluate import evaluate
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload


def endless_batches(data: Data, batch_size: int, replica: int) -> Iterator[Batch]:
    """The batches of epoch after epoch, reshuffled before each, in the order of `replica`."""
    generator = seeds.generator("shuffle", batch_size, replica)
    while True:
        yield from resident_batches(data.train_inputs, data.train_targets, batch_size, generator)


def train(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend = CPU
) -> pd.DataFrame:
    """The table of `looks` at `replica` while it is trained as `trained` does."""
    return trained(workload, data, protocol, batch_size, replica, backend)[1]


def trained(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend = CPU
) -> tuple[nn.Module, pd.DataFrame]:
    """Train `replica`, look at it whenever the protocol's budget says so, and return it with the table of `looks`.

    `data` is already split for the replica, and on the backend's device.
    """
    model = workload.initial_model(replica).to(backend.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=protocol.learning_rate)
    updates_per_epoch = math.ceil(len(data.train_inputs) / batch_size)
    batches = endless_batches(data, batch_size, replica)
    seen, updates = [], 0
    with seeds.torch_seeded("dropout", batch_size, replica):
        for check in protocol.budget.checks(updates_per_epoch):
            while updates < check:
                update(backend, model, workload.loss, optimizer, *next(batches))
                updates += 1
            train_loss_and_score = evaluate(workload, model, data.train_inputs, data.train_targets)
            test_loss_and_score = evaluate(workload, model, data.test_inputs, data.test_targets)
            seen.append((updates, *train_loss_and_score, *test_loss_and_score))
            if looks.ends(seen[-1], protocol):
                break
    return model, looks.table(seen, protocol, updates_per_epoch)
