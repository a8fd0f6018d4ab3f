"""Leaving the saddle against the closed form."""

import numpy as np
import pytest

from suite.cells import Cell
from suite.instruments.saddle import LEAVING, measure_leaving, updates_to_leave
from suite.optimizers import sgd
from suite.statistics import value_at_crossing
from suite.training.protocol import EqualEpochs, Protocol
from suite.workloads import find


@pytest.mark.parametrize(("momentum", "updates"), [(0.0, 349), (0.9, 72)])
def test_the_closed_form_of_the_saddle(momentum, updates):
    assert np.ceil(updates_to_leave(0.01, momentum, 1e-6)) == updates


@pytest.mark.parametrize(("rate", "momentum"), [(0.01, 0.0), (0.01, 0.9), (0.1, 0.0)])
def test_the_saddle_is_left_when_the_closed_form_says(rate, momentum):
    saddle = find("saddle")
    protocol = Protocol(rate, EqualEpochs(2000), optimizer=sgd(momentum))
    rows = measure_leaving(saddle, saddle.load(), Cell(LEAVING, "saddle", "cpu", saddle.large, 20, protocol))
    assert set(rows["status"]) == {"ok"}
    for _, one in rows.groupby("seed"):
        left = value_at_crossing(1 / one["distance"].to_numpy(), one["updates"].to_numpy(), 1e3)
        assert left == pytest.approx(updates_to_leave(rate, momentum, one["distance"].iloc[0]), abs=0.02)


def test_a_saddle_that_is_not_left_in_time_says_so():
    saddle = find("saddle")
    protocol = Protocol(0.01, EqualEpochs(20), optimizer=sgd())
    rows = measure_leaving(saddle, saddle.load(), Cell(LEAVING, "saddle", "cpu", saddle.large, 3, protocol))
    assert set(rows["status"]) == {"target_not_reached"}
    assert rows["updates"].max() == 20
