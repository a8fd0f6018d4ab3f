"""The loss of a model of two parameters as a surface, and the path that training takes on it."""

import pandas as pd
import torch
from torch import nn

from suite.backends import CPU
from suite.cells import Cell, Measurement
from suite.training.evaluate import evaluate
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

GRID = 61
MARGIN = 0.15
"""Of the path's width and height, on each side of it."""


def both(model: nn.Module) -> list[float]:
    """The model's two parameters, in the order of `model.parameters()`."""
    return nn.utils.parameters_to_vector(model.parameters()).tolist()


def both_slopes(model: nn.Module) -> list[float]:
    """The gradient of the last batch, in the same order."""
    return nn.utils.parameters_to_vector(parameter.grad for parameter in model.parameters()).tolist()


def path(workload: Workload, data: Data, protocol: Protocol, batch_size: int) -> pd.DataFrame:
    """Where replica 0 stands after each update of the protocol's budget: `updates`, the parameters `first` and
    `second`, `train_loss` over the whole training set, and the gradient of the batch that led there,
    `first_gradient` and `second_gradient`, nan at the start."""
    model = workload.initial_model(0).to(data.train_inputs.device)
    optimizer = protocol.optimizer_at(batch_size).make(model, protocol.learning_rate)
    examples = (data.train_inputs, data.train_targets)
    batches = endless_batches(workload, data, protocol, batch_size, replica=0)
    rows = [(0, *both(model), evaluate(workload, model, *examples)[0], float("nan"), float("nan"))]
    for updates in range(1, protocol.budget.expected_updates(len(data.train_inputs), batch_size) + 1):
        update(CPU, model, workload.loss, optimizer, *next(batches))
        rows.append((updates, *both(model), evaluate(workload, model, *examples)[0], *both_slopes(model)))
    columns = ["updates", "first", "second", "train_loss", "first_gradient", "second_gradient"]
    return pd.DataFrame(rows, columns=columns)


def surface(workload: Workload, data: Data, first: tuple[float, float], second: tuple[float, float]) -> pd.DataFrame:
    """Training loss on a grid of GRID x GRID parameters between the bounds `first` and `second`: a row per
    grid point, columns `first`, `second`, `train_loss`."""
    model, device = workload.initial_model(0), data.train_inputs.device
    rows = []
    for one in torch.linspace(*first, GRID).tolist():
        for two in torch.linspace(*second, GRID).tolist():
            nn.utils.vector_to_parameters(torch.tensor([one, two], device=device), model.parameters())
            rows.append((one, two, evaluate(workload, model, data.train_inputs, data.train_targets)[0]))
    return pd.DataFrame(rows, columns=["first", "second", "train_loss"])


def measure_path(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """The path of the cell's batch size by its protocol."""
    split = workload.replica_data(data, 0)
    return path(workload, split, cell.protocol, cell.batch_size).assign(status="ok")


def measure_surface(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """The surface about the path of the cell's batch size by its protocol."""
    split = workload.replica_data(data, 0)
    walked = path(workload, split, cell.protocol, cell.batch_size)
    return surface(workload, split, *(_about(walked[name]) for name in ("first", "second"))).assign(status="ok")


def _about(values: pd.Series) -> tuple[float, float]:
    margin = MARGIN * (values.max() - values.min())
    return values.min() - margin, values.max() + margin


PATH = Measurement("path", version=2, measure=measure_path)
SURFACE = Measurement("surface", version=2, measure=measure_surface)
