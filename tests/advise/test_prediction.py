"""Predictions against a hyperbola that is exact, and their intervals against further trainings."""

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.advise.measured import Trained
from suite.advise.prediction import MODEL_ERROR, Curve, one_more, rate_choice_variance, rate_rule
from suite.instruments.noise_scale import Effective

SIZES = [2**power for power in range(11)]


def on_hyperbola(size: int, least: float, b: float, spread=(0.0,) * 4) -> Trained:
    """Replicas with `spread` in log S around S_min (1 + b / B), their noise scale along them."""
    factors = np.exp(spread)
    updates = tuple(least * (1 + b / size) * factors)
    return Trained(size, 0.1, updates, tuple(Effective(least * factor, least * b * factor) for factor in factors))


def test_an_exact_hyperbola_is_found_from_one_batch_size():
    curve = Curve(on_hyperbola(8, 100, 30))
    assert curve.noise_scale.estimate == pytest.approx(30)
    for size in SIZES:
        assert curve.updates(size).estimate == pytest.approx(100 * (1 + 30 / size))


def test_what_was_trained_binds_the_curve_there():
    one = Curve(on_hyperbola(8, 100, 30))
    off = replace(one, others=(on_hyperbola(256, 150, 30),))
    assert off.updates(8).estimate == pytest.approx(one.updates(8).estimate, rel=0.02)
    assert off.updates(256).estimate == pytest.approx(150 * (1 + 30 / 256), rel=0.05)
    assert off.wander > one.wander == MODEL_ERROR**2
    as_expected = replace(one, others=(on_hyperbola(256, 100, 30),))
    assert (as_expected.log_updates([64, 256, 1024])[1] < one.log_updates([64, 256, 1024])[1]).all()


def test_nearer_trainings_say_more():
    curve = Curve(on_hyperbola(8, 100, 30), (on_hyperbola(256, 100, 30),))
    variances = curve.log_updates([8, 16, 45, 128, 256])[1]
    assert variances[2] > variances[1] > variances[0]
    assert variances[2] > variances[3] > variances[4]


def test_intervals_cover_one_further_training():
    """Curves that wander off the hyperbola as is assumed, seeds of a tenth: nominal 95%."""
    generator = np.random.default_rng(3)
    inside = []
    for _ in range(300):
        walk = np.concatenate([[0], generator.normal(0, MODEL_ERROR * math.sqrt(math.log(2)), len(SIZES) - 1)])
        off = np.cumsum(walk)
        off -= off[3]

        def trained(place, off=off):
            rate = generator.normal(0, math.sqrt(rate_choice_variance()))
            spread = off[place] + rate + generator.normal(0, 0.1, 4)
            return on_hyperbola(SIZES[place], 100, 30, spread)

        curve = Curve(trained(3), (trained(7),))
        place = generator.integers(len(SIZES))
        interval, further = curve.updates(SIZES[place]), trained(place).updates[0]
        inside.append(interval.low <= further <= interval.high)
    assert 0.91 < np.mean(inside) < 0.99


def test_no_training_takes_less_than_one_update():
    erratic = one_more(Trained(128, 3.0, (2.2, 1.6, 2.1, 17.0)))
    assert erratic.low == 1
    assert erratic.high > 17
    soon = one_more(Trained(128, 3.0, (0.4, 0.5, 0.5, 0.4)))
    assert soon.low == soon.estimate


def test_an_undetermined_noise_scale_widens_the_interval_away_from_the_anchor():
    along = tuple(Effective(least, 3000.0) for least in (100, -50, 80, 10))
    curve = Curve(replace(on_hyperbola(8, 100, 30), along=along))
    sure = Curve(on_hyperbola(8, 100, 30))
    assert not curve.determined
    assert curve.updates(512).high / curve.updates(512).low > 3 * sure.updates(512).high / sure.updates(512).low
    assert curve.updates(8).low == pytest.approx(sure.updates(8).low)


def test_the_choice_of_a_rate_counts_as_the_theory_of_a_quadratic_says():
    generator = np.random.default_rng(0)
    ratios = 2 ** generator.uniform(-0.5, 0.5, 100_000)
    assert rate_choice_variance() == pytest.approx(np.log(ratios * (2 - ratios)).var(), rel=0.05)


def test_the_rate_follows_the_batch_size_up_to_what_was_stable():
    anchor = on_hyperbola(8, 100, 30)
    curve = Curve(anchor, (replace(on_hyperbola(256, 100, 30), learning_rate=0.2),))
    assert rate_rule(curve, 8) == pytest.approx(0.1)
    assert rate_rule(curve, 4) == pytest.approx(0.1 * (1 + 30 / 8) / (1 + 30 / 4))
    assert rate_rule(Curve(anchor), 10**6) == pytest.approx(0.1 * (1 + 30 / 8), rel=1e-3)
    assert rate_rule(curve, 1024) == 0.2
