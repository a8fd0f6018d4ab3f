"""Which rate a batch size gets, and when a training is looked at and ends."""

import itertools
import pickle

import pytest
from joblib.externals.loky.backend.reduction import dumps

from suite.training.learning_rate import FIXED, LinearWarmUp, SquareRoot, Tuned
from suite.training.protocol import EqualEpochs, EqualUpdates, Protocol, TargetLoss, TenthOfTraining
from suite.training.update_rule import MOMENTUM


def test_equal_epochs_looks_after_every_epoch():
    assert list(EqualEpochs(3).checks(examples=20, batch_size=3)) == [0, 7, 14, 21]


def test_a_target_is_looked_for_at_growing_distances_up_to_its_cap():
    checks = list(TargetLoss(0.1, max_updates=1000).checks(examples=20, batch_size=4))
    assert checks[:4] == [0, 1, 2, 3]
    assert checks[-1] == 1000
    assert all(after <= max(before + 1, 1.1 * before + 0.5) for before, after in itertools.pairwise(checks))
    assert all(after >= 1.1 * before - 0.5 for before, after in itertools.pairwise(checks[:-1]))
    assert checks == sorted(set(checks))


def test_the_last_look_for_a_target_is_not_taken_twice():
    assert list(TargetLoss(0.1, max_updates=3).checks(examples=20, batch_size=4)) == [0, 1, 2, 3]


def test_a_target_is_reached_at_or_below_its_loss():
    target = TargetLoss(0.1, max_updates=10)
    assert target.reached(0.1)
    assert target.reached(0.05)
    assert not target.reached(0.11)
    assert not EqualEpochs(3).reached(0.0)


@pytest.mark.parametrize(("epochs", "batch_size", "updates"), [(10, 64, 22), (1, 1437, 1), (5, 10, 72)])
def test_a_tenth_of_training_is_at_least_one_update(epochs, batch_size, updates):
    assert TenthOfTraining(epochs, batch_size).updates(examples=1437) == updates


@pytest.mark.parametrize("dumps", [pickle.dumps, dumps], ids=["pickle", "joblib"])
def test_a_protocol_reaches_another_process_unchanged(dumps):
    protocol = Protocol(0.1, EqualUpdates(3, 4), Tuned(), MOMENTUM, 0.9)
    assert pickle.loads(dumps(protocol)) == protocol


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        (FIXED, {1: [0.1, 0.1, 0.1], 16: [0.1, 0.1, 0.1]}),
        (SquareRoot(4), {1: [0.05, 0.05, 0.05], 16: [0.2, 0.2, 0.2]}),
        (LinearWarmUp(4, epochs=1), {1: [0.025, 0.025, 0.025], 16: [0.1, 0.2, 0.4]}),
    ],
)
def test_how_the_rate_follows_the_batch_size(rule, rates):
    """After 0, 1 and 9 updates; 48 examples, so that an epoch is 3 updates of 16."""
    protocol = Protocol(0.1, EqualEpochs(3), rule)
    for batch_size, expected in rates.items():
        assert [protocol.rate(48, batch_size, updates) for updates in (0, 1, 9)] == pytest.approx(expected)


def test_equal_updates_are_those_of_one_batch_size():
    budget = EqualUpdates(epochs=3, batch_size=16)
    for batch_size in (1, 16, 40):
        assert budget.expected_updates(40, batch_size) == 9
        assert list(budget.checks(40, batch_size))[-1] == 9
