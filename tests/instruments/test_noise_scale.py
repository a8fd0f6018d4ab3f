import math

import numpy as np
import pytest

from suite.instruments import effective, plain_mean


@pytest.mark.parametrize("scale", [0.0, 0.5, 30.0, 1e6])
def test_a_constant_noise_scale_is_its_own_mean_and_predicts_its_own_updates(scale):
    estimate = effective([0, 1, 2, 5, 40], [scale] * 5, 8, until=33.25)
    assert math.isclose(estimate.least_updates, 33.25 / (1 + scale / 8))
    assert math.isclose(estimate.noise_scale, scale, abs_tol=1e-12)
    assert math.isclose(estimate.updates(8), 33.25)
    assert math.isclose(plain_mean([0, 1, 2, 5, 40], [scale] * 5, until=33.25), scale)


def test_with_an_evaluation_before_every_update_the_sums_are_those_of_the_paper():
    batch_size, updates = 16, 50
    scales = np.random.default_rng(0).lognormal(3, 1, updates + 1)
    least_updates = least_examples = total = 0.0
    for b in scales[:updates]:
        least_updates += 1 / (1 + b / batch_size)
        least_examples += b / (1 + b / batch_size)
        total += b
    estimate = effective(range(updates + 1), scales, batch_size, until=updates)
    assert math.isclose(estimate.least_updates, least_updates)
    assert math.isclose(estimate.least_examples, least_examples)
    assert math.isclose(estimate.noise_scale, least_examples / least_updates)
    assert math.isclose(plain_mean(range(updates + 1), scales, until=updates), total / updates)


def test_between_evaluations_shares_are_linear_in_the_logarithm_and_a_fraction_of_an_update_counts_in_proportion():
    """Shares 1 and 1/3 after 0 and 8 updates: 2/3 after 2, where log(1 + updates) is half way."""
    shares = [1, 1 - 2 / 3 * math.log(2) / math.log(9), 2 / 3]
    assert math.isclose(effective([0, 8], [0, 4], 2, until=2.5).least_updates, shares[0] + shares[1] + shares[2] / 2)


def test_the_effective_noise_scale_lies_below_a_mean_that_the_end_dominates():
    scales = [1, 1, 1, 1, 1000]
    assert effective(range(5), scales, 4, until=5).noise_scale < 0.05 * plain_mean(range(5), scales, until=5)
