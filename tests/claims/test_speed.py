import math

import numpy as np
import pytest

from suite.claims import epoch_time, update_parallel, update_sequential
from tests.claims.evidence import evidence, timings, without_rows

PROCESSES = np.array([1.0, 1.02, 0.97, 1.01, 0.99, 1.04])
SIZES = (1, 2, 4, 8, 16)


def update_times(backend, a, b, input_pipeline="resident", sizes=SIZES):
    """t(B) = a + b B in each of six processes, some a little slower."""
    return timings("update_time", backend, input_pipeline, {size: list((a + b * size) * PROCESSES) for size in sizes})


def test_sequential_holds_with_the_ratio_of_the_times():
    (row,) = update_sequential.judge(evidence(update_times("sequential", 1e-4, 1e-4)))
    assert row.verdict == "holds"
    assert math.isclose(row.effect, 17 / 2)
    assert math.isclose(row.value_small, 2e-4 * 1.005)
    assert (row.small, row.large, row.seeds) == (1, 16, 6)


def test_sequential_fails_where_a_large_batch_is_faster():
    times = {1: list(2e-3 * PROCESSES), 16: list(1e-3 * PROCESSES)}
    (row,) = update_sequential.judge(evidence(timings("update_time", "sequential", "resident", times)))
    assert row.verdict == "fails"
    assert math.isclose(row.effect, 0.5)


def test_the_interval_runs_from_the_least_to_the_greatest_ratio_of_six_processes():
    times = {1: [1.0] * 6, 16: [3.0, 5.0, 4.0, 6.0, 2.0, 7.0]}
    (row,) = update_sequential.judge(evidence(timings("update_time", "sequential", "resident", times)))
    assert (row.effect, row.effect_low, row.effect_high) == (4.5, 2, 7)


SLOWNESS = {1: np.array([1, 3, 1, 2, 5, 1]), 16: np.array([2, 1, 4, 1, 1, 3])}
"""How much slower than the fastest each process was, in all that it did."""


@pytest.mark.parametrize(
    ("claim", "measurement", "backend"),
    [(update_sequential, "update_time", "sequential"), (epoch_time, "epoch_time", "cpu")],
)
def test_a_process_that_was_slow_in_everything_changes_nothing(claim, measurement, backend):
    times, reference = ({size: list(slow * unit) for size, slow in SLOWNESS.items()} for unit in (2e-3, 1e-4))
    (row,) = claim.judge(evidence(timings(measurement, backend, "resident", times, reference)))
    np.testing.assert_allclose([row.effect, row.effect_low, row.effect_high], 1)


def test_one_slow_sample_of_each_process_changes_nothing():
    sample = update_times("sequential", 1e-4, 1e-4)
    disturbed = sample.assign(time_s=100 * sample["time_s"])
    (row,) = update_sequential.judge(evidence(sample, disturbed, sample))
    (undisturbed,) = update_sequential.judge(evidence(sample))
    assert row == undisturbed


def test_a_large_batch_that_would_take_too_long_is_replaced_by_the_largest_measured():
    measured = update_times("sequential", 0, 1e-4, sizes=(1, 4))
    capped = without_rows("update_time", "sequential", "unavailable", "sequential would take over 1 s", (16,))
    (row,) = update_sequential.judge(evidence(measured, capped))
    assert row.large == 4
    assert math.isclose(row.effect, 4)
    assert row.flags == "Large capped at 4: sequential would take over 1 s"


def test_a_large_batch_that_ran_out_of_memory_does_not_count_as_too_slow():
    measured = timings("epoch_time", "cuda", "resident", {1: list(2 * PROCESSES), 4: list(PROCESSES)})
    (row,) = epoch_time.judge(
        evidence(measured, without_rows("epoch_time", "cuda", "out_of_memory", "CUDA out of memory", (16,)))
    )
    assert (row.large, row.verdict, row.flags) == (4, "holds", "Large capped at 4: CUDA out of memory")


def test_a_comparison_of_small_with_itself_is_undecided():
    measured = update_times("sequential", 0, 1e-4, sizes=(1,))
    capped = without_rows("update_time", "sequential", "unavailable", "sequential would take over 1 s", (16,))
    (row,) = update_sequential.judge(evidence(measured, capped))
    assert (row.large, row.effect, row.verdict) == (1, 1, "undecided")


def test_small_must_have_been_measured():
    measured = update_times("sequential", 0, 1e-4, sizes=(4, 16))
    failed = without_rows("update_time", "sequential", "unavailable", "it was killed", (1,))
    (row,) = update_sequential.judge(evidence(measured, failed))
    assert (row.status, row.verdict, row.flags) == ("unavailable", "", "it was killed")


def test_without_the_yardstick_there_is_no_verdict_for_parallel():
    absent = without_rows("update_time", "sequential", "unavailable", "not measured yet")
    (row,) = update_parallel.judge(evidence(absent, update_times("cpu", 1e-4, 1e-9)))
    assert (row.status, row.verdict) == ("unavailable", "")
    assert row.flags == "no B_same of sequential: not measured yet"


def test_a_yardstick_measured_at_a_single_batch_size_is_none():
    single = update_times("sequential", 0, 1e-4, sizes=(1,))
    capped = without_rows("update_time", "sequential", "unavailable", "sequential would take over 1 s", (16,))
    (row,) = update_parallel.judge(evidence(single, capped, update_times("cpu", 8e-5, 1e-5)))
    assert (row.status, row.verdict) == ("unavailable", "")
    assert row.flags == "no B_same of sequential: sequential would take over 1 s"


def test_the_number_of_threads_is_said_of_the_cpu_alone_and_of_both_how_far_they_are_flat():
    """B_same is 0.5 a/b + 1.5."""
    rows = update_parallel.judge(
        evidence(
            update_times("sequential", 0, 1e-4),
            update_times("cpu", 1e-4, 1e-4).assign(threads=2),
            update_times("cuda", 1e-4, 1e-4),
        )
    )
    flat = "the same up to 2: Large is too large"
    assert [row.flags for row in rows] == [f"2 threads, the fastest number; {flat}", flat]


def test_sequential_grows_like_a_power_of_the_batch_size():
    power = update_sequential.exponent(update_sequential.process_medians(update_times("sequential", 0, 1e-4)))
    assert math.isclose(power.estimate, 1)


def test_parallel_holds_where_the_time_stays_the_same_ten_times_longer():
    """B_same is 0.5 a/b + 1.5: 1.5 on sequential, far beyond 16 in parallel, so at least 16."""
    rows = update_parallel.judge(evidence(update_times("sequential", 0, 1e-4), update_times("cpu", 1e-4, 1e-9)))
    assert [row.verdict for row in rows] == ["holds"]
    assert math.isclose(rows[0].effect, 16 / 1.5)
    assert rows[0].effect_high == math.inf
    assert rows[0].flags == "1 thread, the fastest number; still flat at 16: effect is a lower bound"


@pytest.mark.parametrize(("half_performance", "expected"), [(2, "fails"), (8, "fails")])
def test_parallel_fails_where_it_does_not(half_performance, expected):
    """B_same = 0.5 * half_performance + 1.5, over 1.5."""
    rows = update_parallel.judge(
        evidence(update_times("sequential", 0, 1e-4), update_times("cpu", half_performance * 1e-5, 1e-5))
    )
    assert rows[0].verdict == expected
    assert math.isclose(rows[0].effect, (0.5 * half_performance + 1.5) / 1.5, rel_tol=0.06)


def test_the_dataloader_is_a_row_of_its_own_outside_the_headline():
    rows = update_parallel.judge(
        evidence(
            update_times("sequential", 0, 1e-4),
            update_times("cpu", 1e-4, 1e-9),
            update_times("cpu", 1e-4, 1e-4, input_pipeline="dataloader"),
        )
    )
    assert [(row.protocol, row.headline) for row in rows] == [("data resident", True), ("DataLoader", False)]


def test_a_backend_that_is_not_there_is_a_row_with_its_reason():
    absent = without_rows("update_time", "cuda", "unavailable", "no CUDA device on this machine")
    rows = update_parallel.judge(evidence(update_times("sequential", 0, 1e-4), absent))
    assert [(row.backend, row.status, row.verdict, row.flags) for row in rows] == [
        ("cuda", "unavailable", "", "no CUDA device on this machine")
    ]


def test_an_epoch_holds_where_small_takes_longer_on_each_backend():
    rows = epoch_time.judge(
        evidence(
            timings("epoch_time", "sequential", "resident", {1: list(2 * PROCESSES), 16: list(2 * PROCESSES[::-1])}),
            timings("epoch_time", "cpu", "resident", {1: list(2 * PROCESSES), 16: list(0.5 * PROCESSES)}),
            timings("epoch_time", "cpu", "dataloader", {1: list(2 * PROCESSES), 16: list(4 * PROCESSES)}),
            update_times("cpu", 1e-4, 1e-9),
            without_rows("epoch_time", "cuda", "out_of_memory", "CUDA out of memory"),
        )
    )
    assert [row.protocol for row in rows if not row.headline] == ["DataLoader"]
    found = {(row.backend, row.protocol): (row.verdict, row.status) for row in rows}
    assert found == {
        ("sequential", "data resident"): ("undecided", "ok"),
        ("cpu", "data resident"): ("holds", "ok"),
        ("cpu", "DataLoader"): ("fails", "ok"),
        ("cuda", "data resident"): ("", "out_of_memory"),
    }


def test_too_few_processes_are_undecided():
    (row,) = update_sequential.judge(
        evidence(timings("update_time", "sequential", "resident", {1: [1.0, 1.0], 16: [9.0, 9.0]}))
    )
    assert row.verdict == "undecided"
    assert math.isnan(row.effect_low)
