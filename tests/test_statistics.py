import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from suite.statistics import (
    Interval,
    affine_fit,
    half_performance_batch,
    holm,
    mean_interval,
    mean_p_value,
    median_interval,
    power_law_exponent,
    probability_above_zero,
    ratio_interval,
    same_time_batch,
    seeds_to_settle,
    value_at_crossing,
    verdict,
)

SIZES = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
EXPERIMENTS = 2000
AT_MOST = stats.binom.ppf(0.999, EXPERIMENTS, 0.025)
"""So many of 2,000 experiments may say `holds` where it does in 2.5%: exceeded once in a thousand runs."""


def test_the_mean_has_students_interval():
    values = [1.0, 2.5, 2.0, 4.0, 3.5]
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([interval.estimate, interval.low, interval.high], [2.6, low, high])
    assert interval.n == 5


def test_two_values_have_students_interval_too():
    low, high = stats.t.interval(0.95, 1, 1.5, 0.5)
    np.testing.assert_allclose([mean_interval([1, 2]).low, mean_interval([1, 2]).high], [low, high])


def test_an_interval_is_mapped_with_its_bounds():
    assert Interval(1, 0, 2, 7).map(math.exp) == Interval(math.e, 1, math.exp(2), 7)


def test_one_value_has_no_interval_and_no_verdict():
    interval = mean_interval([3.0])
    assert math.isnan(interval.low)
    assert verdict(interval, 0) == "undecided"


def test_the_median_of_six_lies_between_the_least_and_the_greatest():
    interval = median_interval([5, 1, 4, 2, 6, 3])
    assert (interval.estimate, interval.low, interval.high) == (3.5, 1, 6)


@pytest.mark.parametrize("n", range(1, 6))
def test_fewer_than_six_have_no_interval_of_the_median(n):
    assert math.isnan(median_interval(range(n)).low)


@pytest.mark.parametrize("n", range(6, 41))
def test_the_median_is_covered_with_95_percent_by_no_more_than_it_takes(n):
    interval = median_interval(range(n))
    outside = int(interval.low)
    assert interval.high == n - 1 - outside
    coverage = 1 - 2 * stats.binom.cdf(outside, n, 0.5)
    coverage_of_the_next_inner = 1 - 2 * stats.binom.cdf(outside + 1, n, 0.5)
    assert coverage >= 0.95 > coverage_of_the_next_inner


@pytest.mark.parametrize("n", [6, 10, 25])
def test_the_median_of_skewed_values_is_covered_as_often_as_the_binomial_says(n):
    random = np.random.default_rng(0)
    intervals = [median_interval(random.lognormal(0, 1, n)) for _ in range(EXPERIMENTS)]
    covered = sum(interval.low <= 1 <= interval.high for interval in intervals)
    outside = int(median_interval(range(n)).low)
    coverage = 1 - 2 * stats.binom.cdf(outside, n, 0.5)
    assert stats.binom.ppf(0.001, EXPERIMENTS, coverage) <= covered <= stats.binom.ppf(0.999, EXPERIMENTS, coverage)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.1, 2, "holds"),
        (0.1, 0.9, "fails"),
        (0.9, 1.1, "undecided"),
        (1, 2, "undecided"),
        (0.5, 1, "undecided"),
        (0.5, math.inf, "undecided"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, expected):
    assert verdict(Interval((low + high) / 2, low, high, 10), null=1) == expected


def paired_scores(random):
    return mean_interval(random.normal(0, 0.01, 10)), 0


def paired_log_losses(random):
    return mean_interval(random.standard_t(5, 10)).map(np.exp), 1


def process_ratios(random):
    return median_interval(random.lognormal(0, 0.3, 6)), 1


@pytest.mark.parametrize("experiment", [paired_scores, paired_log_losses, process_ratios])
def test_where_there_is_nothing_a_verdict_holds_in_at_most_2_5_percent(experiment):
    random = np.random.default_rng(0)
    verdicts = [verdict(*experiment(random)) for _ in range(EXPERIMENTS)]
    assert verdicts.count("holds") <= AT_MOST
    assert verdicts.count("fails") <= AT_MOST


def test_where_there_is_something_a_verdict_mostly_holds():
    random = np.random.default_rng(0)
    verdicts = [verdict(mean_interval(random.normal(0.02, 0.01, 10)), 0) for _ in range(200)]
    assert verdicts.count("holds") > 190


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.8, 0.9]) == [1, 1]
    assert holm([]) == []


def test_holm_keeps_the_whole_family_below_its_level():
    random = np.random.default_rng(0)
    false_alarms = sum(min(holm(random.uniform(size=24))) < 0.05 for _ in range(EXPERIMENTS))
    assert false_alarms <= stats.binom.ppf(0.999, EXPERIMENTS, 0.05)


def test_the_p_value_is_students():
    values = [0.3, -0.1, 0.4, 0.2]
    assert math.isclose(mean_p_value(values), stats.ttest_1samp(values, 0).pvalue)
    assert math.isclose(mean_p_value(values[:2]), stats.ttest_1samp(values[:2], 0).pvalue)


@pytest.mark.parametrize(("values", "p_value"), [([], 1), ([5], 1), ([0, 0, 0], 1), ([2, 2, 2], 0)])
def test_the_p_value_agrees_with_the_interval_where_values_do_not_vary(values, p_value):
    assert mean_p_value(values) == p_value
    assert (verdict(mean_interval(values), 0) == "undecided") == (p_value == 1)


def test_the_probability_counts_a_tie_half():
    interval = probability_above_zero([1, 2, 3, 0, 0, -1])
    assert interval.estimate == 4 / 6
    exact = stats.binomtest(4, 6).proportion_ci()
    assert (interval.low, interval.high) == (exact.low, exact.high)
    assert probability_above_zero([1, 0, 0, 0]).estimate == 2 / 4


@given(a=st.floats(1e-6, 1e-2), b=st.floats(1e-8, 1e-4))
def test_an_affine_time_is_recovered(a, b):
    np.testing.assert_allclose(affine_fit(SIZES, a + b * SIZES), (a, b), rtol=1e-6)
    assert math.isclose(half_performance_batch(SIZES, a + b * SIZES), a / b, rel_tol=1e-6)


def test_an_affine_time_is_recovered_from_noisy_times():
    """240 µs and 0.7 µs an example, each time off by 5%: the mean of 200 fits is known to better than 2%."""
    random = np.random.default_rng(0)
    times = (240e-6 + 0.7e-6 * SIZES) * random.lognormal(0, 0.05, (200, len(SIZES)))
    fits = np.array([affine_fit(SIZES, row) for row in times])
    np.testing.assert_allclose(fits.mean(axis=0), [240e-6, 0.7e-6], rtol=0.02)


def test_the_half_performance_batch_of_noisy_times_is_found_to_15_percent():
    """Nineteen of twenty lie within 12% here."""
    random = np.random.default_rng(0)
    times = (240e-6 + 0.7e-6 * SIZES) * random.lognormal(0, 0.05, (200, len(SIZES)))
    found = np.array([half_performance_batch(SIZES, row) for row in times])
    assert math.isclose(np.median(found), 240 / 0.7, rel_tol=0.03)
    assert np.mean(np.abs(found * 0.7 / 240 - 1) < 0.15) >= 0.95


def test_a_time_that_does_not_grow_has_no_half_performance_batch():
    assert half_performance_batch(SIZES, np.full(len(SIZES), 1e-3)) == math.inf


@given(a=st.floats(1e-4, 1e-2), b=st.floats(1e-6, 1e-4))
def test_b_same_is_where_the_time_has_grown_by_half(a, b):
    """Between two batch sizes a factor of two apart, the straight line between logs is off by at most 6%."""
    exact = (0.5 * a + 1.5 * b) / b
    measured = same_time_batch(SIZES, a + b * SIZES)
    if exact > SIZES[-1]:
        assert measured == math.inf or measured > 0.94 * SIZES[-1]
    else:
        assert math.isclose(measured, exact, rel_tol=0.06)


def test_b_same_of_noisy_times_is_found_to_a_fifth_in_the_median():
    """It lies 9% low here: smoothing brings the first, flat times down to the least of their running means."""
    random = np.random.default_rng(0)
    times = (240e-6 + 0.7e-6 * SIZES) * random.lognormal(0, 0.05, (200, len(SIZES)))
    found = [same_time_batch(SIZES, row) for row in times]
    assert math.isclose(np.median(found), 0.5 * 240 / 0.7 + 1.5, rel_tol=0.2)


def test_b_same_of_a_proportional_time_is_one_and_a_half():
    assert math.isclose(same_time_batch(SIZES, 1e-3 * SIZES), 1.5)


def test_b_same_is_infinite_where_the_time_stays_the_same():
    assert same_time_batch(SIZES, np.full(len(SIZES), 1e-3)) == math.inf


def test_b_same_is_a_batch_size_at_which_the_time_is_just_the_factor():
    assert same_time_batch([1, 2, 4], [1, 1.5, 6]) == 2
    assert math.isclose(same_time_batch([1, 2, 4], [1, 2, 4], factor=3), 3)


def test_one_slow_measurement_amid_equal_ones_is_smoothed_away():
    times = np.full(len(SIZES), 1e-3)
    times[3] = 1.6e-3
    assert same_time_batch(SIZES, times) == math.inf


@given(power=st.floats(0.1, 2))
def test_a_power_is_recovered(power):
    assert math.isclose(power_law_exponent(SIZES, 3e-4 * SIZES**power), power, rel_tol=1e-9)


def test_fiellers_interval_covers_the_ratio_of_correlated_means():
    """2,000 experiments: 95% within three standard errors of a binomial."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        shared = random.normal(size=12)
        interval = ratio_interval(6 + shared + random.normal(size=12), 2 + 0.5 * shared + random.normal(size=12) / 2)
        covered += interval.low <= 3 <= interval.high
    assert abs(covered / 2000 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_a_ratio_over_what_may_be_zero_has_no_bounds():
    interval = ratio_interval([1, 2, 3], [-1, 1, 0.5])
    assert interval.low == -math.inf
    assert interval.high == math.inf


def test_a_ratio_to_a_constant_has_students_interval():
    values = [1.0, 2, 4, 7]
    scaled = mean_interval(values).map(lambda value: value / 2)
    interval = ratio_interval(values, [2, 2, 2, 2])
    assert (interval.low, interval.high) == pytest.approx((scaled.low, scaled.high))


def test_a_power_is_recovered_from_noisy_times():
    """The standard error of one fit is 0.05 over the root of the sum of squared log sizes: 0.007 here."""
    random = np.random.default_rng(0)
    powers = [power_law_exponent(SIZES, SIZES**0.8 * random.lognormal(0, 0.05, len(SIZES))) for _ in range(200)]
    one_fit = 0.05 / np.sqrt(np.sum((np.log(SIZES) - np.log(SIZES).mean()) ** 2))
    assert math.isclose(np.mean(powers), 0.8, abs_tol=3 * one_fit / np.sqrt(200))
    assert math.isclose(np.std(powers), one_fit, rel_tol=0.2)


def test_the_first_of_several_crossings_counts():
    assert math.isclose(value_at_crossing([1.0, 0.25, 1.0, 0.1], [0.0, 1.0, 0.0, 5.0], target=0.5), 0.5)


def test_a_value_is_read_at_the_crossing_of_the_log_loss():
    losses, scores = [1.0, 0.4, 0.1, 0.05], [0.5, 0.8, 0.9, 0.95]
    assert math.isclose(value_at_crossing(losses, scores, 0.2), 0.85)
    assert value_at_crossing(losses, scores, 0.1) == 0.9
    assert math.isnan(value_at_crossing(losses, scores, 0.01))
    assert value_at_crossing(losses, scores, 2.0) == 0.5
    assert 3 < value_at_crossing([1.0, 0.0], [3.0, 4.0], 0.1) < 3.01


def test_the_seeds_that_settle_an_effect_are_those_of_a_power_table():
    """Cohen 1988: a mean of half a standard deviation takes 34 values for a power of 80%, two-sided at 5%."""
    values = np.array([-1.0, 1.0]) / np.std([-1, 1], ddof=1)
    assert seeds_to_settle(values + 0.5) == 34
    assert seeds_to_settle(values + 0.2) == 199


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0001]])
def test_no_number_of_seeds_settles_what_has_no_spread_or_no_effect(values):
    assert seeds_to_settle(values) == math.inf
