"""Momentum taken apart: what a movement is made of, and how heavy ball converges.

The lecture's rule m_i = λ m_(i-1) - η g_(i-1) makes each movement the weighted sum of all previous gradients,
m_i = -η sum_(j<i) λ^(i-1-j) g_j. Adam's is an average with the same weights, divided by the root of the mean square
gradient, coordinate by coordinate. Weight decay counts as part of a gradient, or by itself, as the optimizer has it.
"""

import cmath
import itertools
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from suite.backends import CPU
from suite.cells import Cell, Measurement
from suite.optimizers import Optimizer
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

MOST_UPDATES = 30
MOST_PARAMETERS = 100_000
"""Of a larger model so many are followed, evenly spread."""
PRECISION = 2.0**-23
"""Of float32."""


@dataclass(frozen=True)
class Followed:
    """A training of k updates and P parameters, in double precision."""

    movements: Tensor
    """[k, P]: how far each update moved the parameters, times what the optimizer divided each coordinate by (1, or
    Adam's root mean square gradient)."""
    gradients: Tensor
    """[k, P]: the gradients that led there, times the parameter group's share of the learning rate."""
    parameters: Tensor
    """[k, P]: the parameters after each update, times the same as `movements`."""


def followed(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, updates: int
) -> Followed:
    """The movements and gradients of `replica`, trained by torch's own optimizer on the CPU."""
    model, optimizer = workload.initial_model(replica).train(), protocol.optimizer_at(batch_size)
    moving = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    made = optimizer.make(model, protocol.learning_rate)
    count = sum(parameter.numel() for parameter in moving.values())
    chosen = torch.arange(0, count, -(-count // MOST_PARAMETERS))

    def flat(tensors) -> Tensor:
        return nn.utils.parameters_to_vector(tensors).detach()[chosen].double()

    def each(value_of) -> Tensor:
        """A value of each parameter, in the parameter's shape."""
        values = {name: value_of(name, parameter) for name, parameter in moving.items()}
        return flat(
            value if isinstance(value, Tensor) else torch.full_like(moving[name], value, dtype=torch.float64)
            for name, value in values.items()
        )

    decay = each(lambda name, _: optimizer.of_parameter(name)[0]["weight_decay"])
    shares = each(lambda name, _: optimizer.of_parameter(name)[1])
    decoupled = optimizer.form.decoupled_weight_decay
    shrunk, added = (protocol.learning_rate * shares * decay, 0) if decoupled else (0, decay)
    after, rows = flat(moving.values()), []
    for batch in itertools.islice(endless_batches(workload, data, protocol, batch_size, replica), updates):
        update(CPU, model, workload.loss, made, *batch)
        before, after = after, flat(moving.values())
        scale = each(lambda name, one: optimizer.form.scale(made.state[one], optimizer.of_parameter(name)[0]))
        gradient = flat(parameter.grad for parameter in moving.values()) + added * before
        rows.append(((after - (1 - shrunk) * before) * scale, gradient * shares, after * scale))
    return Followed(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


def last_weights(optimizer: Optimizer, updates: int) -> Tensor:
    """The weight of the last gradient in the movement of each of the first `updates` updates [k]: 1, or Adam's
    (1 - beta1) / (1 - beta1^i)."""
    if not optimizer.form.averages:
        return torch.ones(updates, dtype=torch.float64)
    powers = torch.tensor(optimizer.momentum, dtype=torch.float64) ** torch.arange(1, updates + 1)
    return (1 - optimizer.momentum) / (1 - powers)


def weighted_sums(gradients: Tensor, learning_rate: float, momentum: float) -> Tensor:
    """-η sum_(j<i) λ^(i-1-j) g_j for i = 1 ... k from the gradients g_0 ... g_(k-1) [k, P]: the sum itself, not the
    recursion."""
    places = torch.arange(len(gradients))
    ages = places[:, None] - places
    weights = torch.where(ages >= 0, torch.tensor(momentum, dtype=torch.float64) ** ages.clamp(min=0), 0.0)
    return -learning_rate * weights @ gradients


def fitted_weights(movements: Tensor, gradients: Tensor, learning_rate: float) -> pd.DataFrame:
    """The weights over all previous gradients (divided by -η) that make up each movement best, by least squares:
    columns `updates`, `gradient` (of which update) and `weight`."""
    rows = []
    for i, movement in enumerate(movements, start=1):
        fit = torch.linalg.lstsq(gradients[:i].T, movement[:, None], driver="gelsd").solution[:, 0] / -learning_rate
        rows += [(i, gradient, weight) for gradient, weight in enumerate(fit.tolist(), start=1)]
    return pd.DataFrame(rows, columns=["updates", "gradient", "weight"])


def measure_sums(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica and update, `stage` sum: how far the movement lies from the weighted sum of all previous
    gradients (`error`) and from the last gradient's part alone (`alone`), and how far single precision may part them
    (`bound`), all relative to the movement's norm. And the fitted weights of replica 0, relative to the last
    gradient's, `stage` weight.

    A movement is the difference of parameters that are kept to PRECISION of their size, and the optimizer's state
    to PRECISION of its own, in each of the 1 / (1 - λ) updates that it lasts.
    """
    protocol, frames = cell.protocol, []
    optimizer = protocol.optimizer_at(cell.batch_size)
    updates = min(MOST_UPDATES, protocol.budget.expected_updates(len(data.train_inputs), cell.batch_size))
    rate, lasting = protocol.learning_rate, 1 / (1 - optimizer.momentum)
    for replica in range(cell.repeats):
        own = workload.replica_data(data, replica)
        seen = followed(workload, own, protocol, cell.batch_size, replica, updates)
        movements = seen.movements / last_weights(optimizer, updates)[:, None]
        size = movements.norm(dim=1)
        distances = {
            "error": (movements - weighted_sums(seen.gradients, rate, optimizer.momentum)).norm(dim=1) / size,
            "alone": (movements + rate * seen.gradients).norm(dim=1) / size,
            "bound": PRECISION * (seen.parameters.norm(dim=1) / seen.movements.norm(dim=1) + lasting),
        }
        each = {name: values.tolist() for name, values in distances.items()}
        frames.append(pd.DataFrame({"updates": range(1, updates + 1), **each}).assign(seed=replica, stage="sum"))
        if replica == 0 and updates <= movements.shape[1]:
            frames.append(fitted_weights(movements, seen.gradients, rate).assign(stage="weight"))
    return pd.concat(frames, ignore_index=True).assign(status="ok")


WEIGHTED_SUM = Measurement("weighted_sum", version=1, measure=measure_sums)


def growth(learning_rate: float, momentum: float, curvature: float) -> float:
    """By what factor heavy ball multiplies a coordinate in an update, in the end: the larger root of
    r^2 - (1 + λ - η h) r + λ = 0 in absolute value (Goh 2017). Below 1 it is stable."""
    middle = 1 + momentum - learning_rate * curvature
    root = cmath.sqrt(middle**2 - 4 * momentum)
    return max(abs(middle + root), abs(middle - root)) / 2
