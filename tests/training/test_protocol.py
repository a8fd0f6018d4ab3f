import itertools

import pytest

from suite.training.protocol import EqualEpochs, TargetLoss, TenthOfTraining


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
