"""The sharpness of the points at which trainings reach a target loss."""

import pandas as pd
import torch

from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.instruments.sharpness import LossSurface, invariant_sharpness, keskar_sharpness, largest_eigenvalue, trace
from suite.training.plain import trained
from suite.workloads import Data, Workload

EXAMPLES = 2000
"""The loss surface is that of the first training examples, at most this many."""
PROBES = 20
"""Random vectors for the trace."""


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica, trained to the protocol's target: `updates` and `train_loss` there, and four measures
    of the loss surface of at most EXAMPLES training examples, in float32."""
    backend, rows = BACKENDS[cell.backend], []
    data = data.to(backend.device.torch_device)
    for replica in range(cell.repeats):
        split = workload.replica_data(data, replica)
        model, table = trained(workload, split, cell.protocol, cell.batch_size, replica, backend)
        last = table.iloc[-1]
        row = {"seed": replica, **last[["updates", "train_loss", "status"]]}
        if last["status"] == "ok":
            examples = (split.train_inputs[:EXAMPLES], split.train_targets[:EXAMPLES])
            surface = LossSurface(model, workload.loss, *examples, torch.float32)
            row["largest_eigenvalue"] = largest_eigenvalue(surface)
            row["trace"] = trace(surface, PROBES, workload.generator("hutchinson", replica)).estimate
            row["keskar"] = keskar_sharpness(surface)
            row["invariant"] = invariant_sharpness(surface)
        rows.append(row)
    return pd.DataFrame(rows)


SHARPNESS = Measurement("sharpness", version=2, measure=measure)
