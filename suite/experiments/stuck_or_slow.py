"""Stuck or slow: the state of a large batch at the end of its epochs, and the effect of more updates."""

from dataclasses import replace

import pandas as pd
from torch import nn

from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER, POSITIVE_OR_ZERO
from suite.experiments.sharpness import EXAMPLES
from suite.instruments.sharpness import LossSurface, extreme_eigenvalue
from suite.training.budgets import EqualEpochs, updates_per_epoch
from suite.training.plain import train_and_evaluate, trained
from suite.workloads import Data, Workload

EVALUATION_GROWTH = 1.05
"""Evaluated after 0, 1, 2, ... updates, and then whenever their number has grown by this factor."""


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica, trained with the cell's batch size for the epochs of its budget, and with the
    workload's small one, whose updates are the budget.

    At the first evaluation after the last epoch: `updates`, `train_loss`, `gradient_norm` beside its `initial_norm`,
    and the Hessian's `smallest` and `largest` eigenvalue; `small_updates` and `small_loss` of the small batch. Then
    the training continues until its loss is at most `small_loss`, or the budget is spent: `further_updates` and
    `further_loss`.
    """
    data = data.to(BACKENDS[cell.backend].device.torch_device)
    return pd.DataFrame([_measure_replica(workload, data, cell, replica) for replica in range(cell.repeats)])


def _measure_replica(workload: Workload, data: Data, cell: Cell, replica: int) -> dict:
    split, budget = workload.replica_data(data, replica), cell.protocol.budget
    backend = BACKENDS[cell.backend]
    equal_epochs = replace(cell.protocol, budget=EqualEpochs(budget.epochs))
    small = trained(workload, split, equal_epochs, workload.small, replica, backend)[1].iloc[-1]
    row = {"seed": replica, "small_updates": int(small["updates"]), "small_loss": small["train_loss"]}
    last_of_epochs = budget.epochs * updates_per_epoch(len(split.train_inputs), cell.batch_size)
    extended = replace(cell.protocol, budget=replace(budget, growth=EVALUATION_GROWTH))
    training = train_and_evaluate(workload, split, extended, cell.batch_size, replica, backend)
    for model, _, (updates, loss, *_) in training:
        if updates == 0:
            initial_loss, initial_norm = loss, _norm(_surface(workload, split, model))
        elif updates >= last_of_epochs and "updates" not in row:
            surface = _surface(workload, split, model)
            row |= {"updates": updates, "train_loss": loss}
            row |= {"initial_norm": initial_norm, "gradient_norm": _norm(surface)}
            if not (row["small_loss"] <= initial_loss and loss <= initial_loss):
                return row | {"status": "diverged"}
            row |= {"smallest": extreme_eigenvalue(surface, "SA"), "largest": extreme_eigenvalue(surface, "LA")}
        if "updates" in row and (loss <= row["small_loss"] or updates >= budget.max_updates):
            break
    return row | {"further_updates": updates, "further_loss": loss, "status": "ok"}


def _surface(workload: Workload, data: Data, model: nn.Module) -> LossSurface:
    return LossSurface(model, workload.loss, data.train_inputs[:EXAMPLES], data.train_targets[:EXAMPLES])


def _norm(surface: LossSurface) -> float:
    return float(surface.gradient(surface.parameters).norm())


STANDSTILL = Measurement(
    "standstill",
    version=1,
    columns={
        **dict.fromkeys(("seed", "small_updates", "updates", "further_updates"), COUNT),
        **dict.fromkeys(("small_loss", "train_loss", "further_loss", "smallest", "largest"), NUMBER),
        **dict.fromkeys(("initial_norm", "gradient_norm"), POSITIVE_OR_ZERO),
    },
    measure=measure,
)
