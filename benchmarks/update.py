"""Seconds of one update over batch size, on every backend, with resident data and through a DataLoader.

On a GPU also a hundred updates with one wait at the end: throughput, where one update shows latency.
"""

from benchmarks.timed import _Timed, benchmark_of, threads_for_cpu, timed_workload
from suite.quick_timings import update_seconds


def setup_cache():
    return threads_for_cpu()


class _Update(_Timed):
    """Many short samples, whose median a disturbance hardly moves; few of a slow update."""

    def examples(self, batch_size):
        return batch_size

    def prepare(self, threads):
        """Warm up by at least 20 updates, or 4 of a slow one, and time about 4 ms of updates in each sample."""
        seconds = update_seconds(self.timed, threads, min_run_time_s=0)
        slow = seconds > 0.05
        self.timed.updates(0 if slow else 20)
        self.number = max(1, min(20, round(0.004 / seconds)))
        self.repeat = 2 if slow else 15

    def time_update(self, threads, batch_size, backend, arm):
        self.timed.updates(1)


class _HundredUpdates(_Timed):
    repeat = 3
    number = 1

    def prepare(self, threads):
        self.timed.updates(20)

    def time_hundred_updates(self, threads, batch_size, backend, arm):
        self.timed.updates(100)


_workload = timed_workload()
globals()[_workload.name] = benchmark_of(_workload, _Update)
globals()[f"{_workload.name}_throughput"] = benchmark_of(
    _workload, _HundredUpdates, backends=["cuda"], arms=["resident"]
)
