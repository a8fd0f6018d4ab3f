"""Bootstrap intervals of medians against their definition, and the choice of a rate."""

import math

import numpy as np
import pytest

from suite.statistics import choice_draws, median_draws, percentile_interval


def test_draws_are_medians_over_rows_drawn_together():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [np.inf, np.inf]])
    draws = median_draws(values, draws=500)
    assert draws.shape == (500, 2)
    finite = np.isfinite(draws).all(axis=1)
    np.testing.assert_allclose(draws[finite, 1], 10 * draws[finite, 0])
    assert 0.2 < np.mean(~finite) < 0.35  # at least two of three: 7 / 27


def test_the_same_values_have_the_same_draws():
    np.testing.assert_array_equal(median_draws([[1.0], [5.0], [7.0]]), median_draws([[1.0], [5.0], [7.0]]))


def test_a_rate_that_always_wins_costs_nothing():
    assert set(choice_draws([[5.0, 6.0, 5.5], [9.0, 9.5, np.inf]])) == {1.0}


def test_the_cost_of_a_choice_by_luck():
    draws = choice_draws([[4.0, 8.0], [7.0, 6.0]])
    assert set(np.round(draws, 6)) == {1.0, round(6.5 / 6, 6)}
    assert np.mean(draws > 1) == pytest.approx(1 / 4, abs=0.05)  # where both draws are of the second seed


def test_the_interval_lies_between_percentiles():
    interval = percentile_interval(5.0, np.arange(1, 1001), n=30)
    assert (interval.estimate, interval.n) == (5.0, 30)
    assert (interval.low, interval.high) == pytest.approx((25, 975), abs=1)


def test_few_values_have_no_interval():
    assert math.isnan(percentile_interval(5.0, [4.0, 6.0], n=4).low)
