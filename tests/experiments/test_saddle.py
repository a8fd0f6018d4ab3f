"""Leaving the saddle against the closed form."""

import pytest

from suite.experiments.cell import Cell
from suite.experiments.saddle import CURVATURE, DISTANCE, LEAVING, measure
from suite.instruments import updates_to_leave
from suite.optimizers import sgd
from suite.statistics import value_at_crossing
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol
from suite.workloads import find


@pytest.mark.parametrize(("rate", "momentum"), [(0.01, 0.0), (0.01, 0.9), (0.1, 0.0)])
def test_the_saddle_is_left_when_the_closed_form_says(rate, momentum):
    saddle = find("saddle")
    protocol = Protocol(rate, EqualEpochs(2000), optimizer=sgd(momentum))
    rows = measure(saddle, saddle.load(), Cell(LEAVING, "saddle", "cpu", saddle.large, 20, protocol))
    assert set(rows["status"]) == {"ok"}
    for _, replica in rows.groupby("seed"):
        start = replica["distance"].iloc[0]
        updates = value_at_crossing(1 / replica["distance"].to_numpy(), replica["updates"].to_numpy(), 1 / DISTANCE)
        assert updates == pytest.approx(updates_to_leave(rate, momentum, CURVATURE, start, DISTANCE), abs=0.02)


def test_a_saddle_that_is_not_left_in_time_says_so():
    saddle = find("saddle")
    protocol = Protocol(0.01, EqualEpochs(20), optimizer=sgd())
    rows = measure(saddle, saddle.load(), Cell(LEAVING, "saddle", "cpu", saddle.large, 3, protocol))
    assert set(rows["status"]) == {"target_not_reached"}
    assert rows["updates"].max() == 20
