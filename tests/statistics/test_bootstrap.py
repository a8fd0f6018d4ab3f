import math
from collections import Counter
from itertools import product
from statistics import median

import numpy as np
import pytest
from scipy import stats

from suite.statistics import (
    Interval,
    median_ratio_interval,
    paired_medians,
    percentile_interval,
    resampled_choices,
    resampled_medians,
)
from suite.statistics.bootstrap import RESAMPLES

TIMES = [1.0, 2.0, 4.0, 7.0, 11.0, 16.0]


@pytest.mark.parametrize("sample", [TIMES, TIMES[:5]])
def test_the_medians_are_distributed_as_those_of_every_possible_resample(sample):
    every = Counter(median(resample) for resample in product(sample, repeat=len(sample)))
    (medians,) = resampled_medians([sample]).T
    assert set(medians) <= set(every)
    for value, count in every.items():
        share = count / every.total()
        least, most = stats.binom.interval(0.9999, RESAMPLES, share)
        assert least <= np.sum(medians == value) <= most


def test_equal_samples_are_resampled_independently():
    first, second = resampled_medians([TIMES, TIMES]).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(RESAMPLES)


def test_the_same_samples_have_the_same_medians():
    np.testing.assert_array_equal(resampled_medians([TIMES, TIMES[:5]]), resampled_medians([TIMES, TIMES[:5]]))


def test_the_interval_leaves_out_a_fortieth_on_each_side():
    assert percentile_interval(21, np.arange(1, 42), 6) == Interval(21, 2, 40, n=6)


def test_an_interval_whose_upper_values_are_infinite_is_open_above():
    resampled = np.array([3.0] * 60 + [math.inf] * 40)
    assert percentile_interval(4.0, resampled, 6) == Interval(4, 3, math.inf, n=6)


def test_fewer_than_six_values_have_no_bounds():
    interval = median_ratio_interval(TIMES, TIMES[:5])
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.n == 5


@pytest.mark.parametrize("spread", [(0.05, 0.05), (0.02, 0.1)])
@pytest.mark.parametrize("n", [6, 15])
def test_the_interval_covers_the_ratio_of_two_medians(n, spread):
    """The coverage in 1,000 experiments is 95% to within 2 points and three binomial standard errors."""
    random = np.random.default_rng(0)
    samples = np.exp(random.normal(size=(1000, 2, n)) * np.array(spread)[:, None])
    intervals = [median_ratio_interval(*pair) for pair in samples]
    covered = np.mean([interval.low <= 1 <= interval.high for interval in intervals])
    assert abs(covered - 0.95) < 0.02 + 3 * math.sqrt(0.95 * 0.05 / 1000)


def test_paired_medians_are_of_the_same_rows_in_each_column():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [np.inf, np.inf]])
    medians = paired_medians(values)
    finite = np.isfinite(medians).all(axis=1)
    np.testing.assert_allclose(medians[finite, 1], 10 * medians[finite, 0])
    assert np.mean(~finite) == pytest.approx(7 / 27, abs=0.05)  # at least two of three are infinite
    np.testing.assert_array_equal(medians, paired_medians(values))


def test_an_option_that_always_wins_costs_nothing():
    assert set(resampled_choices([[5.0, 6.0, 5.5], [9.0, 9.5, np.inf]])) == {1.0}


def test_where_every_option_is_infinite_the_choice_costs_nothing():
    assert set(resampled_choices([[np.inf, 6.0], [9.0, np.inf]])) == {1.0}


def test_the_cost_of_a_choice_by_luck():
    factors = resampled_choices([[4.0, 8.0], [7.0, 6.0]])
    assert set(np.round(factors, 6)) == {1.0, round(6.5 / 6, 6)}
    assert np.mean(factors > 1) == pytest.approx(1 / 4, abs=0.05)  # where both trials are the second one
