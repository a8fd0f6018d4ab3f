"""Measured values replace predicted ones, on trainings whose time in a loop is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.advise.advisor import Recommendation, advise
from suite.advise.answer import lines
from suite.advise.choice import neighbours
from suite.advise.measurements import OVERHEAD_DEVIATION, Timing, loop_overhead
from suite.advise.prediction import Prediction
from suite.advise.stored_answer import to_dict
from suite.advise.tables import prediction_table
from suite.advise.verification import Check, table_after_checks
from tests.advise.constant_noise import ConstantNoise
from tests.advise.test_prediction import on_hyperbola

NOISE_SCALE, A, B = 8, 1e-3, 1e-5


def recommend(overhead) -> tuple[Recommendation, ConstantNoise]:
    trainer = ConstantNoise(NOISE_SCALE, A, B, overhead)
    return advise(trainer, trainer.timings(), True, lambda step: None), trainer


def assert_measured(recommendation: Recommendation, trainer: ConstantNoise) -> None:
    """Every trained batch size has its measured updates and seconds in the table, and the fastest of them is
    chosen."""
    table = recommendation.checked_table
    runs = (*recommendation.prediction.runs, *(check.run for check in recommendation.checks))
    latest = {run.batch_size: run for run in runs}
    for size, run in latest.items():
        update_s = (A + B * size) * trainer.overhead(size)
        assert table.loc[size, "update_s"] == pytest.approx(update_s)
        assert table.loc[size, "updates"] == pytest.approx(run.typical_updates)
        assert table.loc[size, "time_s"] == pytest.approx(run.typical_updates * update_s)
        assert table.loc[size, "examples"] == pytest.approx(run.typical_updates * size)
    assert recommendation.choice.fastest == table.loc[list(latest), "time_s"].idxmin()


def test_measured_values_are_in_the_table_where_all_is_as_predicted():
    recommendation, trainer = recommend(lambda size: 1.0)
    assert not recommendation.missed
    assert_measured(recommendation, trainer)
    assert lines(recommendation, 0.1)[-1].startswith("Checked, all as predicted")


def test_the_overhead_of_the_training_loop_is_predicted_from_the_first_two_runs():
    """With an overhead of 1.5, update times alone would lie outside every interval."""
    recommendation, trainer = recommend(lambda size: 1.5)
    assert not recommendation.missed
    assert_measured(recommendation, trainer)
    table = recommendation.predicted_table
    assert table["update_s"].tolist() == pytest.approx([1.5 * (A + B * size) for size in table.index])
    assert "1.5 times as long in a training" in lines(recommendation, 0.1)[3]
    assert to_dict(recommendation, "toy", "cpu", 1, 0.1, 0.0)["in_trainings"] == pytest.approx(1.5)


def test_a_time_outside_its_interval_is_reported_and_changes_the_recommendation():
    plain, _ = recommend(lambda size: 1.0)
    trained = {run.batch_size for run in plain.prediction.runs}
    fastest = plain.choice.fastest
    recommendation, trainer = recommend(lambda size: 1.0 if size in trained else 3.0)
    assert recommendation.missed
    assert_measured(recommendation, trainer)
    assert fastest not in trained
    assert recommendation.choice.fastest in trained
    last = lines(recommendation, 0.1)[-1]
    assert last.startswith(
        "Checked: some measurements lie outside their predicted intervals, and the recommendation follows the "
        "measurements"
    )
    assert "outside its interval)" in last
    answer = to_dict(recommendation, "toy", "cpu", 1, 0.1, 0.0)
    assert answer["verification"] == "missed"
    assert not all(check["as_predicted"] for check in answer["checked"])


def test_a_mean_is_compared_with_the_interval_of_a_mean():
    """The mean of four trainings lies inside the interval of one training, and outside that of a mean of four."""
    spread = (-0.4, -0.1, 0.1, 0.4)
    prediction = Prediction(on_hyperbola(8, 100, 30, spread), (on_hyperbola(128, 100, 30, spread),))
    timings = [Timing(size, (1.0,) * 3) for size in (8, 16, 32, 128)]
    single, mean = (prediction_table(prediction, timings, trainings).loc[32] for trainings in (1, 4))
    assert single["updates_low"] < mean["updates_low"] < mean["updates_high"] < single["updates_high"]
    between = math.sqrt(single["updates_high"] * mean["updates_high"])
    run = replace(on_hyperbola(32, 1, 0), updates=(between,) * 4, update_s=mean["update_s"])
    assert Check(run, single).as_predicted
    assert not Check(run, mean).as_predicted


def test_more_trainings_average_out_the_seeds_alone():
    prediction = Prediction(on_hyperbola(8, 100, 30, (-0.1, 0.0, 0.1, 0.0)))
    intervals = [prediction.updates(64, n) for n in (1, 2, 4, 10**9)]
    squares = [math.log(interval.high / interval.estimate) ** 2 for interval in intervals]
    reductions = [squares[0] - square for square in squares[1:]]
    assert reductions == pytest.approx([reductions[2] / 2, reductions[2] * 3 / 4, reductions[2]], rel=1e-6)
    assert squares[-1] > 0


def test_the_loop_overhead_is_the_geometric_mean_over_the_timed_runs():
    timings = [Timing(size, (1e-3 * size,)) for size in (1, 2, 4)]
    runs = [
        replace(on_hyperbola(size, 100, 30), update_s=1e-3 * size * overhead)
        for size, overhead in ((1, 1.1), (4, 1.6))
    ]
    untimed = on_hyperbola(2, 100, 30)
    ratio, variance = loop_overhead(timings, [*runs, untimed])
    assert ratio == pytest.approx(math.sqrt(1.1 * 1.6))
    deviations = np.log([1.1, 1.6]) - np.log(ratio)
    assert variance == pytest.approx((OVERHEAD_DEVIATION**2 + (deviations**2).sum()) / 2 * 1.5)
    assert loop_overhead(timings, [])[0] == 1
    row = prediction_table(Prediction(runs[0], (runs[1],)), timings).loc[2]
    assert row["time_s_high"] / row["time_s"] > row["updates_high"] / row["updates"]


def test_a_batch_size_whose_check_did_not_reach_the_target_is_not_recommended():
    prediction = Prediction(
        replace(on_hyperbola(8, 100, 30), update_s=1.0), (replace(on_hyperbola(32, 100, 30), update_s=1.0),)
    )
    timings = [Timing(size, (1.0,) * 3) for size in (8, 16, 32)]
    table = prediction_table(prediction, timings, 4)
    stuck = replace(on_hyperbola(32, 100, 30), updates=(50.0, math.inf, 50.0, 50.0))
    checks = [Check(stuck, table.loc[32]), Check(replace(on_hyperbola(16, 90, 30), update_s=1.0), table.loc[16])]
    after, allowed = table_after_checks(prediction, checks, timings)
    assert allowed == {8, 16}
    assert after.loc[16, "time_s"] == pytest.approx(90 * (1 + 30 / 16))


def test_the_runs_of_the_prediction_are_not_repeated_unless_they_are_the_fastest():
    trainer = ConstantNoise(NOISE_SCALE, A, 10 * B)
    recommendation = advise(trainer, trainer.timings(), True, lambda step: None)
    known = {run.batch_size for run in recommendation.prediction.runs}
    checked = {check.run.batch_size for check in recommendation.checks}
    fastest = recommendation.choice.fastest
    assert fastest in checked - known
    assert known & set(neighbours(fastest, list(recommendation.checked_table.index)))
    assert not known & checked
