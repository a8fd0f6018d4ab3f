"""The gradient noise scale along trainings to a target loss."""

import math

import pandas as pd

from suite.backends import BACKENDS, Backend
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, EVALUATED, FLAG, NUMBER, POSITIVE_OR_ZERO
from suite.experiments.training import engine_of
from suite.instruments.gradient_pass import gradient_statistics
from suite.training import evaluations
from suite.training.learning_rate import Tuned
from suite.training.plain import train_and_evaluate
from suite.training.protocol import Protocol
from suite.training.tuning import Tuning, final_protocol
from suite.workloads import Data, Workload


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return every evaluation of replicas 0 ... repeats − 1, each with statistics over the replica's training set:
    `squared_norm` |G|² and `variance` tr(Σ), in the squared unit of the gradient, and `noise_scale`, in examples.

    A tuned learning rate is tuned first, with held-out seeds. `learning_rate` is the rate of the training, and
    `on_edge` whether it lies on the edge of its grid.
    """
    protocol, on_edge = _at_final_rate(workload, data, cell)
    backend = BACKENDS[cell.backend]
    data = data.to(backend.device.torch_device)
    frames = [
        _along_training(workload, workload.replica_data(data, replica), protocol, cell.batch_size, replica, backend)
        for replica in range(cell.repeats)
    ]
    rows = pd.concat(frames, keys=range(len(frames)), names=["seed"]).reset_index("seed")
    return rows.assign(learning_rate=protocol.learning_rate, on_edge=on_edge)


def _at_final_rate(workload: Workload, data: Data, cell: Cell) -> tuple[Protocol, bool]:
    if not isinstance(cell.protocol.rate_rule, Tuned):
        return cell.protocol, False
    trials = Tuning.of(workload, data, cell.protocol, cell.batch_size, engine_of(cell)).trials()
    return final_protocol(cell.protocol, trials), bool(trials["on_edge"].iloc[0])


def _along_training(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend
) -> pd.DataFrame:
    """The evaluations of one replica; those whose loss is not finite have no statistics."""
    seen, statistics = [], []
    for model, _, evaluation in train_and_evaluate(workload, data, protocol, batch_size, replica, backend):
        seen.append(evaluation)
        if math.isfinite(evaluation[1]):
            at_model = gradient_statistics(model, workload.loss, data.train_inputs, data.train_targets)
            statistics.append((at_model.squared_norm, at_model.variance, at_model.noise_scale))
        if evaluations.ends(0, protocol, seen):
            break
    table = evaluations.table(seen, protocol, len(data.train_inputs), batch_size)
    return table.join(pd.DataFrame(statistics, columns=["squared_norm", "variance", "noise_scale"]))


NOISE_SCALE = Measurement(
    "noise_scale",
    version=2,
    columns={
        "seed": COUNT,
        "on_edge": FLAG,
        **EVALUATED,
        "squared_norm": POSITIVE_OR_ZERO,
        "variance": POSITIVE_OR_ZERO,
        "noise_scale": NUMBER,
    },
    measure=measure,
)
