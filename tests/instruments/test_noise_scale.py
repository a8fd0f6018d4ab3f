import math

import numpy as np
import pytest
import torch
from torch import nn

from suite.cells import Cell
from suite.instruments.gradient_pass import gradient_statistics
from suite.instruments.noise_scale import NOISE_SCALE, effective, measure, plain_mean
from suite.optimizers import adamw, sgd
from suite.training.learning_rate import Tuned
from suite.training.plain import looks_at, trained
from suite.training.protocol import Protocol, TargetLoss
from suite.training.tuning import MOST_OF_TRIALS, TRIAL, TUNED_TRAINING
from suite.training.tuning import measure as measure_tuned
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, tiny

TARGET = TargetLoss(0.5, 300)


def cell(protocol: Protocol, repeats: int = 2, batch_size: int = 4) -> Cell:
    return Cell(NOISE_SCALE, "tiny", "cpu", batch_size, repeats, protocol)


@pytest.mark.parametrize("scale", [0.0, 0.5, 30.0, 1e6])
def test_a_constant_noise_scale_is_its_own_mean_and_predicts_the_updates_made(scale):
    found = effective([0, 1, 2, 5, 40], [scale] * 5, 8, until=33.25)
    assert math.isclose(found.least_updates, 33.25 / (1 + scale / 8))
    assert math.isclose(found.noise_scale, scale, abs_tol=1e-12)
    assert math.isclose(found.updates(8), 33.25)
    assert math.isclose(plain_mean([0, 1, 2, 5, 40], [scale] * 5, until=33.25), scale)


def test_with_a_look_before_every_update_the_sums_are_those_of_the_paper():
    batch_size, updates = 16, 50
    scales = np.random.default_rng(0).lognormal(3, 1, updates + 1)
    least_updates = least_examples = total = 0.0
    for b in scales[:updates]:
        least_updates += 1 / (1 + b / batch_size)
        least_examples += b / (1 + b / batch_size)
        total += b
    found = effective(range(updates + 1), scales, batch_size, until=updates)
    assert math.isclose(found.least_updates, least_updates)
    assert math.isclose(found.least_examples, least_examples)
    assert math.isclose(found.noise_scale, least_examples / least_updates)
    assert math.isclose(plain_mean(range(updates + 1), scales, until=updates), total / updates)


def test_between_looks_shares_follow_the_logarithm_and_a_fraction_of_an_update_counts_as_such():
    """Shares 1 and 1/3 after 0 and 8 updates: 2/3 after 2, where log(1 + updates) is half way."""
    shares = [1, 1 - 2 / 3 * math.log(2) / math.log(9), 2 / 3]
    assert math.isclose(effective([0, 8], [0, 4], 2, until=2.5).least_updates, shares[0] + shares[1] + shares[2] / 2)


def test_the_effective_noise_scale_lies_below_a_mean_that_the_end_dominates():
    scales = [1, 1, 1, 1, 1000]
    assert effective(range(5), scales, 4, until=5).noise_scale < 0.05 * plain_mean(range(5), scales, until=5)


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
def test_it_is_measured_along_the_very_training_of_each_replica(protocol):
    rows = measure(tiny(), blobs(), cell(protocol))
    for replica in (0, 1):
        own, split = rows[rows["seed"] == replica], blobs().resplit(replica)
        _, seen = trained(tiny(), split, protocol, 4, replica)
        assert own[seen.columns].reset_index(drop=True).equals(seen)
        for (model, _), scale in zip(looks_at(tiny(), split, protocol, 4, replica), own["noise_scale"], strict=False):
            statistics = gradient_statistics(model, cross_entropy, split.train_inputs, split.train_targets)
            assert math.isclose(scale, statistics.noise_scale)


def test_a_rate_to_be_tuned_is_tuned_as_every_other():
    tuned = cell(Protocol(0.1, TARGET, Tuned(each_way=2, seeds=2)))
    rows, expected = measure(tiny(), blobs(), tuned), measure_tuned(tiny(), blobs(), tuned)
    final = expected[expected["stage"] != TRIAL]
    assert rows["learning_rate"].unique() == final["learning_rate"].unique()
    assert rows["on_edge"].unique() == final["on_edge"].unique()
    np.testing.assert_array_equal(rows["train_loss"], final["train_loss"])


def test_whatever_trains_at_a_tuned_rate_is_stored_anew_when_that_ends_otherwise():
    """Whoever changes how long a final training may last gives both another version, and changes this."""
    assert (MOST_OF_TRIALS, TUNED_TRAINING.version, NOISE_SCALE.version) == (10, 4, 2)


def test_a_training_that_diverges_has_statistics_as_long_as_its_loss_is_a_number():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)))
    rows = measure(workload, blobs(), cell(Protocol(1e9, TARGET)))
    assert set(rows["status"]) == {"diverged"}
    assert rows.groupby("seed")["noise_scale"].first().notna().all()
    assert rows.groupby("seed").tail(1)["noise_scale"].isna().all()
