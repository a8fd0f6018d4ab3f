"""Memory against torch's tracker, and update times."""

import weakref

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

from suite.advise.measurements import Timing, fit
from suite.advise.memory import with_unit
from suite.advise.timing import Updates, batch_sizes, time_updates
from suite.backends import BACKENDS, CPU
from suite.devices import out_of_memory
from suite.workloads import find
from tests.conftest import blobs, cuda, tiny


@pytest.mark.parametrize("batch_size", [1, 64, 1437])
def test_the_peak_memory_agrees_with_torchs_tracker(batch_size):
    digits = find("digits")
    updates = Updates(digits, digits.load(), CPU, batch_size, 0.1)
    updates.updates(1)
    batch = next(updates.batches)  # drawn beforehand: the tracker counts no shuffling
    updates.batches = iter([batch, batch])
    peak = updates.peak_bytes()
    with MemTracker() as tracker:
        updates.updates(1)
    expected = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert peak == pytest.approx(expected, rel=0.01)


def test_the_peak_memory_includes_the_batch():
    small, large = (Updates(tiny(), blobs(4096), CPU, size, 0.1).peak_bytes() for size in (1024, 2048))
    values = 4 + 8 + 8 + 3  # input and the layers' outputs of an example, float32
    assert large - small > 1024 * 4 * values


def test_batch_sizes_are_powers_of_two_and_all_examples():
    assert batch_sizes(50) == [1, 2, 4, 8, 16, 32, 50]
    assert batch_sizes(64) == [1, 2, 4, 8, 16, 32, 64]


def test_an_update_of_each_batch_size_is_timed_and_fitted():
    timings = time_updates(tiny(), blobs(), CPU, 1, [1, 8, 40])
    assert [timing.status for timing in timings] == ["ok"] * 3
    assert all(min(timing.times_s) > 0 and timing.peak_bytes > 0 for timing in timings)
    exact = [Timing(size, (2e-3 + 1e-5 * size,)) for size in (1, 10, 100)]
    assert fit([*exact, Timing(1000, status="out_of_memory")]) == pytest.approx((2e-3, 1e-5))


def test_timing_leaves_torchs_number_of_threads_unchanged():
    assert torch.get_num_threads() == 1
    time_updates(tiny(), blobs(), CPU, 2, [1, 8], rounds=1)
    assert torch.get_num_threads() == 1


def test_an_update_that_would_not_fit_is_not_run(monkeypatch):
    monkeypatch.setattr("suite.devices.Device.free_bytes", lambda device: 10_000)
    timings = time_updates(tiny(), blobs(1024), CPU, 1, batch_sizes(1024))
    status = [timing.status for timing in timings]
    assert status == sorted(status, reverse=False)
    assert status[0] == "ok"
    assert status[-1] == "out_of_memory"
    assert all(timing.peak_bytes <= 10_000 for timing in timings if timing.status == "ok")
    assert "9.77 KiB are free" in timings[-1].reason


def test_running_out_of_memory_is_distinguished_from_other_errors():
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert [with_unit(size) for size in (12, 2048, 3 * 2**20, 5.5 * 2**30)] == ["12 B", "2 KiB", "3 MiB", "5.5 GiB"]


@cuda
def test_memory_on_a_gpu_grows_with_the_batch_size():
    timings = time_updates(tiny(), blobs(4096), BACKENDS["cuda"], 1, [1, 4096])
    assert timings[1].peak_bytes > timings[0].peak_bytes > 0
    assert all(timing.update_s > 0 for timing in timings)


def test_one_model_at_a_time_is_in_memory(monkeypatch):
    """Models of smaller batch sizes in memory would lower the largest batch size that fits."""
    alive, counts = weakref.WeakSet(), []

    class Counted(Updates):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.add(self)
            counts.append(len(alive))

    monkeypatch.setattr("suite.advise.timing.Updates", Counted)
    time_updates(tiny(), blobs(), CPU, 1, [1, 8, 40], rounds=2)
    assert len(counts) >= 6
    assert max(counts) == 1
