"""How many updates it takes to leave a saddle."""

import math

import pandas as pd
import torch
from torch import Tensor

from suite.backends import BACKENDS
from suite.cells import Cell, Measurement
from suite.training.ensemble import Ensemble
from suite.workloads import Data, Workload

LEFT_AT = 1e-3
"""How far from the saddle it is left."""
CURVATURE = -2.0
"""Of (1 - w1 w2)^2 along the diagonal."""
ON = 1.5
"""A training goes on so many times as long as it took the last replica to leave, to show what follows."""


def updates_to_leave(learning_rate: float, momentum: float, start: float) -> float:
    """Updates from rest at `start` along the unstable axis to LEFT_AT, by the recursion
    x_(k+1) = (1 + lambda - eta h) x_k - lambda x_(k-1); interpolated in log x between two updates."""
    before, now, updates = start, start, 0
    while now < LEFT_AT:
        before, now = now, (1 + momentum - learning_rate * CURVATURE) * now - momentum * before
        updates += 1
    return updates - math.log(now / LEFT_AT) / math.log(now / before) if updates else 0.0


def measure_leaving(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per start (`seed`) and update: `distance` from the saddle at zero along the diagonal, and `train_loss`.
    `status` is target_not_reached where the cell's budget ends before the saddle is left."""
    protocol, device = cell.protocol, BACKENDS[cell.backend].device.torch_device
    data = data.to(device)
    examples = (data.train_inputs, data.train_targets)
    most = protocol.budget.expected_updates(len(data.train_inputs), cell.batch_size)
    ensemble = Ensemble(workload, range(cell.repeats), protocol.learning_rate, protocol.optimizer, device)
    everything = torch.arange(len(data.train_inputs), device=device).expand(cell.repeats, -1)
    frames, updates, end = [], 0, most
    while updates <= end:
        distance = _distance(ensemble)
        frames.append({"updates": updates, "distance": distance.tolist()})
        frames[-1]["train_loss"] = ensemble.evaluate(*examples)[0].tolist()
        if end == most and (distance >= LEFT_AT).all():
            end = min(most, math.ceil(ON * updates))
        ensemble.update(*examples, everything)
        updates += 1
    rows = pd.concat([pd.DataFrame(frame).rename_axis("seed").reset_index() for frame in frames], ignore_index=True)
    left = rows.groupby("seed")["distance"].transform("max") >= LEFT_AT
    return rows.assign(status=left.map({True: "ok", False: "target_not_reached"}))


def _distance(ensemble: Ensemble) -> Tensor:
    (weights,) = ensemble.parameters.values()
    return weights.sum(dim=1).abs() / math.sqrt(2)


LEAVING = Measurement("leaving", version=1, measure=measure_leaving)
