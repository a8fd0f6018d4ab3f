"""The sharpness at the ends of annealed trainings."""

import pandas as pd
import torch
from torch import nn

from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER, optional
from suite.experiments.training import engine_of
from suite.instruments.sharpness import LossSurface, invariant_sharpness, keskar_sharpness, largest_eigenvalue, trace
from suite.status import Status
from suite.training.annealing import Annealing, mean_loss
from suite.training.tuning import best_rate
from suite.workloads import Data, Workload

EXAMPLES = 2000
"""The loss surface is that of the first training examples, at most this many."""
PROBES = 20
"""Random vectors for the trace."""
MAX_LOSS = 2
"""Limit of the mean training loss, over the loss at which the rate is tuned, where the sharpness is measured."""


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica and length of its annealed trainings, from the tuned peak rate: `updates` and
    `train_loss` at the end, and four measures of the loss surface of at most EXAMPLES training examples, in
    float32."""
    data = data.to(BACKENDS[cell.backend].device.torch_device)
    annealing = Annealing.of(workload, data, cell.protocol, cell.batch_size, engine_of(cell))
    rate, rows = best_rate(annealing.trials()), []
    for models, ends in annealing.models(rate, range(cell.repeats)):
        is_measured = mean_loss(ends) <= MAX_LOSS * cell.protocol.budget.tuning_loss
        for model, (_, end) in zip(models, ends.iterrows(), strict=True):
            row = {"learning_rate": rate, **end[["seed", "updates", "train_loss", "status"]]}
            if is_measured and end["status"] == Status.OK:
                row |= measures(workload, model, workload.replica_data(data, end["seed"]), end["seed"])
            rows.append(row)
    return pd.DataFrame(rows)


def measures(workload: Workload, model: nn.Module, data: Data, replica: int) -> dict[str, float]:
    """The four measures of sharpness of `model`, on at most EXAMPLES training examples of `data`.

    In float32; in the widest float where float32 rounds the Hessian away, as at a loss near 0.
    """
    examples = (data.train_inputs[:EXAMPLES], data.train_targets[:EXAMPLES])
    try:
        return _measures(workload, LossSurface(model, workload.loss, *examples, torch.float32), replica)
    except ValueError:
        return _measures(workload, LossSurface(model, workload.loss, *examples), replica)


def _measures(workload: Workload, surface: LossSurface, replica: int) -> dict[str, float]:
    return {
        "largest_eigenvalue": largest_eigenvalue(surface),
        "trace": trace(surface, PROBES, workload.generator("hutchinson", replica)).estimate,
        "keskar": keskar_sharpness(surface),
        "invariant": invariant_sharpness(surface),
    }


SHARPNESS = Measurement(
    "sharpness",
    version=4,
    columns={
        "seed": COUNT,
        "updates": COUNT,
        "train_loss": NUMBER,
        **optional("largest_eigenvalue", "trace", "keskar", "invariant", of=NUMBER),
    },
    measure=measure,
    trains=True,
)
