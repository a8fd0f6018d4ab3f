"""The ball against its exact results."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from suite.experiments.ball import (
    ENDS,
    ESCAPE_TIMES,
    PHASES,
    ROLLING,
    independent_batches,
    measure_ends,
    measure_escape_times,
    measure_phases,
    measure_rolling,
)
from suite.experiments.cell import Cell
from suite.instruments import mean_escape_time
from suite.optimizers import sgd
from suite.statistics import mean_interval
from suite.training.budgets import EqualUpdates
from suite.training.protocol import Protocol
from suite.workloads import find
from suite.workloads.ball import Ball, loss_at, stationary_points

BALL = find("ball")
SYMMETRIC = replace(BALL, name="symmetric", model=lambda: Ball(tilt=0.0))
FULL = BALL.large


def protocol(rate: float, momentum: float, updates: int, examples: int = FULL) -> Protocol:
    return Protocol(rate, EqualUpdates(updates, examples), optimizer=sgd(momentum))


@pytest.mark.parametrize("noise", [0.1, 0.2])
def test_escapes_take_the_exact_time_within_5_percent(noise):
    """Well to well at a small rate, 3,000 escapes: their mean errs by 1.8%."""
    data = BALL.load()
    slopes = data.train_inputs.sign() * (2 * noise / 0.01) ** 0.5
    cell = Cell(ESCAPE_TIMES, "symmetric", "cpu", 1, 3000, protocol(0.01, 0, 200_000))
    rows = measure_escape_times(SYMMETRIC, replace(data, train_inputs=slopes), cell)
    assert set(rows["status"]) == {"ok"}
    exact = mean_escape_time(lambda x: loss_at(x, 0.0), noise, -1, 1)
    assert 0.01 * rows["updates"].mean() == pytest.approx(exact, rel=0.05)


def test_a_budget_that_ends_before_the_escape_says_so():
    cell = Cell(ESCAPE_TIMES, "ball", "cpu", 1, 20, protocol(0.01, 0, 50))
    rows = measure_escape_times(BALL, BALL.load(), cell)
    assert "target_not_reached" in set(rows["status"])
    assert np.isinf(rows.loc[rows["status"] == "target_not_reached", "updates"]).all()


def test_no_ball_leaves_the_well_from_rest_without_noise():
    """Neither plain SGD nor momentum, at any stable learning rate: no ball gains height."""
    _, bump, _ = stationary_points()
    for rate in (0.02, 0.3):
        for momentum in (0.0, 0.9):
            rows = measure_ends(
                BALL, BALL.load(), Cell(ENDS, "ball", "cpu", FULL, 200, protocol(rate, momentum, 600))
            )
            inside = loss_at(rows["start"].to_numpy()) < loss_at(bump)
            assert inside.sum() > 50
            assert (rows.loc[inside, "crossed"] == 0).all()


def test_momentum_rolls_over_the_bump_where_plain_sgd_stops():
    rolled = {
        momentum: measure_rolling(
            BALL, BALL.load(), Cell(ROLLING, "ball", "cpu", FULL, 1, protocol(0.02, momentum, 300))
        )
        for momentum in (0.0, 0.9)
    }
    left, _, right = stationary_points()
    last = {
        momentum: rows[rows["updates"] == 300].set_index("start")["position"] for momentum, rows in rolled.items()
    }
    assert last[0.0].tolist() == pytest.approx([left, left], abs=1e-2)
    assert last[0.9].tolist() == pytest.approx([right, left], abs=2e-2)


def test_rolling_is_the_recursion_by_hand():
    rows = measure_rolling(BALL, BALL.load(), Cell(ROLLING, "ball", "cpu", FULL, 1, protocol(0.02, 0.9, 30)))
    x, movement, positions = -2.0, 0.0, [-2.0]
    for _ in range(30):
        movement = 0.9 * movement - 0.02 * (x**3 - x - 0.1)
        x += movement
        positions.append(x)
    np.testing.assert_allclose(rows.loc[rows["start"] == -2.0, "position"], positions, rtol=1e-4, atol=1e-5)


def test_phases_agree_with_single_balls():
    phases = measure_phases(BALL, BALL.load(), Cell(PHASES, "ball", "cpu", FULL, 1, protocol(0.02, 0.9, 300)))
    steep = phases[np.isclose(phases["momentum"], 0.9)].set_index("start")["crossed"]
    assert steep.iloc[steep.index.get_indexer([-2.0], method="nearest")].tolist() == [1]
    assert (phases.loc[np.isclose(phases["momentum"], 0), "crossed"] == 0).all()
    assert (phases.loc[phases["start"] > -1.2, "crossed"] == 0).all()


def test_batches_are_drawn_anew_for_every_update_and_the_full_batch_is_all_examples():
    data, generator = BALL.load(), torch.Generator().manual_seed(1)
    draws = independent_batches(data, 4, 50, generator)
    first, second = next(draws), next(draws)
    assert first.shape == (50, 4)
    assert not torch.equal(first, second)
    assert torch.equal(next(independent_batches(data, FULL, 3, generator)), torch.arange(FULL).expand(3, -1))


def test_the_interval_of_the_mean_escape_time_contains_the_exact_time():
    cell = Cell(ESCAPE_TIMES, "ball", "cpu", 2, 400, protocol(0.02, 0, 100_000))
    bottom, _, better = stationary_points()
    interval = mean_interval(0.02 * measure_escape_times(BALL, BALL.load(), cell)["updates"])
    assert interval.low < mean_escape_time(loss_at, 0.02 * 25 / 4, bottom, better) < interval.high
