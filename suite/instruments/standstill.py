"""Stuck or slow: where a large batch stands when its epochs are over, and what becomes of it with more updates."""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import nn

from suite.backends import CPU
from suite.cells import Cell, Measurement
from suite.instruments.sharpness import EXAMPLES, LossSurface, extreme_eigenvalue
from suite.training.evaluate import evaluate
from suite.training.plain import endless_batches
from suite.training.protocol import growing, updates_per_epoch
from suite.training.update import update
from suite.workloads import Data, Workload


def trained_on(
    workload: Workload, data: Data, cell: Cell, batch_size: int, replica: int
) -> Iterator[tuple[int, nn.Module]]:
    """Updates made and the model, which the next update changes; before the first update and after each, for ever."""
    model = workload.initial_model(replica).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=cell.protocol.learning_rate)
    batches = endless_batches(data, batch_size, replica)
    updates = 0
    while True:
        yield updates, model
        update(CPU, model, workload.loss, optimizer, *next(batches))
        updates += 1


def after(running: Iterator[tuple[int, nn.Module]], updates: int) -> nn.Module:
    return next(model for made, model in running if made == updates)


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica, trained with the cell's batch size for the epochs of its budget, and with the workload's
    small one, whose updates are the budget.

    At the end of the epochs: `updates`, `train_loss`, `gradient_norm` over its `initial_norm`, and the Hessian's
    `smallest` and `largest` eigenvalue; `small_updates` and `small_loss` of the small batch. Then it trains on until
    its loss is no more than that, or as many updates are made: `further_updates` and `further_loss`.
    """
    return pd.DataFrame([_of(workload, data, cell, replica) for replica in range(cell.repeats)])


def _of(workload: Workload, data: Data, cell: Cell, replica: int) -> dict:
    split = workload.replica_data(data, replica)
    examples = len(split.train_inputs)

    def loss(model: nn.Module) -> float:
        return evaluate(workload, model, split.train_inputs, split.train_targets)[0]

    small_updates = cell.protocol.budget.expected_updates(examples, workload.small)
    small_loss = loss(after(trained_on(workload, split, cell, workload.small, replica), small_updates))
    running = trained_on(workload, split, cell, cell.batch_size, replica)
    model = after(running, 0)
    initial_loss, initial_norm = loss(model), _norm(workload, split, model)
    updates = cell.protocol.budget.epochs * updates_per_epoch(examples, cell.batch_size)
    model = after(running, updates)
    row = {
        "seed": replica,
        "updates": updates,
        "train_loss": loss(model),
        "initial_norm": initial_norm,
        "gradient_norm": _norm(workload, split, model),
        "small_updates": small_updates,
        "small_loss": small_loss,
    }
    if not (small_loss <= initial_loss and row["train_loss"] <= initial_loss):
        return row | {"status": "diverged"}
    surface = _surface(workload, split, model)
    smallest, largest = (extreme_eigenvalue(surface, which) for which in ("SA", "LA"))
    made, reached = updates, row["train_loss"]
    for check in growing(min(small_updates, workload.max_updates), 1.05):
        if check > updates and reached > small_loss:
            made, reached = check, loss(after(running, check))
    return row | {
        "smallest": smallest,
        "largest": largest,
        "further_updates": made,
        "further_loss": reached,
        "status": "ok",
    }


def _surface(workload: Workload, data: Data, model: nn.Module) -> LossSurface:
    return LossSurface(model, workload.loss, data.train_inputs[:EXAMPLES], data.train_targets[:EXAMPLES])


def _norm(workload: Workload, data: Data, model: nn.Module) -> float:
    surface = _surface(workload, data, model)
    return float(surface.gradient(surface.here).norm())


STANDSTILL = Measurement("standstill", version=1, measure=measure)
