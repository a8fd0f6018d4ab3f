"""Momentum taken apart: what a movement is made of, and how heavy ball converges.

The lecture's rule m_i = lambda m_(i-1) - eta g_(i-1) makes each movement the weighted sum of all previous gradients,
m_i = -eta sum_(j<i) lambda^(i-1-j) g_j.
"""

import cmath
import itertools

import pandas as pd
import torch
from torch import Tensor, nn

from suite.backends import CPU
from suite.cells import Cell, Measurement
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

MOST_UPDATES = 30
MOST_PARAMETERS = 100_000
"""Of a larger model so many are followed, evenly spread."""
PRECISION = 2.0**-23
"""Of float32."""


def followed(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, updates: int
) -> tuple[Tensor, Tensor]:
    """The parameters [updates + 1, P] of `replica` before the first and after each update, and the gradients
    [updates, P] that led there, in double precision. Trained plainly, by torch's own optimizer."""
    model = workload.initial_model(replica).train()
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = protocol.update_rule.twin(moving, protocol.learning_rate, protocol.momentum)
    count = sum(parameter.numel() for parameter in moving)
    chosen = torch.arange(0, count, -(-count // MOST_PARAMETERS))

    def flat(tensors) -> Tensor:
        return nn.utils.parameters_to_vector(tensors).detach()[chosen].double()

    parameters, gradients = [flat(moving)], []
    for batch in itertools.islice(endless_batches(data, protocol, batch_size, replica), updates):
        update(CPU, model, workload.loss, optimizer, *batch)
        parameters.append(flat(moving))
        gradients.append(flat(parameter.grad for parameter in moving))
    return torch.stack(parameters), torch.stack(gradients)


def weighted_sums(gradients: Tensor, learning_rate: float, momentum: float) -> Tensor:
    """-eta sum_(j<i) lambda^(i-1-j) g_j for i = 1 ... k from the gradients g_0 ... g_(k-1) [k, P]: the sum itself,
    not the recursion."""
    places = torch.arange(len(gradients))
    ages = places[:, None] - places
    weights = torch.where(ages >= 0, torch.tensor(momentum, dtype=torch.float64) ** ages.clamp(min=0), 0.0)
    return -learning_rate * weights @ gradients


def fitted_weights(movements: Tensor, gradients: Tensor, learning_rate: float) -> pd.DataFrame:
    """The weights over all previous gradients (divided by -eta) that make up each movement best, by least squares:
    columns `updates`, `gradient` (of which update) and `weight`."""
    rows = []
    for i, movement in enumerate(movements, start=1):
        fit = torch.linalg.lstsq(gradients[:i].T, movement[:, None], driver="gelsd").solution[:, 0] / -learning_rate
        rows += [(i, gradient, weight) for gradient, weight in enumerate(fit.tolist(), start=1)]
    return pd.DataFrame(rows, columns=["updates", "gradient", "weight"])


def measure_sums(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica and update, `stage` sum: how far the movement lies from the weighted sum of all previous
    gradients (`error`) and from the last gradient's part alone (`alone`), and how far single precision may part them
    (`bound`), all relative to the movement's norm. And the fitted weights of replica 0, `stage` weight.

    A movement is the difference of parameters that are kept to PRECISION of their size, and the optimizer's memory
    to PRECISION of its own, in each of the 1 / (1 - lambda) updates that it lasts.
    """
    protocol, frames = cell.protocol, []
    updates = min(MOST_UPDATES, protocol.budget.expected_updates(len(data.train_inputs), cell.batch_size))
    for replica in range(cell.repeats):
        own = workload.replica_data(data, replica)
        parameters, gradients = followed(workload, own, protocol, cell.batch_size, replica, updates)
        movements = parameters.diff(dim=0)
        size = movements.norm(dim=1)
        sums = weighted_sums(gradients, protocol.learning_rate, protocol.momentum)
        distances = {
            "error": (movements - sums).norm(dim=1) / size,
            "alone": (movements + protocol.learning_rate * gradients).norm(dim=1) / size,
            "bound": PRECISION * (parameters[1:].norm(dim=1) / size + 1 / (1 - protocol.momentum)),
        }
        each = {name: values.tolist() for name, values in distances.items()}
        frames.append(pd.DataFrame({"updates": range(1, updates + 1), **each}).assign(seed=replica, stage="sum"))
        if replica == 0 and updates <= parameters.shape[1]:
            frames.append(fitted_weights(movements, gradients, protocol.learning_rate).assign(stage="weight"))
    return pd.concat(frames, ignore_index=True).assign(status="ok")


WEIGHTED_SUM = Measurement("weighted_sum", version=1, measure=measure_sums)


def growth(learning_rate: float, momentum: float, curvature: float) -> float:
    """By what factor heavy ball multiplies a coordinate in an update, in the end: the larger root of
    r^2 - (1 + lambda - eta h) r + lambda = 0 in absolute value (Goh 2017). Below 1 it is stable."""
    middle = 1 + momentum - learning_rate * curvature
    root = cmath.sqrt(middle**2 - 4 * momentum)
    return max(abs(middle + root), abs(middle - root)) / 2
