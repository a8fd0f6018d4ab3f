import math

import numpy as np
import pytest
import torch
from torch import nn

from suite.cells import Cell
from suite.instruments.line import LINE, PLACES, along, measure, take_statistics
from suite.training.evaluate import evaluate
from suite.training.plain import trained
from suite.training.protocol import Protocol, TargetLoss
from tests.conftest import blobs, tiny

PROTOCOL = Protocol(0.1, TargetLoss(0.5, 500))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def test_there_are_25_places_from_minus_one_to_two_and_both_ends_are_among_them():
    assert len(PLACES) == 25
    assert (PLACES[0], PLACES[-1]) == (-1, 2)
    assert {0.0, 1.0} <= set(PLACES.tolist())


def test_of_a_linear_model_under_squared_loss_the_line_is_a_parabola():
    """Its three coefficients follow from three places; all others lie on it."""
    workload = tiny(
        model=lambda: nn.Linear(4, 1),
        loss=lambda outputs, targets: (outputs[:, 0] - targets).square(),
        score=lambda outputs, targets: outputs[:, 0],
    )
    rows = along(workload, blobs(), workload.initial_model(1), workload.initial_model(2))
    for column in ("train_loss", "test_loss"):
        parabola = np.polyfit(rows["place"][::8], rows[column][::8], 2)
        np.testing.assert_allclose(rows[column], np.polyval(parabola, rows["place"]), rtol=1e-4)
        assert parabola[0] > 0
    for column in ("train_score", "test_score"):
        straight = np.polyfit(rows["place"][[0, 24]], rows[column][[0, 24]], 1)
        np.testing.assert_allclose(rows[column], np.polyval(straight, rows["place"]), atol=1e-5)


def test_it_goes_from_the_solution_of_one_batch_size_to_that_of_the_other():
    rows = measure(tiny(), blobs(), Cell(LINE, "tiny", "cpu", 16, 2, PROTOCOL, compared_with=1))
    assert set(rows["status"]) == {"ok"}
    for replica in (0, 1):
        own = rows[rows["seed"] == replica].set_index("place")
        for place, batch_size in ((0.0, 1), (1.0, 16)):
            _, seen = trained(tiny(), blobs().resplit(replica), PROTOCOL, batch_size, replica)
            for column in ("train_loss", "test_loss", "train_score", "test_score"):
                assert math.isclose(own[column][place], seen[column].iloc[-1], rel_tol=1e-4)


def test_a_replica_that_misses_the_target_has_no_line():
    short = Protocol(0.1, TargetLoss(0.5, 5))
    rows = measure(tiny(), blobs(), Cell(LINE, "tiny", "cpu", 16, 2, short, compared_with=1))
    assert rows["status"].tolist() == ["target_not_reached"] * 2
    assert "train_loss" not in rows


def test_batch_norm_takes_the_statistics_of_what_comes_in_at_each_place():
    """At each place the hidden units have the mean and the variance there: by hand."""
    workload, data = tiny(model=normed), blobs()
    one, other = workload.initial_model(1), workload.initial_model(2)
    found = along(workload, data, one, other)
    for place in (-1.0, 0.5, 2.0):
        model = workload.initial_model(0)
        with torch.no_grad():
            for value, first, last in zip(*(each.parameters() for each in (model, one, other)), strict=True):
                value.copy_((1 - place) * first + place * last)
            hidden = model[0](data.train_inputs)
        model[1].running_mean, model[1].running_var = hidden.mean(dim=0), hidden.var(dim=0)
        expected = evaluate(workload, model, data.train_inputs, data.train_targets)[0]
        assert math.isclose(found.set_index("place")["train_loss"][place], expected, rel_tol=1e-4)


@pytest.mark.parametrize("examples", [499, 501, 750, 1001, 20_000])
def test_every_example_weighs_the_same_in_the_statistics(examples):
    """The last examples are far from the others: those of a short last part would count too much, and one alone has
    no variance at all. Parts differ by one example at the most."""
    torch.manual_seed(0)
    inputs = torch.randn(examples, 4)
    inputs[-examples // 20 :] += 10
    model = normed()
    take_statistics(model, inputs)
    hidden = model[0](inputs[:10_000]).detach()
    torch.testing.assert_close(model[1].running_mean, hidden.mean(dim=0), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("mode", [True, False])
def test_taking_statistics_changes_nothing_else(mode):
    torch.manual_seed(0)
    model = normed().train(mode)
    parameters = [value.clone() for value in model.parameters()]
    state = torch.get_rng_state()
    take_statistics(model, blobs().train_inputs)
    assert all(torch.equal(*both) for both in zip(model.parameters(), parameters, strict=True))
    assert (model.training, model[1].momentum) == (mode, 0.1)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_base_seed_drops_other_values_where_statistics_are_taken():
    def mean(base_seed: int) -> torch.Tensor:
        model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4))
        take_statistics(model, blobs().train_inputs, base_seed)
        return model[1].running_mean

    assert torch.equal(mean(1), mean(1))
    assert not torch.equal(mean(1), mean(2))
