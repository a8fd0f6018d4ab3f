"""Trainings that start beside a saddle, until they have left it."""

import math

import pandas as pd
import torch
from torch import Tensor

from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER
from suite.training.ensemble import Ensemble
from suite.workloads import Data, Workload

DISTANCE = 1e-3
"""A replica has left the saddle at this distance from it."""
CURVATURE = -2.0
"""Of the loss (1 − w1 w2)² along its unstable axis, the diagonal."""
EXTENSION = 1.5
"""A training lasts this many times as long as the last replica takes to leave, to show what follows."""


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per start (`seed`) and update: `distance` from the saddle at zero along the diagonal, and
    `train_loss`. `status` is target_not_reached where the cell's budget ends before the saddle is left."""
    protocol, device = cell.protocol, BACKENDS[cell.backend].device.torch_device
    data = data.to(device)
    examples = (data.train_inputs, data.train_targets)
    max_updates = protocol.budget.expected_updates(len(data.train_inputs), cell.batch_size)
    ensemble = Ensemble(workload, range(cell.repeats), protocol.learning_rate, protocol.optimizer, device)
    full_batch = torch.arange(len(data.train_inputs), device=device).expand(cell.repeats, -1)
    frames, updates, end = [], 0, max_updates
    while updates <= end:
        distance = _distance(ensemble)
        frames.append({"updates": updates, "distance": distance.tolist()})
        frames[-1]["train_loss"] = ensemble.evaluate(*examples)[0].tolist()
        if end == max_updates and (distance >= DISTANCE).all():
            end = min(max_updates, math.ceil(EXTENSION * updates))
        ensemble.update(*examples, full_batch)
        updates += 1
    rows = pd.concat([pd.DataFrame(frame).rename_axis("seed").reset_index() for frame in frames], ignore_index=True)
    left = rows.groupby("seed")["distance"].transform("max") >= DISTANCE
    return rows.assign(status=left.map({True: "ok", False: "target_not_reached"}))


def _distance(ensemble: Ensemble) -> Tensor:
    (weights,) = ensemble.parameters.values()
    return weights.sum(dim=1).abs() / math.sqrt(2)


LEAVING = Measurement(
    "leaving",
    version=1,
    columns={"seed": COUNT, "updates": COUNT, "distance": NUMBER, "train_loss": NUMBER},
    measure=measure,
)
