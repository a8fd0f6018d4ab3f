"""The time to the target: from made-up trainings and timings."""

import pytest

from suite.experiments.tuned_training import TUNED_TRAINING
from suite.studies import time_to_target
from suite.studies.time_to_target import analyse
from suite.timing.timed import UPDATE_TIME
from suite.training.momentum_pair import WITH, WITHOUT
from tests.claims.test_speed_up import trained
from tests.evidence import evidence, timings, without_rows


def update_times(times_s: dict[int, list[float]]):
    return timings(UPDATE_TIME.name, "cpu", "resident", times_s).assign(protocol="")


def test_the_time_is_the_updates_times_the_median_time_of_an_update():
    without, with_ = {1: [100, 300], 16: [40, 80]}, {1: [100, 100], 16: [10, 30]}
    timed = update_times({1: [0.1, 0.2, 0.6], 16: [0.5, 0.5, 0.5]})
    findings = analyse(evidence(trained(WITHOUT, without), trained(WITH, with_), timed))
    assert findings.problem is None
    assert findings.times[WITHOUT].seeds == {1: pytest.approx((20, 60)), 16: pytest.approx((20, 40))}
    assert findings.times[WITHOUT].medians == pytest.approx({1: 40, 16: 30})
    assert findings.times[WITH].medians == pytest.approx({1: 20, 16: 10})
    assert [times.fastest for times in findings.times.values()] == [16, 16]
    text = time_to_target.answer(findings)
    assert (
        "at batch size 16 without momentum (median 30.0 s) and at batch size 16 with momentum (median 10.0 s)."
        in text
    )
    (axes,) = time_to_target.figure(findings).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["without momentum", "with momentum"]


def test_a_batch_size_without_a_time_is_left_out():
    timed = update_times({16: [0.5, 0.5]})
    findings = analyse(evidence(trained(WITHOUT, {1: [100], 16: [40]}), trained(WITH, {1: [10]}), timed))
    assert {name: list(times.medians) for name, times in findings.times.items()} == {WITHOUT: [16]}


def test_timings_without_trainings_have_a_reason_and_no_figure():
    """As after a run that was killed between the timings and the trainings."""
    trainings = without_rows(TUNED_TRAINING.name, "cpu", "unavailable", "not measured yet")
    trainings = trainings.assign(learning_rate=0.1)
    findings = analyse(evidence(update_times({1: [0.1, 0.2], 16: [0.3, 0.4]}), trainings))
    assert findings.times == {}
    assert "not measured yet" in time_to_target.answer(findings)
    assert time_to_target.explain(findings) == ""
    assert time_to_target.figure(findings) is None


def test_trainings_without_timings_have_a_reason_and_no_figure():
    timed = without_rows(UPDATE_TIME.name, "cpu", "out_of_memory", "too much")
    findings = analyse(evidence(trained(WITHOUT, {16: [40]}), trained(WITH, {16: [10]}), timed))
    assert "too much" in time_to_target.answer(findings)
    assert time_to_target.figure(findings) is None
