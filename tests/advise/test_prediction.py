"""Predictions against an exact hyperbola, and their intervals against further trainings."""

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.advise.measurements import TrainingRun
from suite.advise.prediction import (
    MODEL_DEVIATION,
    Prediction,
    further_training_interval,
    predicted_rate,
    rate_choice_variance,
)
from suite.instruments.noise_scale import Effective

SIZES = [2**power for power in range(11)]


def on_hyperbola(size: int, least_updates: float, critical_batch_size: float, spread=(0.0,) * 4) -> TrainingRun:
    """Replicas with `spread` in log S around S_min (1 + B_crit / B), and their gradient noise."""
    factors = np.exp(spread)
    updates = tuple(least_updates * (1 + critical_batch_size / size) * factors)
    noise = tuple(
        Effective(least_updates * factor, least_updates * critical_batch_size * factor) for factor in factors
    )
    return TrainingRun(size, 0.1, updates, noise)


def test_one_batch_size_determines_an_exact_hyperbola():
    prediction = Prediction(on_hyperbola(8, 100, 30))
    assert prediction.noise_scale.estimate == pytest.approx(30)
    for size in SIZES:
        assert prediction.updates(size).estimate == pytest.approx(100 * (1 + 30 / size))


def test_the_prediction_passes_near_every_run():
    pilot_only = Prediction(on_hyperbola(8, 100, 30))
    with_error = replace(pilot_only, further_runs=(on_hyperbola(256, 150, 30),))
    assert with_error.updates(8).estimate == pytest.approx(pilot_only.updates(8).estimate, rel=0.02)
    assert with_error.updates(256).estimate == pytest.approx(150 * (1 + 30 / 256), rel=0.05)
    as_predicted = replace(pilot_only, further_runs=(on_hyperbola(256, 100, 30),))
    assert (as_predicted.log_updates([64, 256, 1024])[1] < pilot_only.log_updates([64, 256, 1024])[1]).all()


def halved_scale(second_size: int) -> Prediction:
    """Two runs on the hyperbola of half the noise scale along the pilot run, as averaged parameters take them."""
    pilot = replace(on_hyperbola(16, 140, 13.5), noise=on_hyperbola(16, 140, 27).noise)
    return Prediction(pilot, (on_hyperbola(second_size, 140, 13.5),))


@pytest.mark.parametrize("second_size", [64, 128, 256])
def test_the_second_run_corrects_a_critical_batch_size_that_is_half_of_the_noise_scale(second_size):
    prediction = halved_scale(second_size)
    assert prediction.noise_scale.estimate == pytest.approx(27)
    assert prediction.critical_batch_size.estimate == pytest.approx(13.5, rel=0.25)
    assert prediction.critical_batch_size.low < 13.5 < prediction.critical_batch_size.high < 27 * 2
    for size in (1, 4, 64, 256, 1024):
        updates, interval = 140 * (1 + 13.5 / size), prediction.updates(size)
        uncorrected = abs(math.log(prediction.hyperbola(size) / updates))
        assert abs(math.log(interval.estimate / updates)) < uncorrected / 2
        assert interval.low < updates < interval.high


def test_before_a_second_run_the_critical_batch_size_is_uncertain_by_a_factor_of_two():
    prediction = Prediction(on_hyperbola(8, 100, 30, (-0.01, 0.0, 0.0, 0.01)))
    assert prediction.critical_batch_size.estimate == pytest.approx(30)
    assert math.sqrt(prediction.prior_variance) == pytest.approx(math.log(2), rel=1e-3)
    assert prediction.critical_batch_size.low < 15 < 60 < prediction.critical_batch_size.high


def test_a_distance_that_no_critical_batch_size_explains_is_an_error_of_the_model():
    pilot_only, explained = Prediction(on_hyperbola(8, 100, 30)), halved_scale(128)
    assert pilot_only.model_variance == MODEL_DEVIATION**2
    assert explained.model_variance == pytest.approx(MODEL_DEVIATION**2, rel=0.1)
    far = replace(pilot_only, further_runs=(on_hyperbola(256, 1000, 30),))
    assert far.model_variance > 1.5 * MODEL_DEVIATION**2
    assert far.updates(256).estimate == pytest.approx(1000 * (1 + 30 / 256), rel=0.1)


def test_the_variance_grows_with_the_distance_from_the_runs():
    prediction = Prediction(on_hyperbola(8, 100, 30), (on_hyperbola(256, 100, 30),))
    variances = prediction.log_updates([8, 16, 45, 128, 256])[1]
    assert variances[2] > variances[1] > variances[0]
    assert variances[2] > variances[3] > variances[4]


def test_intervals_cover_one_further_training():
    """Random walks from the hyperbola with the assumed variance, seeds with a standard deviation of 0.1; nominal
    95%."""
    generator = np.random.default_rng(3)
    inside = []
    for _ in range(300):
        walk = np.concatenate([[0], generator.normal(0, MODEL_DEVIATION * math.sqrt(math.log(2)), len(SIZES) - 1)])
        error = np.cumsum(walk)
        error -= error[3]

        def train(place, error=error):
            rate = generator.normal(0, math.sqrt(rate_choice_variance()))
            spread = error[place] + rate + generator.normal(0, 0.1, 4)
            return on_hyperbola(SIZES[place], 100, 30, spread)

        prediction = Prediction(train(3), (train(7),))
        place = generator.integers(len(SIZES))
        interval, updates = prediction.updates(SIZES[place]), train(place).updates[0]
        inside.append(interval.low <= updates <= interval.high)
    assert 0.91 < np.mean(inside) < 0.99


def test_no_training_takes_less_than_one_update():
    erratic = further_training_interval(TrainingRun(128, 3.0, (2.2, 1.6, 2.1, 17.0)))
    assert erratic.low == 1
    assert erratic.high > 17
    short = further_training_interval(TrainingRun(128, 3.0, (0.4, 0.5, 0.5, 0.4)))
    assert short.low == short.estimate


def test_an_undetermined_noise_scale_widens_the_interval_at_other_batch_sizes_than_the_pilot_runs():
    noise = tuple(Effective(least_updates, 3000.0) for least_updates in (100, -50, 80, 10))
    undetermined = Prediction(replace(on_hyperbola(8, 100, 30), noise=noise))
    determined = Prediction(on_hyperbola(8, 100, 30))
    assert not undetermined.is_determined
    wide, narrow = undetermined.updates(512), determined.updates(512)
    assert wide.high / wide.low > 3 * narrow.high / narrow.low
    assert undetermined.updates(8).low == pytest.approx(determined.updates(8).low)


def test_the_variance_of_a_rate_from_a_grid_follows_from_the_theory_of_a_quadratic():
    generator = np.random.default_rng(0)
    ratios = 2 ** generator.uniform(-0.5, 0.5, 100_000)
    assert rate_choice_variance() == pytest.approx(np.log(ratios * (2 - ratios)).var(), rel=0.05)


def test_the_predicted_rate_follows_the_batch_size_up_to_the_highest_stable_rate():
    pilot = on_hyperbola(8, 100, 30)
    prediction = Prediction(pilot, (replace(on_hyperbola(256, 100, 30), learning_rate=0.2),))
    assert predicted_rate(prediction, 8) == pytest.approx(0.1)
    assert predicted_rate(prediction, 4) == pytest.approx(0.1 * (1 + 30 / 8) / (1 + 30 / 4))
    assert predicted_rate(Prediction(pilot), 10**6) == pytest.approx(0.1 * (1 + 30 / 8), rel=1e-3)
    assert predicted_rate(prediction, 1024) == 0.2
