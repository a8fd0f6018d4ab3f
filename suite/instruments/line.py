"""The loss along the straight line through two solutions: the lecture's picture of a flat and a sharp minimum."""

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from suite import seeds
from suite.backends import BACKENDS
from suite.cells import Cell, Measurement
from suite.training.evaluate import evaluate
from suite.training.plain import trained
from suite.workloads import Data, Workload

PLACES = np.linspace(-1, 2, 25)
"""Where on the line: 0 is one solution, 1 the other (Goodfellow et al. 2015; Keskar et al. 2017, figure 3)."""
EXAMPLES, TOGETHER = 10_000, 500
"""How many training examples, the first, batch norm's statistics are taken from at each place, and how many of them
at once, at the most."""


def along(workload: Workload, data: Data, one: nn.Module, other: nn.Module) -> pd.DataFrame:
    """A row per place a of PLACES: loss and score of (1 - a) `one` + a `other` on all training and all test examples,
    in evaluation mode. Statistics of batch norm are taken anew at each place; all other buffers are those of
    `one`."""
    first, last = (nn.utils.parameters_to_vector(model.parameters()).detach() for model in (one, other))
    model = workload.initial_model(0).to(data.train_inputs.device)
    model.load_state_dict(one.state_dict())
    rows = []
    for place in PLACES.tolist():
        nn.utils.vector_to_parameters(torch.lerp(first, last, place), model.parameters())
        take_statistics(model, data.train_inputs, workload.base_seed)
        train = evaluate(workload, model, data.train_inputs, data.train_targets)
        rows.append((place, *train, *evaluate(workload, model, data.test_inputs, data.test_targets)))
    return pd.DataFrame(rows, columns=["place", "train_loss", "train_score", "test_loss", "test_score"])


def take_statistics(model: nn.Module, inputs: Tensor, base_seed: int = 0) -> None:
    """Set those of batch norm, where there is any, to what `model` makes of the first EXAMPLES of `inputs` in
    training mode (Izmailov et al. 2018, as torch has it): in equal parts, which count the same."""
    first = inputs[:EXAMPLES]
    with seeds.torch_seeded("statistics", base_seed=base_seed):
        update_bn(first.tensor_split(math.ceil(len(first) / TOGETHER)), model)


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """The line of each replica, from where it reaches the protocol's target with the batch size that the cell is
    compared with to where it does with the cell's own; a row with a status alone where it does not reach both."""
    backend, frames = BACKENDS[cell.backend], []
    data = data.to(backend.device.torch_device)
    for replica in range(cell.repeats):
        split, ends = workload.replica_data(data, replica), []
        for batch_size in (cell.compared_with, cell.batch_size):
            model, seen = trained(workload, split, cell.protocol, batch_size, replica, backend)
            ends.append((model, seen["status"].iloc[-1]))
        status = next((status for _, status in ends if status != "ok"), "ok")
        models = [model for model, _ in ends]
        rows = along(workload, split, *models) if status == "ok" else pd.DataFrame([{}])
        frames.append(rows.assign(seed=replica, status=status))
    return pd.concat(frames, ignore_index=True)


LINE = Measurement("line", version=2, measure=measure)
