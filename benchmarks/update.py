"""Seconds of one update over batch size, on every backend, with resident data and through a DataLoader.

On an accelerator also a hundred updates with one wait at the end: their time shows throughput, that of one update
latency.
"""

from benchmarks.timed import THREADS, WORKLOAD, _Timed, benchmark_of, measured_threads
from suite.backends import ACCELERATORS
from suite.experiments.cell import RESIDENT
from suite.timing.quick_timings import update_seconds
from suite.timing.settings import benchmark_name

if THREADS is None:

    def setup_cache():
        return measured_threads()


class _Update(_Timed):
    """Many short samples, so that a disturbance hardly moves their median; few of a slow update."""

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


globals()[benchmark_name(WORKLOAD.name)] = benchmark_of(WORKLOAD, _Update)
globals()[f"{benchmark_name(WORKLOAD.name)}_throughput"] = benchmark_of(
    WORKLOAD, _HundredUpdates, backends=[backend.name for backend in ACCELERATORS], input_pipelines=[RESIDENT]
)
