import itertools

import numpy as np

from suite.cells import Cell
from suite.instruments.landscape import GRID, PATH, SURFACE, measure_path, measure_surface
from suite.training.protocol import EqualEpochs, Protocol
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
