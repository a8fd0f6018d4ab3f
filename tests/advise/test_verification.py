"""What is measured stands instead of what was predicted, on trainings whose time in a loop is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.advise.advisor import Advice, advise
from suite.advise.answer import lines, to_dict
from suite.advise.measured import LOOP_ERROR, Timing, in_trainings
from suite.advise.prediction import Curve
from suite.advise.recommendation import neighbours, predicted
from suite.advise.verification import Checked, settled
from tests.advise.constant_noise import ConstantNoise
from tests.advise.test_prediction import on_hyperbola

NOISE_SCALE, A, B = 8, 1e-3, 1e-5


def advised(longer) -> tuple[Advice, ConstantNoise]:
    trainer = ConstantNoise(NOISE_SCALE, A, B, longer)
    return advise(trainer, trainer.timings(), True, lambda what: None), trainer


def assert_measured(found: Advice, trainer: ConstantNoise) -> None:
    """Every batch size that was checked carries its own updates and seconds, in the table and in the first line."""
    last = {one.batch_size: one for one in (*found.curve.trained, *(one.trained for one in found.checked))}
    for size, one in last.items():
        update_s = (A + B * size) * trainer.longer(size)
        assert found.table.loc[size, "update_s"] == pytest.approx(update_s)
        assert found.table.loc[size, "updates"] == pytest.approx(one.typical_updates)
        assert found.table.loc[size, "time_s"] == pytest.approx(one.typical_updates * update_s)
        assert found.table.loc[size, "examples"] == pytest.approx(one.typical_updates * size)
    assert found.recommendation.fastest == found.table.loc[list(last), "time_s"].idxmin()


def test_what_was_measured_stands_where_all_is_as_predicted():
    found, trainer = advised(lambda size: 1.0)
    assert not found.missed
    assert_measured(found, trainer)
    assert lines(found, 0.1)[-1].startswith("Checked, all as predicted")


def test_a_training_loop_that_is_slower_throughout_is_predicted_from_the_first_two():
    """Half as slow again, as all that is trained: what was timed alone would miss it."""
    found, trainer = advised(lambda size: 1.5)
    assert not found.missed
    assert_measured(found, trainer)
    assert found.before["update_s"].tolist() == pytest.approx([1.5 * (A + B * size) for size in found.before.index])
    assert "1.5 times as long in a training" in lines(found, 0.1)[3]
    assert to_dict(found, "toy", "cpu", 1, 0.1, 0.0)["in_trainings"] == pytest.approx(1.5)


def test_a_time_that_misses_its_interval_is_said_so_and_another_batch_recommended():
    plain, _ = advised(lambda size: 1.0)
    anchors = {one.batch_size for one in plain.curve.trained}
    fast = plain.recommendation.fastest
    found, trainer = advised(lambda size: 1.0 if size in anchors else 3.0)
    assert found.missed
    assert_measured(found, trainer)
    assert fast not in anchors
    assert found.recommendation.fastest in anchors
    last = lines(found, 0.1)[-1]
    assert last.startswith(
        "Checked: not everything lies in the interval predicted of it, so this is recommended from what was measured"
    )
    assert "(outside its interval)" in last
    facts = to_dict(found, "toy", "cpu", 1, 0.1, 0.0)
    assert facts["verification"] == "missed"
    assert not all(one["as_predicted"] for one in facts["checked"])


def test_a_mean_is_held_against_the_interval_of_a_mean():
    """Four trainings whose mean lies where one training may well lie, and a mean of four hardly."""
    spread = (-0.4, -0.1, 0.1, 0.4)
    curve = Curve(on_hyperbola(8, 100, 30, spread), (on_hyperbola(128, 100, 30, spread),))
    timings = [Timing(size, (1.0,) * 3) for size in (8, 16, 32, 128)]
    one, mean = (predicted(curve, timings, trainings).loc[32] for trainings in (1, 4))
    assert one["updates_low"] < mean["updates_low"] < mean["updates_high"] < one["updates_high"]
    between = math.sqrt(one["updates_high"] * mean["updates_high"])
    trained = replace(on_hyperbola(32, 1, 0), updates=(between,) * 4, update_s=mean["update_s"])
    assert Checked(trained, one).as_predicted
    assert not Checked(trained, mean).as_predicted


def test_of_many_trainings_only_the_seeds_average_out():
    curve = Curve(on_hyperbola(8, 100, 30, (-0.1, 0.0, 0.1, 0.0)))
    half = [math.log(curve.updates(64, n).high / curve.updates(64, n).estimate) ** 2 for n in (1, 2, 4, 10**9)]
    fewer = [half[0] - one for one in half[1:]]
    assert fewer == pytest.approx([fewer[2] / 2, fewer[2] * 3 / 4, fewer[2]], rel=1e-6)
    assert half[-1] > 0


def test_how_much_longer_an_update_takes_in_a_training_is_the_mean_of_what_was_trained():
    timings = [Timing(size, (1e-3 * size,)) for size in (1, 2, 4)]
    trained = [
        replace(on_hyperbola(size, 100, 30), update_s=1e-3 * size * longer) for size, longer in ((1, 1.1), (4, 1.6))
    ]
    untimed = on_hyperbola(2, 100, 30)
    ratio, variance = in_trainings(timings, [*trained, untimed])
    assert ratio == pytest.approx(math.sqrt(1.1 * 1.6))
    off = np.log([1.1, 1.6]) - np.log(ratio)
    assert variance == pytest.approx((LOOP_ERROR**2 + (off**2).sum()) / 2 * 1.5)
    assert in_trainings(timings, [])[0] == 1
    wide = predicted(Curve(trained[0], (trained[1],)), timings).loc[2]
    assert wide["time_s_high"] / wide["time_s"] > wide["updates_high"] / wide["updates"]


def test_what_never_reached_the_target_when_checked_is_not_recommended():
    curve = Curve(
        replace(on_hyperbola(8, 100, 30), update_s=1.0), (replace(on_hyperbola(32, 100, 30), update_s=1.0),)
    )
    timings = [Timing(size, (1.0,) * 3) for size in (8, 16, 32)]
    table = predicted(curve, timings, 4)
    stuck = replace(on_hyperbola(32, 100, 30), updates=(50.0, math.inf, 50.0, 50.0))
    checked = [Checked(stuck, table.loc[32]), Checked(replace(on_hyperbola(16, 90, 30), update_s=1.0), table.loc[16])]
    after, allowed = settled(curve, checked, timings)
    assert allowed == {8, 16}
    assert after.loc[16, "time_s"] == pytest.approx(90 * (1 + 30 / 16))


def test_of_what_the_curve_rests_on_only_the_fastest_is_trained_again():
    trainer = ConstantNoise(NOISE_SCALE, A, 10 * B)
    found = advise(trainer, trainer.timings(), True, lambda what: None)
    before = {one.batch_size for one in found.curve.trained}
    checked = {one.trained.batch_size for one in found.checked}
    fastest = found.recommendation.fastest
    assert fastest in checked - before
    assert before & set(neighbours(fastest, list(found.table.index)))
    assert not before & checked
