"""The movements of a training, compared with the weighted sums of its gradients.

Weight decay counts as part of the gradient, or as a shrinkage of its own, as the optimizer applies it.
"""

import itertools
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from suite.backends import CPU
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER, TEXT, optional
from suite.instruments.momentum import fitted_weights, weighted_sums
from suite.optimizers import Optimizer
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

MAX_UPDATES = 30
MAX_PARAMETERS = 100_000
"""Of a larger model this many parameters are recorded, evenly spread."""
FLOAT32_PRECISION = 2.0**-23
"""Relative spacing of float32 numbers."""


@dataclass(frozen=True)
class Movements:
    """The movements of a training of k updates and P parameters, in double precision."""

    movements: Tensor
    """[k, P]: the movement of each update, times the optimizer's divisor of each coordinate (1, or Adam's root mean
    square gradient)."""
    gradients: Tensor
    """[k, P]: the gradients of the updates, times the learning-rate scale of the parameter group."""
    parameters: Tensor
    """[k, P]: the parameters after each update, times the divisor of `movements`."""


def record_movements(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, updates: int
) -> Movements:
    """Train `replica` by torch's own optimizer on the CPU, and record each update."""
    model, optimizer = workload.initial_model(replica).train(), protocol.optimizer_at(batch_size)
    moving = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    torch_optimizer = optimizer.make(model, protocol.learning_rate)
    count = sum(parameter.numel() for parameter in moving.values())
    chosen = torch.arange(0, count, -(-count // MAX_PARAMETERS))

    def flat(tensors) -> Tensor:
        return nn.utils.parameters_to_vector(tensors).detach()[chosen].double()

    def expanded(value_of) -> Tensor:
        """`value_of(name, parameter)` in the shape of each parameter."""
        values = {name: value_of(name, parameter) for name, parameter in moving.items()}
        return flat(
            value if isinstance(value, Tensor) else torch.full_like(moving[name], value, dtype=torch.float64)
            for name, value in values.items()
        )

    decay = expanded(lambda name, _: optimizer.of_parameter(name)[0]["weight_decay"])
    lr_scale = expanded(lambda name, _: optimizer.of_parameter(name)[1])
    decoupled = optimizer.form.decoupled_weight_decay
    shrinkage, added_decay = (protocol.learning_rate * lr_scale * decay, 0) if decoupled else (0, decay)
    after, rows = flat(moving.values()), []
    for batch in itertools.islice(endless_batches(workload, data, protocol, batch_size, replica), updates):
        update(CPU, model, workload.loss, torch_optimizer, *batch)
        before, after = after, flat(moving.values())
        divisor = expanded(
            lambda name, parameter: optimizer.form.scale(
                torch_optimizer.state[parameter], optimizer.of_parameter(name)[0]
            )
        )
        gradient = flat(parameter.grad for parameter in moving.values()) + added_decay * before
        rows.append(((after - (1 - shrinkage) * before) * divisor, gradient * lr_scale, after * divisor))
    return Movements(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


def last_weights(optimizer: Optimizer, updates: int) -> Tensor:
    """The weight of the last gradient in the movement of each of the first `updates` updates [k]: 1, or Adam's
    (1 − β1) / (1 − β1^i)."""
    if not optimizer.form.averages:
        return torch.ones(updates, dtype=torch.float64)
    powers = torch.tensor(optimizer.momentum, dtype=torch.float64) ** torch.arange(1, updates + 1)
    return (1 - optimizer.momentum) / (1 - powers)


def relative_distances(recorded: Movements, weights: Tensor, learning_rate: float, momentum: float) -> pd.DataFrame:
    """Return a row per update, with distances of its movement, relative to the norm of the movement: to the weighted
    sum of all past gradients (`error`), to the part of the last gradient alone (`alone`), and the distance that
    rounding in float32 explains (`bound`). `weights` [k] are those of the last gradients.

    A movement is the difference of parameters that are rounded to FLOAT32_PRECISION of their size, and the
    optimizer's state is rounded again in each of the 1 / (1 − λ) updates that a gradient lasts.
    """
    movements = recorded.movements / weights[:, None]
    norm, lifetime = movements.norm(dim=1), 1 / (1 - momentum)
    rounding = recorded.parameters.norm(dim=1) / recorded.movements.norm(dim=1) + lifetime
    distances = {
        "error": (movements - weighted_sums(recorded.gradients, learning_rate, momentum)).norm(dim=1) / norm,
        "alone": (movements + learning_rate * recorded.gradients).norm(dim=1) / norm,
        "bound": FLOAT32_PRECISION * rounding,
    }
    columns = {name: values.tolist() for name, values in distances.items()}
    return pd.DataFrame({"updates": range(1, len(movements) + 1), **columns})


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return the `relative_distances` of every replica, `stage` sum; and the fitted weights of replica 0, relative to
    that of the last gradient, `stage` weight."""
    protocol, frames = cell.protocol, []
    optimizer = protocol.optimizer_at(cell.batch_size)
    updates = min(MAX_UPDATES, protocol.budget.expected_updates(len(data.train_inputs), cell.batch_size))
    rate, weights = protocol.learning_rate, last_weights(optimizer, updates)
    for replica in range(cell.repeats):
        split = workload.replica_data(data, replica)
        recorded = record_movements(workload, split, protocol, cell.batch_size, replica, updates)
        rows = relative_distances(recorded, weights, rate, optimizer.momentum)
        frames.append(rows.assign(seed=replica, stage="sum"))
        if replica == 0 and updates <= recorded.movements.shape[1]:
            movements = recorded.movements / weights[:, None]
            frames.append(fitted_weights(movements, recorded.gradients, rate).assign(stage="weight"))
    return pd.concat(frames, ignore_index=True).assign(status="ok")


WEIGHTED_SUM = Measurement(
    "weighted_sum",
    version=1,
    columns={
        "stage": TEXT,
        "updates": COUNT,
        **optional("seed", of=COUNT),
        **optional("error", "alone", "bound", "gradient", "weight", of=NUMBER),
    },
    measure=measure,
)
