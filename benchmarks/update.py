"""Seconds of one update over batch size, on every backend, with resident data and through a DataLoader.

On an accelerator also a hundred updates with one wait at the end: throughput, where one update shows latency.
"""

from benchmarks.timed import THREADS, _Timed, benchmark_of, measured_threads, timed_workload
from suite.backends import ACCELERATORS
from suite.quick_timings import update_seconds

if THREADS is None:

    def setup_cache():
        return measured_threads()


class _Update(_Timed):
    """Many short samples, whose median a disturbance hardly moves; few of a slow update."""

    def examples(self, batch_size):
        return batch_size

    def prepare(self, threads):
        """Warm up by about 20 ms of updates, and time about 4 ms of them in each of seven samples; fewer of slow
        ones."""
        seconds = self.expected_s or update_seconds(self.timed, threads, min_run_time_s=0)
        self.timed.updates(min(20, round(0.02 / seconds)))
        self.number = max(1, min(20, round(0.004 / seconds)))
        self.repeat = max(2, min(7, round(0.05 / seconds)))

    def time_update(self, *parameters):
        self.timed.updates(1)


class _HundredUpdates(_Timed):
    repeat = 3
    number = 1

    def prepare(self, threads):
        self.timed.updates(20)

    def time_hundred_updates(self, *parameters):
        self.timed.updates(100)


_workload = timed_workload()
globals()[_workload.name] = benchmark_of(_workload, _Update)
globals()[f"{_workload.name}_throughput"] = benchmark_of(
    _workload, _HundredUpdates, backends=[backend.name for backend in ACCELERATORS], input_pipelines=["resident"]
)
