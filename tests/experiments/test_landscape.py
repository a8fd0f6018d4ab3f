import itertools

import numpy as np
import pytest
from torch import nn

from suite.experiments.cell import Cell
from suite.experiments.landscape import PATH, SURFACE, measure_path, measure_surface
from suite.instruments.landscape import GRID
from suite.optimizers import adam, adamw, sgd
from suite.training.budgets import EqualEpochs
from suite.training.plain import trained
from suite.training.protocol import Protocol
from suite.workloads import find

PROTOCOL = Protocol(0.1, EqualEpochs(2))


def loss_of_a_line(weight, bias):
    """Half the mean squared error of the toy's examples, by hand."""
    twenty = find("twenty")
    data = twenty.replica_data(twenty.load(), 0)
    x, y = data.train_inputs[:, 0].double().numpy(), data.train_targets[:, 0].double().numpy()
    return 0.5 * np.mean((np.asarray(weight)[..., None] * x + np.asarray(bias)[..., None] - y) ** 2, axis=-1)


def test_the_full_batch_makes_one_update_an_epoch_and_one_example_twenty():
    twenty = find("twenty")
    lengths = {
        size: len(measure_path(twenty, twenty.load(), Cell(PATH, "twenty", "cpu", size, 1, PROTOCOL)))
        for size in (1, 20)
    }
    assert lengths == {1: 41, 20: 3}


def test_the_full_batch_descends_the_surface_by_the_rule():
    twenty = find("twenty")
    path = measure_path(twenty, twenty.load(), Cell(PATH, "twenty", "cpu", 20, 1, PROTOCOL))
    at, small = path[["first", "second"]].to_numpy(), 1e-5
    for before, after in itertools.pairwise(at):
        gradient = [
            (loss_of_a_line(*(before + shift)) - loss_of_a_line(*(before - shift))) / (2 * small)
            for shift in (np.array([small, 0]), np.array([0, small]))
        ]
        np.testing.assert_allclose(after, before - 0.1 * np.array(gradient), rtol=1e-4)


def test_the_surface_is_the_training_loss():
    twenty = find("twenty")
    surface = measure_surface(twenty, twenty.load(), Cell(SURFACE, "twenty", "cpu", 1, 1, PROTOCOL))
    assert len(surface) == GRID**2
    np.testing.assert_allclose(surface["train_loss"], loss_of_a_line(surface["first"], surface["second"]), rtol=1e-4)


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(0.05, EqualEpochs(2), optimizer=sgd(momentum=0.9, weight_decay=0.1)),
        Protocol(0.05, EqualEpochs(2), optimizer=sgd(momentum=0.9, nesterov=True)),
        Protocol(0.05, EqualEpochs(2), optimizer=adam()),
        Protocol(0.05, EqualEpochs(2), optimizer=adamw(weight_decay=0.1)),
    ],
    ids=str,
)
def test_the_path_ends_where_a_training_with_the_same_optimizer_does(protocol):
    twenty = find("twenty")
    data = twenty.load()
    path = measure_path(twenty, data, Cell(PATH, "twenty", "cpu", 4, 1, protocol))
    model, _ = trained(twenty, twenty.replica_data(data, 0), protocol, 4, 0)
    at = nn.utils.parameters_to_vector(model.parameters()).tolist()
    assert path[["first", "second"]].iloc[-1].tolist() == pytest.approx(at, rel=1e-6)
