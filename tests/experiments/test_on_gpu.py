"""The experiments on toys on a GPU against the same on the CPU, in single precision; on the CPU against itself too,
so that the code of a skipped test has run."""

import pytest
import torch

from suite.experiments.ball import ROLLING, final_positions, measure_escape_times, roll
from suite.experiments.cell import Cell
from suite.experiments.saddle import LEAVING
from suite.experiments.saddle import measure as measure_leaving
from suite.optimizers import sgd
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from suite.workloads import Workload, find
from tests.conftest import cuda


def toy_cell(measurement, toy: Workload, device: str, epochs: int) -> Cell:
    protocol = Protocol(toy.learning_rate, EqualEpochs(epochs), optimizer=sgd(momentum=0.5))
    return Cell(measurement, toy.name, device, toy.large, 3, protocol)


def the_saddle(device):
    toy = find("saddle")
    rows = measure_leaving(toy, toy.load(), toy_cell(LEAVING, toy, device, 50))
    return rows["train_loss"].tolist()


def the_ball(device):
    toy = find("ball")
    starts, momenta = torch.tensor([-2.0, -1.3, 0.5]), torch.tensor([0.0, 0.5, 0.9])
    return final_positions(roll(toy, toy.load(), toy_cell(ROLLING, toy, device, 20), starts, momenta, 20)).tolist()


def the_escape_times(device):
    toy = find("ball")
    return measure_escape_times(toy, toy.load(), toy_cell(ROLLING, toy, device, 20))["updates"].tolist()


EXPERIMENTS = [the_saddle, the_ball, the_escape_times]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.__name__)
def test_an_experiment_gives_the_same_on_a_gpu(experiment, device):
    expected = experiment("cpu")
    assert expected
    assert experiment(device) == pytest.approx(expected, rel=1e-3, abs=1e-12, nan_ok=True)
