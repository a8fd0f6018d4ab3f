"""The loss of a model of two parameters as a surface, and the path that training takes on it."""

import pandas as pd
import torch
from torch import nn

from suite.backends import CPU
from suite.cells import Cell, Measurement
from suite.training.evaluate import evaluate
from suite.training.plain import endless_batches
from suite.training.update import update
from suite.workloads import Data, Workload

GRID = 61
PATH_COLUMNS = ["updates", "first", "second", "train_loss"]


def parameters(model: nn.Module) -> list[float]:
    """The model's two parameters, in the order of `model.parameters()`."""
    return nn.utils.parameters_to_vector(model.parameters()).tolist()


def path(workload: Workload, data: Data, batch_size: int, epochs: int) -> pd.DataFrame:
    """Where replica 0 stands after each update of `epochs` epochs: `updates`, the parameters `first` and
    `second`, and `train_loss` over the whole training set."""
    model = workload.initial_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=workload.learning_rate)
    examples = (data.train_inputs, data.train_targets)
    batches = endless_batches(data, batch_size, replica=0)
    rows = [(0, *parameters(model), evaluate(workload, model, *examples)[0])]
    for updates in range(1, epochs * -(-len(data.train_inputs) // batch_size) + 1):
        update(CPU, model, workload.loss, optimizer, *next(batches))
        rows.append((updates, *parameters(model), evaluate(workload, model, *examples)[0]))
    return pd.DataFrame(rows, columns=PATH_COLUMNS)


def surface(workload: Workload, data: Data, first: tuple[float, float], second: tuple[float, float]) -> pd.DataFrame:
    """Training loss on a grid of GRID x GRID parameters between the bounds `first` and `second`: a row per
    grid point, columns `first`, `second`, `train_loss`."""
    model = workload.initial_model(0)
    rows = []
    for one in torch.linspace(*first, GRID).tolist():
        for two in torch.linspace(*second, GRID).tolist():
            nn.utils.vector_to_parameters(torch.tensor([one, two]), model.parameters())
            rows.append((one, two, evaluate(workload, model, data.train_inputs, data.train_targets)[0]))
    return pd.DataFrame(rows, columns=["first", "second", "train_loss"])


def measure_path(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """The path of the cell's batch size over its protocol's epochs."""
    split = workload.replica_data(data, 0)
    return path(workload, split, cell.batch_size, cell.protocol.budget.epochs).assign(status="ok")


def measure_surface(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """The surface about the longest path there is, that of one example at a time."""
    split = workload.replica_data(data, 0)
    walked = path(workload, split, 1, cell.protocol.budget.epochs)
    bounds = [(walked[name].min() - 0.3, walked[name].max() + 0.3) for name in ("first", "second")]
    return surface(workload, split, *bounds).assign(status="ok")


PATH = Measurement("path", version=1, measure=measure_path)
SURFACE = Measurement("surface", version=1, measure=measure_surface)
