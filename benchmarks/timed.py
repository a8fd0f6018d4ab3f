"""What the update and the epoch benchmarks share: their parameters, and a set-up that is made once."""

import functools
import os
import sys

import torch

from suite.backends import BACKENDS, CPU, SEQUENTIAL
from suite.quick_timings import fastest_threads, measure_threads, sequential_example_seconds
from suite.reference import ReferenceTimes
from suite.timings import Timed, load
from suite.workloads import Workload, find

if "run_server" in sys.argv:  # asv's fork server: torch.optim has every process import this, for two seconds
    import torch._dynamo


WARM_UP = 3
"""Updates between a reference and the next sample, which would otherwise begin with cold caches: an update of 64
examples by AdamW took 495 µs without them, and 458 µs with."""


def timed_workload() -> Workload:
    """The workload that SUITE_WORKLOAD names, by name or path; digits when it is not set."""
    return find(os.environ.get("SUITE_WORKLOAD", "digits"))


THREADS = os.environ.get("SUITE_THREADS")
"""How many threads suit the CPU, where `suite run` says so. Else a setup_cache measures it, in a process of its own;
asv then hands it to every method as a first argument."""


def measured_threads() -> int:
    workload = timed_workload()
    return fastest_threads(measure_threads(workload, load(workload)))


def setup_once(setup):
    """asv calls setup before every timed call: let only the first call of a parameter set do anything.

    `setup` gets the number of threads first, measured by a setup_cache or told. Two calls for each sample time the
    reference update, interleaved with what asv times.
    """

    @functools.wraps(setup)
    def once(self, *parameters):
        if getattr(self, "_set_up_for", None) != parameters:
            setup(self, *([] if THREADS is None else [int(THREADS)]), *parameters)
            self._set_up_for, self._calls = parameters, 0
        if self._calls % max(1, self.number // 2) == 0:
            self.references.take(self.reference_run_time_s)
            self.timed.updates(min(WARM_UP, self.number))
        self._calls += 1

    return once


class _Timed:
    """One workload's benchmark over batch size, backend and input pipeline; a fresh process for each combination."""

    version = "2"
    param_names = ("batch_size", "backend", "input_pipeline")
    rounds = 6
    warmup_time = 0
    timeout = 600
    sequential_limit_s = 1.0
    reference_run_time_s = 0
    references = None
    """Stays None where setup declines: asv calls teardown all the same."""

    @setup_once
    def setup(self, threads, batch_size, backend, input_pipeline):
        chosen = BACKENDS[backend]
        if reason := chosen.unavailable():
            raise NotImplementedError(reason)
        if chosen is SEQUENTIAL:
            if input_pipeline == "dataloader":
                raise NotImplementedError("the DataLoader feeds backends that take the whole batch at once")
            self.expected_s = self.sequential_seconds(batch_size)
            if self.expected_s > self.sequential_limit_s:
                raise NotImplementedError(f"sequential would take over {self.sequential_limit_s:g} s")
        self.timed = Timed(self.workload, chosen, input_pipeline, batch_size, threads)
        self.prepare(threads)
        self.references = ReferenceTimes(self.workload, chosen, [batch_size, backend, input_pipeline], self.repeat)
        torch.set_num_threads(threads if chosen is CPU else 1)

    expected_s = None
    """Of what is timed, where it is known beforehand: on `sequential`."""

    def sequential_seconds(self, batch_size):
        """Expected time on `sequential`, which takes a fixed time for each example."""
        return self.examples(batch_size) * sequential_example_seconds(self.workload)


def benchmark_of(
    workload: Workload, base: type, backends=tuple(BACKENDS), input_pipelines=("resident", "dataloader")
) -> type:
    """The class that asv times for `workload`: a benchmark name of its own, whose history stays its own."""
    params = [list(workload.batch_sizes), list(backends), list(input_pipelines)]
    return type(workload.name, (base,), {"workload": workload, "params": params, "__module__": base.__module__})
