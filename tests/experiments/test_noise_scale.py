import math

import numpy as np
import pytest
import torch
from torch import nn

from suite.experiments.cell import Cell
from suite.experiments.noise_scale import NOISE_SCALE, measure
from suite.experiments.tuned_training import TRIAL, TUNED_TRAINING
from suite.experiments.tuned_training import measure as measure_tuned
from suite.instruments import gradient_statistics
from suite.optimizers import adamw, sgd
from suite.training.budgets import TargetLoss
from suite.training.learning_rate import Tuned
from suite.training.plain import train_and_evaluate, trained
from suite.training.protocol import Protocol
from suite.training.tuning import MAX_TRIAL_UPDATES
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, tiny

TARGET = TargetLoss(0.5, 300)


def cell(protocol: Protocol, repeats: int = 2, batch_size: int = 4) -> Cell:
    return Cell(NOISE_SCALE, "tiny", "cpu", batch_size, repeats, protocol)


class Centre(nn.Module):
    """Half the squared distance of an example from the parameters: the gradient is the difference."""

    def __init__(self):
        super().__init__()
        self.at = nn.Parameter(5 + torch.rand(4))

    def forward(self, inputs):
        return 0.5 * (self.at - inputs).square().sum(dim=1, keepdim=True)


def test_along_a_quadratic_the_statistics_follow_from_the_loss():
    """The loss is half |G|^2 and half the mean square of the examples about their mean, the source of all noise."""
    data = blobs()
    workload = tiny(
        model=Centre,
        resplit=False,
        loss=lambda outputs, targets: outputs[:, 0],
        score=lambda outputs, targets: -outputs[:, 0],
    )
    rows = measure(workload, data, cell(Protocol(0.05, TargetLoss(6.0, 300))))
    variance = data.train_inputs.var(dim=0).sum().item()
    np.testing.assert_allclose(rows["variance"], variance, rtol=1e-5)
    np.testing.assert_allclose(rows["squared_norm"], 2 * rows["train_loss"] - 39 / 40 * variance, rtol=1e-4)
    np.testing.assert_allclose(rows["noise_scale"], rows["variance"] / rows["squared_norm"])
    assert set(rows["status"]) == {"ok"}
    of_each = rows.groupby("seed")["noise_scale"]
    assert (of_each.last() > of_each.first()).all()


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(0.1, TARGET),
        Protocol(0.02, TARGET, optimizer=sgd(momentum=0.9, weight_decay=0.01)),
        Protocol(0.01, TARGET, optimizer=adamw()),
    ],
    ids=str,
)
def test_the_noise_scale_is_measured_along_the_training_of_each_replica(protocol):
    rows = measure(tiny(), blobs(), cell(protocol))
    for replica in (0, 1):
        of_replica, split = rows[rows["seed"] == replica], blobs().resplit(replica)
        _, evaluations = trained(tiny(), split, protocol, 4, replica)
        assert of_replica[evaluations.columns].reset_index(drop=True).equals(evaluations)
        for (model, *_), scale in zip(
            train_and_evaluate(tiny(), split, protocol, 4, replica), of_replica["noise_scale"], strict=False
        ):
            statistics = gradient_statistics(model, cross_entropy, split.train_inputs, split.train_targets)
            assert math.isclose(scale, statistics.noise_scale)


def test_a_tuned_rate_is_that_of_the_tuned_training():
    tuned = cell(Protocol(0.1, TARGET, Tuned(each_way=2, seeds=2)))
    rows, expected = measure(tiny(), blobs(), tuned), measure_tuned(tiny(), blobs(), tuned)
    final = expected[expected["stage"] != TRIAL]
    assert rows["learning_rate"].unique() == final["learning_rate"].unique()
    assert rows["on_edge"].unique() == final["on_edge"].unique()
    np.testing.assert_array_equal(rows["train_loss"], final["train_loss"])


def test_the_versions_of_trainings_at_a_tuned_rate_go_with_their_cap():
    """A change of the cap on final trainings needs new versions of both measurements, and a change of this line."""
    assert (MAX_TRIAL_UPDATES, TUNED_TRAINING.version, NOISE_SCALE.version) == (10, 4, 2)


def test_a_diverging_training_has_statistics_as_long_as_its_loss_is_finite():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)))
    rows = measure(workload, blobs(), cell(Protocol(1e9, TARGET)))
    assert set(rows["status"]) == {"diverged"}
    assert rows.groupby("seed")["noise_scale"].first().notna().all()
    assert rows.groupby("seed").tail(1)["noise_scale"].isna().all()
