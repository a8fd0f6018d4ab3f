"""Training one replica after another, with torch's own optimizer: slow and obvious."""

import math
from collections.abc import Iterator

import pandas as pd
import torch

from suite import seeds
from suite.backends import CPU, Backend
from suite.cells import Cell, Measurement
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
    workload: Workload,
    data: Data,
    protocol: Protocol,
    batch_size: int,
    replica: int,
    backend: Backend = CPU,
) -> pd.DataFrame:
    """Train `replica` and look at it whenever the protocol's budget says so.

    `data` is already split for the replica. Returns a row per look: `updates`, `epoch` (updates over
    updates per epoch), `train_loss`, `train_score`, `test_loss`, `test_score`, and `status`, the same in
    each row: `diverged` when the training loss stops being finite or ends above its initial value,
    `target_not_reached` when a target loss was not.
    """
    model = workload.initial_model(replica).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=protocol.learning_rate)
    updates_per_epoch = math.ceil(len(data.train_inputs) / batch_size)
    batches = endless_batches(data, batch_size, replica)
    rows, updates, reached = [], 0, False
    with seeds.torch_seeded("dropout", batch_size, replica):
        for check in protocol.budget.checks(updates_per_epoch):
            while updates < check:
                update(backend, model, workload.loss, optimizer, *next(batches))
                updates += 1
            train_loss, train_score = evaluate(workload, model, data.train_inputs, data.train_targets)
            test_loss, test_score = evaluate(workload, model, data.test_inputs, data.test_targets)
            rows.append((updates, updates / updates_per_epoch, train_loss, train_score, test_loss, test_score))
            reached = protocol.budget.reached(train_loss)
            if reached or not math.isfinite(train_loss):
                break
    looks = pd.DataFrame(rows, columns=["updates", "epoch", "train_loss", "train_score", "test_loss", "test_score"])
    return looks.assign(status=_status(looks["train_loss"], protocol, reached))


def _status(train_loss: pd.Series, protocol: Protocol, reached: bool) -> str:
    if not train_loss.iloc[-1] <= train_loss.iloc[0]:
        return "diverged"
    if protocol.budget.needs_target and not reached:
        return "target_not_reached"
    return "ok"


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Every replica of the cell: the rows of `train`, with a column `seed`."""
    replicas = [
        train(workload, workload.replica_data(data, replica), cell.protocol, cell.batch_size, replica)
        for replica in range(cell.repeats)
    ]
    return pd.concat(replicas, keys=range(cell.repeats), names=["seed"]).reset_index("seed")


TRAINING = Measurement("training", version=1, measure=measure)
