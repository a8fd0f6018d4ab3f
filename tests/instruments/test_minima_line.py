import pytest
import torch
from torch import nn

from suite.instruments.minima_line import PLACES, recompute_statistics
from tests.conftest import blobs


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def test_there_are_25_places_from_minus_one_to_two_and_both_ends_are_among_them():
    assert len(PLACES) == 25
    assert (PLACES[0], PLACES[-1]) == (-1, 2)
    assert {0.0, 1.0} <= set(PLACES.tolist())


@pytest.mark.parametrize("examples", [499, 501, 750, 1001, 20_000])
def test_every_example_weighs_the_same_in_the_statistics(examples):
    """The last examples are far from the rest: those of a short last batch would have too much weight, and a single
    one has no variance at all. Batches differ by at most one example."""
    torch.manual_seed(0)
    inputs = torch.randn(examples, 4)
    inputs[-examples // 20 :] += 10
    model = normed()
    recompute_statistics(model, inputs)
    hidden = model[0](inputs[:10_000]).detach()
    torch.testing.assert_close(model[1].running_mean, hidden.mean(dim=0), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("mode", [True, False])
def test_recomputing_statistics_changes_nothing_else(mode):
    torch.manual_seed(0)
    model = normed().train(mode)
    parameters = [value.clone() for value in model.parameters()]
    state = torch.get_rng_state()
    recompute_statistics(model, blobs().train_inputs)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), parameters, strict=True))
    assert (model.training, model[1].momentum) == (mode, 0.1)
    assert torch.equal(torch.get_rng_state(), state)
