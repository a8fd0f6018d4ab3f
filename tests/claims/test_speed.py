import math
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.flat_range import QUANTITIES, accuracy
from suite.claims import Row, epoch_time, update_parallel, update_sequential
from suite.claims.update_parallel import Threads
from suite.evidence import CappedLarge, Problem
from suite.evidence.scaling import LargeTooLarge, StillFlat
from suite.statistics import Interval, median_ratio_interval
from suite.status import Status
from tests.evidence import evidence, timings, without_rows

PROCESSES = np.array([1.0, 1.02, 0.97, 1.01, 0.99, 1.04])
SIZES = (1, 2, 4, 8, 16)
TOO_SLOW = "sequential would take over 1 s"


def update_times(backend, a, b, input_pipeline="resident", sizes=SIZES):
    """t(B) = a + b B in each of six processes, some a little slower."""
    return timings("update_time", backend, input_pipeline, {size: list((a + b * size) * PROCESSES) for size in sizes})


def too_slow(*batch_sizes: int) -> pd.DataFrame:
    return without_rows("update_time", "sequential", "unavailable", TOO_SLOW, batch_sizes)


def judged(module: ModuleType, *frames: pd.DataFrame) -> list[Row]:
    return module.judge(module.analyse(evidence(*frames)))


def views(module: ModuleType, *frames: pd.DataFrame) -> str:
    """Draw and phrase the findings; return their sentences."""
    findings = module.analyse(evidence(*frames))
    module.figure(findings)
    module.numbers(findings)
    return f"{module.answer(findings)} {module.explain(findings)}"


# One example at a time


def test_sequential_holds_with_the_ratio_of_the_times():
    (row,) = judged(update_sequential, update_times("sequential", 1e-4, 1e-4))
    assert row.verdict == "holds"
    assert math.isclose(row.effect.estimate, 17 / 2)
    assert math.isclose(row.value_small, 2e-4 * 1.005)
    assert (row.small, row.large, row.effect.n) == (1, 16, 6)


def test_sequential_fails_where_a_large_batch_is_faster():
    times = {1: list(2e-3 * PROCESSES), 16: list(1e-3 * PROCESSES)}
    (row,) = judged(update_sequential, timings("update_time", "sequential", "resident", times))
    assert row.verdict == "fails"
    assert math.isclose(row.effect.estimate, 0.5)


def test_the_effect_is_the_median_at_large_over_the_median_at_small():
    """The median of the six ratios by process would be 4 / 3."""
    times = {1: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 16: [7.0, 6.0, 5.0, 4.0, 3.0, 2.0]}
    findings = update_sequential.analyse(evidence(timings("update_time", "sequential", "resident", times)))
    effect = findings.comparison.effect
    assert effect == median_ratio_interval(times[16], times[1])
    assert math.isclose(effect.estimate, 4.5 / 3.5)
    assert findings.intervals[16] == Interval(4.5, 2, 7, n=6)


SLOWNESS = {1: np.array([1, 3, 1, 2, 5, 1]), 16: np.array([2, 1, 4, 1, 1, 3])}
"""How many times slower than the fastest each process was, in the measured time and in its reference update."""


@pytest.mark.parametrize(
    ("claim", "measurement", "backend"),
    [(update_sequential, "update_time", "sequential"), (epoch_time, "epoch_time", "cpu")],
)
def test_a_process_that_was_slow_in_everything_changes_nothing(claim, measurement, backend):
    times, reference = ({size: list(slow * unit) for size, slow in SLOWNESS.items()} for unit in (2e-3, 1e-4))
    (row,) = judged(claim, timings(measurement, backend, "resident", times, reference))
    np.testing.assert_allclose([row.effect.estimate, row.effect.low, row.effect.high], 1)


@pytest.mark.parametrize(
    ("claim", "measurement", "backend"),
    [(update_sequential, "update_time", "sequential"), (epoch_time, "epoch_time", "cpu")],
)
def test_the_times_are_those_of_a_process_with_the_median_reference(claim, measurement, backend):
    """The processes are up to five times slower than the fastest; the median reference of all twelve is 1.5e-4 s."""
    times, reference = ({size: list(slow * unit) for size, slow in SLOWNESS.items()} for unit in (2e-3, 1e-4))
    (row,) = judged(claim, timings(measurement, backend, "resident", times, reference))
    np.testing.assert_allclose([row.value_small, row.value_large], 3e-3)


def test_one_slow_sample_of_each_process_changes_nothing():
    sample = update_times("sequential", 1e-4, 1e-4)
    disturbed = sample.assign(time_s=100 * sample["time_s"])
    findings = update_sequential.analyse(evidence(sample, disturbed, sample))
    assert findings == update_sequential.analyse(evidence(sample))


def test_a_large_batch_that_would_take_too_long_is_replaced_by_the_largest_measured():
    (row,) = judged(update_sequential, update_times("sequential", 0, 1e-4, sizes=(1, 4)), too_slow(16))
    assert row.large == 4
    assert math.isclose(row.effect.estimate, 4)
    assert row.flags == (CappedLarge(4, Problem(Status.UNAVAILABLE, TOO_SLOW)),)
    assert str(row.flags[0]) == f"compared at batch size 4 instead of Large: {TOO_SLOW}"


def test_a_comparison_of_small_with_itself_is_undecided():
    frames = update_times("sequential", 0, 1e-4, sizes=(1,)), too_slow(16)
    (row,) = judged(update_sequential, *frames)
    assert (row.large, row.effect.estimate, row.verdict) == (1, 1, "undecided")
    assert TOO_SLOW in views(update_sequential, *frames)


def test_small_must_have_been_measured():
    failed = without_rows("update_time", "sequential", "unavailable", "it was killed", (1,))
    frames = update_times("sequential", 0, 1e-4, sizes=(4, 16)), failed
    (row,) = judged(update_sequential, *frames)
    assert (row.status, row.verdict) == ("unavailable", None)
    assert row.flags == (Problem(Status.UNAVAILABLE, "it was killed"),)
    assert "it was killed" in views(update_sequential, *frames)


def test_sequential_grows_like_a_power_of_the_batch_size():
    findings = update_sequential.analyse(evidence(update_times("sequential", 0, 1e-4)))
    assert math.isclose(findings.power_law.exponent.estimate, 1)
    assert math.isclose(findings.power_law.scale_s, 1e-4 * 1.005)


def test_too_few_processes_are_undecided():
    times = {1: [1.0, 1.0], 16: [9.0, 9.0]}
    (row,) = judged(update_sequential, timings("update_time", "sequential", "resident", times))
    assert row.verdict == "undecided"
    assert math.isnan(row.effect.low)


def test_without_any_time_there_is_no_figure():
    findings = update_sequential.analyse(evidence(too_slow(1, 4, 16)))
    assert update_sequential.figure(findings) is None
    assert TOO_SLOW in update_sequential.answer(findings)


def test_the_sentences_of_sequential_name_the_ratio_both_times_and_the_power():
    text = views(update_sequential, update_times("sequential", 0, 1e-4))
    for part in ("16.0 times", "101 µs", "1.61 ms", "1.00 (1.00 to 1.00)"):
        assert part in text


# The whole batch at once


def test_without_the_yardstick_there_is_no_verdict_for_parallel():
    absent = without_rows("update_time", "sequential", "unavailable", "not measured yet")
    frames = absent, update_times("cpu", 1e-4, 1e-9)
    (row,) = judged(update_parallel, *frames)
    assert (row.status, row.verdict) == ("unavailable", None)
    assert [str(flag) for flag in row.flags] == ["no flat batch size of sequential: not measured yet"]
    assert "not measured yet" in views(update_parallel, *frames)


def test_a_yardstick_measured_at_a_single_batch_size_is_none():
    single = update_times("sequential", 0, 1e-4, sizes=(1,))
    (row,) = judged(update_parallel, single, too_slow(16), update_times("cpu", 8e-5, 1e-5))
    assert (row.status, row.verdict) == ("unavailable", None)
    assert [str(flag) for flag in row.flags] == [f"no flat batch size of sequential: {TOO_SLOW}"]


def test_the_cpu_alone_has_a_number_of_threads_and_both_have_the_end_of_their_flat_range():
    """An update stays flat up to 0.5 a/b + 1.5."""
    rows = judged(
        update_parallel,
        update_times("sequential", 0, 1e-4),
        update_times("cpu", 1e-4, 1e-4).assign(threads=2),
        update_times("cuda", 1e-4, 1e-4),
    )
    (threads, on_cpu), (on_cuda,) = (row.flags for row in rows)
    assert threads == Threads(2)
    assert str(threads) == "2 threads, the fastest thread count"
    for flag in (on_cpu, on_cuda):
        assert isinstance(flag, LargeTooLarge)
        assert math.isclose(flag.flat, 2)
        assert str(flag) == f"Large is beyond the flat range, which ends at {flag.flat:.1f}"


def test_parallel_holds_where_the_time_stays_flat_ten_times_longer():
    """An update stays flat up to 0.5 a/b + 1.5: 1.5 on sequential, in parallel at least 16, the largest measured."""
    findings = update_parallel.analyse(evidence(update_times("sequential", 0, 1e-4), update_times("cpu", 1e-4, 1e-9)))
    assert math.isclose(findings.sequential_flat, 1.5)
    (times,) = findings.updates
    assert times.scaling.flat == Interval(16, 16, math.inf, n=6)
    assert times.scaling.is_lower_bound
    (row,) = update_parallel.judge(findings)
    assert row.verdict == "holds"
    assert math.isclose(row.effect.estimate, 16 / 1.5)
    assert row.effect.high == math.inf
    assert row.flags == (Threads(1), StillFlat(16))
    assert (
        row.effect_text
        == "flat up to at least batch size 16 with 1 thread; one example at a time, not flat even at 2"
    )


@pytest.mark.parametrize(("half_performance", "expected"), [(2, "fails"), (8, "fails")])
def test_parallel_fails_where_it_does_not(half_performance, expected):
    """An update stays flat up to 0.5 * half_performance + 1.5; the effect is that over 1.5."""
    frames = update_times("sequential", 0, 1e-4), update_times("cpu", half_performance * 1e-5, 1e-5)
    findings = update_parallel.analyse(evidence(*frames))
    (row,) = update_parallel.judge(findings)
    assert row.verdict == expected
    assert math.isclose(row.effect.estimate, (0.5 * half_performance + 1.5) / 1.5)
    scaling = findings.updates[0].scaling
    assert math.isclose(scaling.half_performance.estimate, half_performance)
    assert math.isclose(scaling.fixed_s, half_performance * 1e-5 * 1.005)
    assert math.isclose(scaling.per_example_s, 1e-5 * 1.005)


def test_the_dataloader_is_a_row_of_its_own_outside_the_headline():
    rows = judged(
        update_parallel,
        update_times("sequential", 0, 1e-4),
        update_times("cpu", 1e-4, 1e-9),
        update_times("cpu", 1e-4, 1e-4, input_pipeline="dataloader"),
    )
    assert [(row.protocol, row.headline) for row in rows] == [
        ("data already on the device", True),
        ("DataLoader", False),
    ]


def test_a_backend_that_is_not_there_is_a_row_with_its_reason():
    problem = Problem(Status.UNAVAILABLE, "no CUDA device on this machine")
    absent = without_rows("update_time", "cuda", problem.status, problem.reason)
    (row,) = judged(update_parallel, update_times("sequential", 0, 1e-4), absent)
    assert (row.backend, row.status, row.verdict, row.flags) == ("cuda", "unavailable", None, (problem,))
    assert row.effect_text == ""


def test_the_answer_of_parallel_names_every_backend_that_was_compared():
    text = views(
        update_parallel,
        update_times("sequential", 0, 1e-4),
        update_times("cpu", 8e-5, 1e-5),
        update_times("cuda", 1e-4, 1e-9),
        without_rows("update_time", "mps", "unavailable", "no MPS device on this machine"),
    )
    for part in (
        "batch size 5.5 on cpu",
        "at least batch size 16 on cuda",
        "it is not flat even at batch size 2",
    ):
        assert part in text
    assert "mps" not in text


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_known_times_are_found_without_bias_and_with_few_false_verdicts(quantity):
    """Of 100 verdicts at the null, each false with probability 5%, more than 12 are false in 0.1% of runs."""
    result = accuracy(quantity, "in use", "noise 4%", processes=6, grid="quick", experiments=100)
    assert abs(result.bias) < 0.02
    assert result.false_verdicts <= stats.binom.ppf(0.999, 100, 0.05) / 100


# Epochs


def test_a_large_batch_that_ran_out_of_memory_does_not_count_as_too_slow():
    times = timings("epoch_time", "cuda", "resident", {1: list(2 * PROCESSES), 4: list(PROCESSES)})
    problem = Problem(Status.OUT_OF_MEMORY, "CUDA out of memory")
    failed = without_rows("epoch_time", "cuda", problem.status, problem.reason, (16,))
    (row,) = judged(epoch_time, times, failed)
    assert (row.large, row.verdict, row.flags) == (4, "holds", (CappedLarge(4, problem),))


def test_an_epoch_holds_where_small_takes_longer_on_each_backend():
    frames = (
        timings("epoch_time", "sequential", "resident", {1: list(2 * PROCESSES), 16: list(2 * PROCESSES[::-1])}),
        timings("epoch_time", "cpu", "resident", {1: list(2 * PROCESSES), 16: list(0.5 * PROCESSES)}),
        timings("epoch_time", "cpu", "dataloader", {1: list(2 * PROCESSES), 16: list(4 * PROCESSES)}),
        update_times("cpu", 1e-4, 1e-9),
        without_rows("epoch_time", "cuda", "out_of_memory", "CUDA out of memory"),
    )
    rows = judged(epoch_time, *frames)
    assert [row.protocol for row in rows if not row.headline] == ["DataLoader"]
    assert {(row.backend, row.protocol): (row.verdict, row.status) for row in rows} == {
        ("sequential", "data already on the device"): ("undecided", "ok"),
        ("cpu", "data already on the device"): ("holds", "ok"),
        ("cpu", "DataLoader"): ("fails", "ok"),
        ("cuda", "data already on the device"): (None, "out_of_memory"),
    }
    text = views(epoch_time, *frames)
    assert "4.00 times as long as at 16 on cpu" in text
    assert "40 updates at batch size 1, and 3 updates at batch size 16" in text


def test_the_updates_beside_the_epochs_are_those_of_the_same_backend_and_input_pipeline():
    findings = epoch_time.analyse(
        evidence(
            timings("epoch_time", "cpu", "resident", {1: list(2 * PROCESSES), 16: list(PROCESSES)}),
            timings("epoch_time", "cpu", "dataloader", {1: list(3 * PROCESSES), 16: list(PROCESSES)}),
            update_times("cpu", 0, 1e-4),
        )
    )
    resident, dataloader = findings.pipelines
    assert math.isclose(resident.updates.medians[16], 16e-4 * 1.005)
    assert dataloader.updates.medians == {}
    assert math.isclose(dataloader.epochs.medians[1], 3 * 1.005)


def test_the_answer_gives_the_reason_where_no_epoch_could_be_compared():
    small = timings("epoch_time", "cpu", "resident", {1: list(PROCESSES)})
    text = views(
        epoch_time,
        small,
        without_rows("epoch_time", "cpu", "unavailable", "an epoch would take over 60 s", (16,)),
        without_rows("epoch_time", "cuda", "out_of_memory", "CUDA out of memory"),
    )
    assert "cpu: an epoch would take over 60 s; cuda: CUDA out of memory" in text
