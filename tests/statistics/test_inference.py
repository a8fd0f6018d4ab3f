import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import isotonic_regression

from suite.statistics import (
    Interval,
    affine_fit,
    equivalence,
    flat_batch_size,
    half_performance_batch,
    holm,
    mean_interval,
    mean_p_value,
    median_interval,
    power_law_exponent,
    probability_above_zero,
    ratio_interval,
    ratio_of_estimates,
    seeds_to_decide,
    value_at_crossing,
    verdict,
)
from suite.statistics.curves import isotonic_fit

SIZES = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
EXPERIMENTS = 2000
MAX_FALSE_VERDICTS = stats.binom.ppf(0.999, EXPERIMENTS, 0.025)
"""Limit of the false verdicts in 2,000 experiments, each false with probability 2.5%: exceeded in 0.1% of runs."""


def test_the_mean_has_students_interval():
    values = [1.0, 2.5, 2.0, 4.0, 3.5]
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([interval.estimate, interval.low, interval.high], [2.6, low, high])
    assert interval.n == 5


def test_the_mean_of_two_values_has_students_interval():
    low, high = stats.t.interval(0.95, 1, 1.5, 0.5)
    np.testing.assert_allclose([mean_interval([1, 2]).low, mean_interval([1, 2]).high], [low, high])


def test_mapping_an_interval_maps_its_bounds():
    assert Interval(1, 0, 2, 7).map(math.exp) == Interval(math.e, 1, math.exp(2), 7)


def test_a_single_value_has_no_bounds_and_no_verdict():
    interval = mean_interval([3.0])
    assert math.isnan(interval.low)
    assert verdict(interval, 0) == "undecided"


def test_the_interval_of_the_median_of_six_values_is_their_range():
    interval = median_interval([5, 1, 4, 2, 6, 3])
    assert (interval.estimate, interval.low, interval.high) == (3.5, 1, 6)


@pytest.mark.parametrize("n", range(1, 6))
def test_the_median_of_fewer_than_six_values_has_no_bounds(n):
    assert math.isnan(median_interval(range(n)).low)


@pytest.mark.parametrize("n", range(6, 41))
def test_the_interval_of_the_median_is_the_narrowest_with_95_percent_coverage(n):
    interval = median_interval(range(n))
    outside = int(interval.low)
    assert interval.high == n - 1 - outside
    coverage = 1 - 2 * stats.binom.cdf(outside, n, 0.5)
    inner_coverage = 1 - 2 * stats.binom.cdf(outside + 1, n, 0.5)
    assert coverage >= 0.95 > inner_coverage


@pytest.mark.parametrize("n", [6, 10, 25])
def test_the_median_of_skewed_values_has_the_binomial_coverage(n):
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
def test_a_verdict_requires_the_whole_interval_on_one_side(low, high, expected):
    assert verdict(Interval((low + high) / 2, low, high, 10), null=1) == expected


def paired_scores(random):
    return mean_interval(random.normal(0, 0.01, 10)), 0


def paired_log_losses(random):
    return mean_interval(random.standard_t(5, 10)).map(np.exp), 1


def process_ratios(random):
    return median_interval(random.lognormal(0, 0.3, 6)), 1


@pytest.mark.parametrize("experiment", [paired_scores, paired_log_losses, process_ratios])
def test_without_an_effect_a_verdict_holds_in_at_most_2_5_percent(experiment):
    random = np.random.default_rng(0)
    verdicts = [verdict(*experiment(random)) for _ in range(EXPERIMENTS)]
    assert verdicts.count("holds") <= MAX_FALSE_VERDICTS
    assert verdicts.count("fails") <= MAX_FALSE_VERDICTS


def test_with_an_effect_a_verdict_mostly_holds():
    random = np.random.default_rng(0)
    verdicts = [verdict(mean_interval(random.normal(0.02, 0.01, 10)), 0) for _ in range(200)]
    assert verdicts.count("holds") > 190


def test_holms_correction_of_a_small_family():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.8, 0.9]) == [1, 1]
    assert holm([]) == []


def test_holms_correction_keeps_the_family_below_its_level():
    random = np.random.default_rng(0)
    false_alarms = sum(min(holm(random.uniform(size=24))) < 0.05 for _ in range(EXPERIMENTS))
    assert false_alarms <= stats.binom.ppf(0.999, EXPERIMENTS, 0.05)


def test_the_p_value_is_that_of_students_test():
    values = [0.3, -0.1, 0.4, 0.2]
    assert math.isclose(mean_p_value(values), stats.ttest_1samp(values, 0).pvalue)
    assert math.isclose(mean_p_value(values[:2]), stats.ttest_1samp(values[:2], 0).pvalue)


@pytest.mark.parametrize(("values", "p_value"), [([], 1), ([5], 1), ([0, 0, 0], 1), ([2, 2, 2], 0)])
def test_the_p_value_agrees_with_the_interval_of_constant_values(values, p_value):
    assert mean_p_value(values) == p_value
    assert (verdict(mean_interval(values), 0) == "undecided") == (p_value == 1)


def test_the_probability_above_zero_counts_a_tie_half():
    interval = probability_above_zero([1, 2, 3, 0, 0, -1])
    assert interval.estimate == 4 / 6
    exact = stats.binomtest(4, 6).proportion_ci()
    assert (interval.low, interval.high) == (exact.low, exact.high)
    assert probability_above_zero([1, 0, 0, 0]).estimate == 2 / 4


@given(a=st.floats(1e-6, 1e-2), b=st.floats(1e-8, 1e-4))
def test_the_affine_fit_recovers_exact_times(a, b):
    np.testing.assert_allclose(affine_fit(SIZES, a + b * SIZES), (a, b), rtol=1e-6)
    assert math.isclose(half_performance_batch(SIZES, a + b * SIZES), a / b, rel_tol=1e-6)


def test_the_affine_fit_recovers_noisy_times():
    """240 µs and 0.7 µs per example with 5% noise: the standard error of the mean of 200 fits is below 2%."""
    random = np.random.default_rng(0)
    times = (240e-6 + 0.7e-6 * SIZES) * random.lognormal(0, 0.05, (200, len(SIZES)))
    fits = np.array([affine_fit(SIZES, row) for row in times])
    np.testing.assert_allclose(fits.mean(axis=0), [240e-6, 0.7e-6], rtol=0.02)


def test_the_half_performance_batch_of_noisy_times_is_accurate_to_15_percent():
    """Here 19 of 20 estimates lie within 12%."""
    random = np.random.default_rng(0)
    times = (240e-6 + 0.7e-6 * SIZES) * random.lognormal(0, 0.05, (200, len(SIZES)))
    estimates = np.array([half_performance_batch(SIZES, row) for row in times])
    assert math.isclose(np.median(estimates), 240 / 0.7, rel_tol=0.03)
    assert np.mean(np.abs(estimates * 0.7 / 240 - 1) < 0.15) >= 0.95


def test_a_constant_time_has_no_half_performance_batch():
    assert half_performance_batch(SIZES, np.full(len(SIZES), 1e-3)) == math.inf


@given(a=st.floats(1e-4, 1e-2), b=st.floats(1e-6, 1e-4))
def test_the_flat_batch_size_is_where_the_time_has_grown_by_half(a, b):
    exact = (0.5 * a + 1.5 * b) / b
    for sizes in (SIZES, SIZES[::5]):
        estimate = flat_batch_size(sizes, a + b * sizes)
        assert estimate == math.inf if exact > sizes[-1] else math.isclose(estimate, exact, rel_tol=1e-6)


def test_the_flat_batch_size_of_noisy_times_is_not_biased():
    """The standard error of the median of 2,000 estimates with a spread of a fifth is 0.6%."""
    random = np.random.default_rng(0)
    times = (240e-6 + 0.7e-6 * SIZES) * random.lognormal(0, 0.05, (2000, len(SIZES)))
    assert math.isclose(np.median(flat_batch_size(SIZES, times)), 0.5 * 240 / 0.7 + 1.5, rel_tol=0.015)


def test_the_flat_batch_size_of_many_curves_is_that_of_each():
    random = np.random.default_rng(0)
    times = (240e-6 + 0.7e-6 * SIZES) * random.lognormal(0, 0.2, (4, 5, len(SIZES)))
    np.testing.assert_array_equal(
        flat_batch_size(SIZES, times), [[flat_batch_size(SIZES, row) for row in rows] for rows in times]
    )


def test_times_at_a_single_batch_size_have_no_end_of_the_flat_range():
    assert flat_batch_size([1], [1e-3]) == math.inf


@pytest.mark.parametrize("length", [1, 2, 11])
def test_the_isotonic_fit_of_many_rows_is_scipys_of_each(length):
    rows = np.random.default_rng(0).normal(size=(100, length))
    np.testing.assert_allclose(isotonic_fit(rows), [isotonic_regression(row).x for row in rows], atol=1e-12)


def test_the_flat_batch_size_of_a_proportional_time_is_one_and_a_half():
    assert math.isclose(flat_batch_size(SIZES, 1e-3 * SIZES), 1.5)


def test_the_flat_batch_size_of_a_constant_time_is_infinite():
    assert flat_batch_size(SIZES, np.full(len(SIZES), 1e-3)) == math.inf


def test_the_flat_batch_size_may_equal_a_measured_batch_size():
    assert flat_batch_size([1, 2, 4], [1, 1.5, 6]) == 2
    assert math.isclose(flat_batch_size([1, 2, 4], [1, 2, 4], factor=3), 3)


def test_a_single_slow_measurement_is_smoothed_away():
    times = np.full(len(SIZES), 1e-3)
    times[3] = 1.6e-3
    assert flat_batch_size(SIZES, times) == math.inf


@given(power=st.floats(0.1, 2))
def test_the_exponent_of_exact_times_is_recovered(power):
    assert math.isclose(power_law_exponent(SIZES, 3e-4 * SIZES**power), power, rel_tol=1e-9)


def test_fiellers_interval_covers_the_ratio_of_correlated_means():
    """The coverage in 2,000 experiments is 95% to within three binomial standard errors."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        shared = random.normal(size=12)
        interval = ratio_interval(6 + shared + random.normal(size=12), 2 + 0.5 * shared + random.normal(size=12) / 2)
        covered += interval.low <= 3 <= interval.high
    assert abs(covered / 2000 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_a_ratio_over_a_mean_that_may_be_zero_has_infinite_bounds():
    interval = ratio_interval([1, 2, 3], [-1, 1, 0.5])
    assert interval.low == -math.inf
    assert interval.high == math.inf


def test_a_ratio_to_a_constant_has_students_interval():
    values = [1.0, 2, 4, 7]
    scaled = mean_interval(values).map(lambda value: value / 2)
    interval = ratio_interval(values, [2, 2, 2, 2])
    assert (interval.low, interval.high) == pytest.approx((scaled.low, scaled.high))


def test_the_exponent_of_noisy_times_is_recovered():
    """The standard error of a fit is 0.05 over the root of the sum of squared centred log sizes: 0.007 here."""
    random = np.random.default_rng(0)
    exponents = [power_law_exponent(SIZES, SIZES**0.8 * random.lognormal(0, 0.05, len(SIZES))) for _ in range(200)]
    standard_error = 0.05 / np.sqrt(np.sum((np.log(SIZES) - np.log(SIZES).mean()) ** 2))
    assert math.isclose(np.mean(exponents), 0.8, abs_tol=3 * standard_error / np.sqrt(200))
    assert math.isclose(np.std(exponents), standard_error, rel_tol=0.2)


def test_the_first_of_several_crossings_counts():
    assert math.isclose(value_at_crossing([1.0, 0.25, 1.0, 0.1], [0.0, 1.0, 0.0, 5.0], target=0.5), 0.5)


def test_a_value_is_interpolated_at_the_crossing_of_the_log_loss_or_of_the_loss_where_that_has_no_log():
    losses, scores = [1.0, 0.4, 0.1, 0.05], [0.5, 0.8, 0.9, 0.95]
    assert math.isclose(value_at_crossing(losses, scores, 0.2), 0.85)
    assert value_at_crossing(losses, scores, 0.1) == 0.9
    assert math.isnan(value_at_crossing(losses, scores, 0.01))
    assert value_at_crossing(losses, scores, 2.0) == 0.5
    assert value_at_crossing([1.0, 0.0], [3.0, 4.0], 0.1) == pytest.approx(3.9)
    assert value_at_crossing([1.0, -1.0], [3.0, 4.0], 0.5) == pytest.approx(3.25)


def test_the_seeds_to_decide_are_those_of_a_power_table():
    """Cohen 1988: a mean of half a standard deviation requires 34 values for a power of 80%, two-sided at 5%."""
    values = np.array([-1.0, 1.0]) / np.std([-1, 1], ddof=1)
    assert seeds_to_decide(values + 0.5) == 34
    assert seeds_to_decide(values + 0.2) == 199


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0001]])
def test_no_number_of_seeds_decides_values_without_spread_or_effect(values):
    assert seeds_to_decide(values) == math.inf


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.6, 1.9, "holds"),
        (0.4, 1.9, "undecided"),
        (0.6, 2.1, "undecided"),
        (0.1, 9.0, "undecided"),
        (0.1, 0.4, "fails"),
        (2.1, 9.0, "fails"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_equivalence_requires_the_whole_interval_within_the_factor(low, high, expected):
    assert equivalence(Interval(1.0, low, high, 10), null=1, factor=2) == expected


def ratios(true_ratio: float) -> list[Interval]:
    """Of geometric means of 10 values and of 50 with another spread, the true ones `true_ratio` apart."""
    random = np.random.default_rng(0)

    def geometric_mean(mean: float, spread: float, n: int) -> Interval:
        return mean_interval(random.normal(math.log(mean), spread, n)).map(math.exp)

    return [
        ratio_of_estimates(geometric_mean(true_ratio, 0.4, 10), geometric_mean(1, 0.1, 50))
        for _ in range(EXPERIMENTS)
    ]


def test_the_ratio_of_independent_estimates_is_covered_in_95_percent():
    covered = sum(interval.low <= 1.7 <= interval.high for interval in ratios(1.7))
    assert abs(covered / EXPERIMENTS - 0.95) < 3 * math.sqrt(0.95 * 0.05 / EXPERIMENTS)


def test_ratios_on_the_edge_of_the_factor_are_judged_falsely_in_at_most_2_5_percent():
    """Twice as large, and within a factor of two: neither holding nor failing is right."""
    verdicts = [equivalence(interval, null=1, factor=2) for interval in ratios(2)]
    assert verdicts.count("holds") <= MAX_FALSE_VERDICTS
    assert verdicts.count("fails") <= MAX_FALSE_VERDICTS


def test_each_bound_of_a_ratio_has_the_errors_that_move_it_there():
    """Only the numerator's upper and the denominator's lower bound can raise the ratio."""
    ratio = ratio_of_estimates(Interval(4.0, 4.0, 4.0 * math.exp(0.3), 7), Interval(2.0, 2 * math.exp(-0.4), 2.0, 8))
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((2, 2, 2 * math.exp(0.5)))
    assert ratio.n == 7


def test_the_ratio_to_an_estimate_without_bounds_has_none():
    ratio = ratio_of_estimates(Interval(3.0, math.nan, math.nan, 1), Interval(2.0, 1.0, 4.0, 2))
    assert (ratio.estimate, ratio.n) == (1.5, 1)
    assert math.isnan(ratio.low)
    assert math.isnan(ratio.high)


def test_an_infinite_bound_of_an_estimate_makes_that_of_the_ratio_infinite():
    assert ratio_of_estimates(Interval(3.0, 2.0, math.inf, 9), Interval(2.0, 1.0, 4.0, 9)).high == math.inf


def test_a_shared_variance_widens_the_interval_of_a_mean_as_welch_and_satterthwaite_have_it():
    """Ten values of variance 0.1, whose mean has 0.01, and a shared variance of 0.01: twice the share, so that nine
    degrees of freedom become 36."""
    values = np.linspace(-1, 1, 10)
    values *= math.sqrt(0.1 / values.var(ddof=1))
    interval = mean_interval(values, shared_variance=0.01)
    assert interval.high == pytest.approx(stats.t.ppf(0.975, 36) * math.sqrt(0.02))
    assert mean_p_value(values + interval.high, shared_variance=0.01) == pytest.approx(0.05)
    assert seeds_to_decide(values + 0.2, shared_variance=0.01) == math.inf
