"""Seconds of one epoch over batch size, on every backend, with resident data and through a DataLoader."""

from benchmarks.timed import THREADS, WORKLOAD, _Timed, benchmark_of, measured_threads
from suite.backends import SEQUENTIAL
from suite.timing.settings import benchmark_name

if THREADS is None:

    def setup_cache():
        return measured_threads()


class _Epoch(_Timed):
    """One epoch in each process: processes differ by more than the epochs of one process."""

    repeat = 1
    number = 1
    sequential_limit_s = 5.0
    reference_run_time_s = 0.02

    def examples(self, batch_size):
        return len(self.data.train_inputs)

    def prepare(self, threads):
        self.timed.updates(20 if self.timed.backend is not SEQUENTIAL else 1)

    def teardown(self, *parameters):
        """Time the reference for long after the one epoch of a process, as before it."""
        if self.references is not None:
            self.references.take(self.reference_run_time_s)

    def time_epoch(self, *parameters):
        self.timed.epoch()


globals()[benchmark_name(WORKLOAD.name)] = benchmark_of(WORKLOAD, _Epoch)
