import pytest
import torch

from benchmarks import findings


@pytest.mark.parametrize("of", findings.track_examples_not_seen_once.params[0])
def test_an_epoch_of_every_kind_shows_each_example_once(of):
    assert findings.track_examples_not_seen_once(of) == 0


def test_a_missing_example_and_a_repeated_one_are_both_counted():
    order = torch.arange(findings.FULL_BATCH)
    assert findings.examples_not_seen_once([order[1:]]) == 1
    assert findings.examples_not_seen_once([order[1:], order[1:2]]) == 2


@pytest.mark.parametrize("optimizer", findings.OPTIMIZERS)
def test_every_optimizer_trains(optimizer):
    assert 0 < findings.track_training_loss_by_optimizer(optimizer) < 2
