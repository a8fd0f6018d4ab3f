import math

from suite.experiments.cell import Cell
from suite.experiments.sharpness import SHARPNESS, measure
from suite.instruments import LossSurface, keskar_sharpness, largest_eigenvalue
from suite.training.budgets import TargetLoss
from suite.training.plain import trained
from suite.training.protocol import Protocol
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, tiny


def test_every_replica_is_measured_where_it_reached_the_target():
    protocol = Protocol(0.1, TargetLoss(0.5, 500, growth=1.02))
    rows = measure(tiny(), blobs(), Cell(SHARPNESS, "tiny", "cpu", 4, 3, protocol))
    assert rows["seed"].tolist() == [0, 1, 2]
    assert set(rows["status"]) == {"ok"}
    assert (rows["train_loss"] <= 0.5).all()
    assert (rows[["largest_eigenvalue", "trace", "keskar", "invariant"]] > 0).all(axis=None)
    model, evaluations = trained(tiny(), blobs().resplit(1), protocol, 4, 1)
    assert evaluations["updates"].iloc[-1] == rows["updates"][1]
    split = blobs().resplit(1)
    surface = LossSurface(model, cross_entropy, split.train_inputs, split.train_targets)
    assert math.isclose(rows["largest_eigenvalue"][1], largest_eigenvalue(surface), rel_tol=1e-4)
    assert math.isclose(rows["keskar"][1], keskar_sharpness(surface), rel_tol=1e-2)


def test_a_replica_that_misses_the_target_is_a_row_without_measures():
    rows = measure(tiny(), blobs(), Cell(SHARPNESS, "tiny", "cpu", 4, 2, Protocol(0.1, TargetLoss(1e-6, 10))))
    assert set(rows["status"]) == {"target_not_reached"}
    assert "largest_eigenvalue" not in rows
