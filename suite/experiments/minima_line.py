"""The loss along the line between the solutions of two batch sizes."""

import pandas as pd
from torch import nn

from suite import seeds
from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.instruments.minima_line import losses_along_line
from suite.training.evaluate import evaluate
from suite.training.plain import trained
from suite.workloads import Data, Workload


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return the line of each replica: from its solution at the protocol's target with the batch size
    `cell.compared_with` to its solution with the cell's batch size. A replica that misses the target with either is
    a row with a status alone."""
    backend, frames = BACKENDS[cell.backend], []
    data = data.to(backend.device.torch_device)
    for replica in range(cell.repeats):
        split, ends = workload.replica_data(data, replica), []
        for batch_size in (cell.compared_with, cell.batch_size):
            model, table = trained(workload, split, cell.protocol, batch_size, replica, backend)
            ends.append((model, table["status"].iloc[-1]))
        status = next((status for _, status in ends if status != "ok"), "ok")
        models = [model for model, _ in ends]
        rows = line(workload, split, *models) if status == "ok" else pd.DataFrame([{}])
        frames.append(rows.assign(seed=replica, status=status))
    return pd.concat(frames, ignore_index=True)


def line(workload: Workload, data: Data, first: nn.Module, second: nn.Module) -> pd.DataFrame:
    """Loss and score on all training and all test examples, in evaluation mode: a row per position (`place`) on the
    line from `first` to `second`."""

    def on_both_splits(model: nn.Module) -> dict[str, float]:
        train_loss, train_score = evaluate(workload, model, data.train_inputs, data.train_targets)
        test_loss, test_score = evaluate(workload, model, data.test_inputs, data.test_targets)
        return {
            "train_loss": train_loss,
            "train_score": train_score,
            "test_loss": test_loss,
            "test_score": test_score,
        }

    with seeds.torch_seeded("statistics", base_seed=workload.base_seed):
        return losses_along_line(first, second, on_both_splits, data.train_inputs)


LINE = Measurement("line", version=2, measure=measure)
