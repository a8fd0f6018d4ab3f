import math

import numpy as np
import pytest

from suite.experiments.cell import Cell
from suite.experiments.sharpness import MAX_LOSS, SHARPNESS, measure
from suite.instruments import LossSurface, keskar_sharpness, largest_eigenvalue
from suite.training.budgets import FixedUpdates
from suite.training.learning_rate import Tuned
from suite.training.plain import trained
from suite.training.protocol import Protocol
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, tiny
from tests.training.test_annealing import annealed_protocol

WORKLOAD = tiny(fitted_loss=0.3)
MEASURES = ["largest_eigenvalue", "trace", "keskar", "invariant"]


def test_every_replica_is_measured_at_the_ends_of_its_annealed_trainings():
    protocol = annealed_protocol(WORKLOAD, Tuned(factor=2, each_way=1, growths=1, seeds=2))
    rows = measure(WORKLOAD, blobs(), Cell(SHARPNESS, "tiny", "cpu", 4, 3, protocol))
    assert set(rows["status"]) == {"ok"}
    means = np.exp(np.log(rows["train_loss"]).groupby(rows["updates"]).transform("mean"))
    close = means <= MAX_LOSS * WORKLOAD.target_loss
    assert (rows.loc[close, MEASURES] > 0).all(axis=None)
    assert rows.loc[~close, MEASURES].isna().all(axis=None)
    last = rows.groupby("seed").tail(1)
    assert last["seed"].tolist() == [0, 1, 2]
    assert means.iloc[-1] <= 0.3
    row, split = last.iloc[1], blobs().resplit(1)
    training = Protocol(row["learning_rate"], FixedUpdates(int(row["updates"])), annealed=True)
    model, table = trained(WORKLOAD, split, training, 4, 1)
    assert table["train_loss"].iloc[-1] == pytest.approx(row["train_loss"], rel=1e-6)
    surface = LossSurface(model, cross_entropy, split.train_inputs, split.train_targets)
    assert math.isclose(row["largest_eigenvalue"], largest_eigenvalue(surface), rel_tol=1e-4)
    assert math.isclose(row["keskar"], keskar_sharpness(surface), rel_tol=1e-2)
