"""The noise scale along a training, and what it says of the updates that every batch size needs.

At batch size B an update is worth 1 / (1 + b / B) of one without noise, with b = tr(Sigma) / |G|^2 where it is made:
that is the share of the true gradient in the mean square of a batch's, |G|^2 / (|G|^2 + tr(Sigma) / B). Summed over
the updates of a training at B, these shares are the updates that it would take without noise, S_min; b / (1 + b / B)
sums up to the examples that an endlessly small batch would take, E_min; and b_eff = E_min / S_min is the one noise
scale with which S(B) = S_min (1 + b_eff / B) predicts the updates of every batch size (McCandlish et al. 2018,
equations 2.7 and 2.11, appendix D). A plain mean over the updates is dominated by the last of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.backends import BACKENDS, Backend
from suite.cells import Cell, Measurement
from suite.instruments.gradient_pass import gradient_statistics
from suite.training import looks
from suite.training.learning_rate import Tuned
from suite.training.plain import looks_at
from suite.training.protocol import Protocol
from suite.training.tuning import compiling_trials, settled, tune
from suite.workloads import Data, Workload


@dataclass(frozen=True)
class Effective:
    """What a training with noise scale b along it comes to."""

    least_updates: float
    """S_min: updates that the same way would take without noise."""
    least_examples: float
    """E_min: examples that it would take in endlessly small batches."""

    @property
    def noise_scale(self) -> float:
        """b_eff, in examples."""
        return self.least_examples / self.least_updates

    def updates(self, batch_size: float) -> float:
        """S(B), predicted for any batch size at its own best rate."""
        return self.least_updates * (1 + self.noise_scale / batch_size)


def effective(updates: Sequence[int], noise_scales: Sequence[float], batch_size: int, until: float) -> Effective:
    """From the noise scales b [n] at looks after so many `updates` [n], the first being 0, of a training with
    `batch_size` that has reached its target after `until` updates, not beyond the last look.

    Between two looks an update's share 1 / (1 + b / B) changes linearly with log(1 + updates). A fraction of an
    update in `until` counts as such.
    """
    shares = 1 / (1 + np.asarray(noise_scales, float) / batch_size)
    made, weights = _made(until)
    least_updates = float(weights @ _between(updates, shares, made))
    return Effective(least_updates, batch_size * (until - least_updates))  # b / (1 + b / B) = B (1 - share)


def plain_mean(updates: Sequence[int], noise_scales: Sequence[float], until: float) -> float:
    """Mean noise scale over the updates up to `until`, all with the same weight; between looks as in `effective`."""
    made, weights = _made(until)
    return float(weights @ _between(updates, noise_scales, made) / until)


def _made(until: float) -> tuple[np.ndarray, np.ndarray]:
    """How many updates were made before each of the first `until`, and how much each of these counts."""
    made = np.arange(math.ceil(until))
    return made, np.minimum(1, until - made)


def _between(updates: Sequence[int], values: Sequence[float], made: np.ndarray) -> np.ndarray:
    return np.interp(np.log1p(made), np.log1p(updates), values)


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """All looks at replicas 0 ... repeats - 1, each with the gradient's statistics over the replica's whole training
    set: `squared_norm` |G|^2 and `variance` tr(Sigma), in the squared unit of the gradient, and `noise_scale`, in
    examples. A rate to be tuned is tuned first, with other replicas. `learning_rate` is the one trained with, and
    `on_edge` says whether it lies on the edge of its grid."""
    protocol, on_edge = _at_its_rate(workload, data, cell)
    backend = BACKENDS[cell.backend]
    data = data.to(backend.device.torch_device)
    frames = [
        _along(workload, workload.replica_data(data, replica), protocol, cell.batch_size, replica, backend)
        for replica in range(cell.repeats)
    ]
    rows = pd.concat(frames, keys=range(len(frames)), names=["seed"]).reset_index("seed")
    return rows.assign(learning_rate=protocol.learning_rate, on_edge=on_edge)


def _at_its_rate(workload: Workload, data: Data, cell: Cell) -> tuple[Protocol, bool]:
    if not isinstance(cell.protocol.rate_rule, Tuned):
        return cell.protocol, False
    trials = tune(workload, data, cell, compiling_trials(workload, data, cell))
    return settled(cell.protocol, trials), bool(trials["on_edge"].iloc[0])


def _along(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend
) -> pd.DataFrame:
    """The looks at one replica; those at a loss that is no number have no statistics."""
    seen, found = [], []
    for model, look in looks_at(workload, data, protocol, batch_size, replica, backend):
        seen.append(look)
        if math.isfinite(look[1]):
            statistics = gradient_statistics(model, workload.loss, data.train_inputs, data.train_targets)
            found.append((statistics.squared_norm, statistics.variance, statistics.noise_scale))
        if looks.ends(0, protocol, seen):
            break
    table = looks.table(seen, protocol, len(data.train_inputs), batch_size)
    return table.join(pd.DataFrame(found, columns=["squared_norm", "variance", "noise_scale"]))


NOISE_SCALE = Measurement("noise_scale", version=2, measure=measure)
