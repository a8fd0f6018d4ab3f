"""The base of the update and the epoch benchmarks: their parameters, and a set-up that is made once."""

import functools
import os
import sys

import torch

from suite.backends import BACKENDS, CPU, SEQUENTIAL
from suite.experiments.cell import DATALOADER, RESIDENT
from suite.timing.quick_timings import fastest_threads, measure_threads, sequential_example_seconds
from suite.timing.reference_update import ReferenceTimes
from suite.timing.settings import TimingSettings, benchmark_name
from suite.timing.timed import Timed, load
from suite.workloads import Workload, find
from suite.workloads.load import load_once

if "run_server" in sys.argv:  # asv's fork server: torch.optim has every process import this, for two seconds
    import torch._dynamo


WARM_UP = 3
"""Updates between a reference and the next sample, which would otherwise begin with cold caches: an update of 64
examples by AdamW took 495 µs without them, and 458 µs with."""


def settings() -> TimingSettings:
    """The settings of this process, read from its environment at each call: those of a fork server's children differ
    from the server's own."""
    return TimingSettings.of(os.environ)


WORKLOAD, THREADS = find(settings().workload), settings().threads
"""Where no number of threads is set, a setup_cache measures it in a process of its own; asv then passes it to every
method as the first argument."""


def measured_threads() -> int:
    """The number of threads that suits the CPU."""
    return fastest_threads(measure_threads(WORKLOAD, load_once(WORKLOAD)))


def setup_once(setup):
    """Call `setup` at the first of asv's calls for a parameter set only: asv calls it before every timed call.

    `setup` gets the number of threads first, measured by a setup_cache or set. Two calls per sample time the
    reference update, interleaved with asv's own timing.
    """

    @functools.wraps(setup)
    def once(self, *parameters):
        if getattr(self, "_set_up_for", None) != parameters:
            setup(self, *([] if THREADS is None else [THREADS]), *parameters)
            self._set_up_for, self._calls = parameters, 0
        if self._calls % max(1, self.number // 2) == 0:
            self.references.take(self.reference_run_time_s)
            self.timed.updates(min(WARM_UP, self.number))
        self._calls += 1

    return once


class _Timed:
    """A workload's benchmark over batch size, backend and input pipeline; each combination in a new process."""

    version = "2"
    param_names = ("batch_size", "backend", "input_pipeline")
    rounds = 6
    warmup_time = 0
    timeout = 600
    sequential_limit_s = 1.0
    reference_run_time_s = 0
    references = None
    """None where setup declines: asv calls teardown all the same."""
    expected_s = None
    """Expected seconds of the timed call, where they are known: on `sequential`."""

    @setup_once
    def setup(self, threads, batch_size, backend, input_pipeline):
        chosen = BACKENDS[backend]
        if reason := chosen.unavailable():
            raise NotImplementedError(reason)
        torch.set_num_threads(threads if chosen is CPU else 1)
        self.data = load(self.workload, settings().data)
        if chosen is SEQUENTIAL:
            if input_pipeline == DATALOADER:
                raise NotImplementedError("the DataLoader feeds backends that take the whole batch at once")
            self.expected_s = self.sequential_seconds(batch_size)
            if self.expected_s > self.sequential_limit_s:
                raise NotImplementedError(f"sequential would take over {self.sequential_limit_s:g} s")
        self.timed = Timed(self.workload, self.data, chosen, input_pipeline, batch_size)
        self.prepare(threads)
        parameters = [batch_size, backend, input_pipeline]
        self.references = ReferenceTimes(
            self.workload, self.data, chosen, parameters, self.repeat, settings().references
        )

    def sequential_seconds(self, batch_size):
        """Expected seconds on `sequential`, which takes a fixed time per example."""
        return self.examples(batch_size) * sequential_example_seconds(self.workload, self.data)


def benchmark_of(
    workload: Workload, base: type, backends=tuple(BACKENDS), input_pipelines=(RESIDENT, DATALOADER)
) -> type:
    """The class that asv times for `workload`, with a benchmark name of its own, and so a history of its own."""
    params = [list(workload.batch_sizes), list(backends), list(input_pipelines)]
    return type(
        benchmark_name(workload.name),
        (base,),
        {"workload": workload, "params": params, "__module__": base.__module__},
    )
