"""The path of a training over two parameters, and the loss surface around it."""

import pandas as pd
from torch import nn

from suite.backends import CPU
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER, optional
from suite.instruments.landscape import loss_surface
from suite.training.evaluate import evaluate
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

MARGIN = 0.15
"""Share of the path's width and height that the surface adds on each side."""


def measure_path(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return the path of the cell's batch size by its protocol."""
    split = workload.replica_data(data, 0)
    return path(workload, split, cell.protocol, cell.batch_size).assign(status="ok")


def measure_surface(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return the loss surface around the path of the cell's batch size by its protocol."""
    split = workload.replica_data(data, 0)
    course = path(workload, split, cell.protocol, cell.batch_size)
    bounds = tuple(_with_margin(course[name]) for name in ("first", "second"))
    model, examples = workload.initial_model(0), (split.train_inputs, split.train_targets)
    return loss_surface(model, workload.loss, *examples, bounds).assign(status="ok")


def path(workload: Workload, data: Data, protocol: Protocol, batch_size: int) -> pd.DataFrame:
    """The path of replica 0, a row per update: `updates`, the parameters `first` and `second`, `train_loss` over the
    whole training set, and the gradient of the last batch, `first_gradient` and `second_gradient`, NaN before the
    first update."""
    model = workload.initial_model(0).to(data.train_inputs.device)
    optimizer = protocol.optimizer_at(batch_size).make(model, protocol.learning_rate)
    examples = (data.train_inputs, data.train_targets)
    batches = endless_batches(workload, data, protocol, batch_size, replica=0)
    rows = [(0, *_parameters(model), evaluate(workload, model, *examples)[0], float("nan"), float("nan"))]
    for updates in range(1, protocol.budget.expected_updates(len(data.train_inputs), batch_size) + 1):
        update(CPU, model, workload.loss, optimizer, *next(batches))
        rows.append((updates, *_parameters(model), evaluate(workload, model, *examples)[0], *_gradients(model)))
    columns = ["updates", "first", "second", "train_loss", "first_gradient", "second_gradient"]
    return pd.DataFrame(rows, columns=columns)


def _parameters(model: nn.Module) -> list[float]:
    return nn.utils.parameters_to_vector(model.parameters()).tolist()


def _gradients(model: nn.Module) -> list[float]:
    return nn.utils.parameters_to_vector(parameter.grad for parameter in model.parameters()).tolist()


def _with_margin(values: pd.Series) -> tuple[float, float]:
    margin = MARGIN * (values.max() - values.min())
    return values.min() - margin, values.max() + margin


POINT = dict.fromkeys(("first", "second", "train_loss"), NUMBER)

PATH = Measurement(
    "path",
    version=2,
    columns={"updates": COUNT, **POINT, **optional("first_gradient", "second_gradient", of=NUMBER)},
    measure=measure_path,
)
SURFACE = Measurement("surface", version=2, columns=POINT, measure=measure_surface)
