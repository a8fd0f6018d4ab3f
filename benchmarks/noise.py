"""The pass that computes the covariance of all gradients against one that computes the mean gradient alone: seconds
of each, in turns in one process, and memory, on random examples in the shapes of MNIST and CIFAR-10.

`python -m benchmarks.noise` prints the table, with `torch.func.vmap(grad)` beside it, and BackPACK where it is
installed.
"""

import importlib.util
import os
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from suite.instruments.gradient_pass import examples_at_once, gradient_statistics, trusted_layers, vectorised_sums
from suite.workloads import find

SHAPES = {"mnist": (20_000, (784,)), "cifar10": (2_000, (3, 32, 32))}
"""Number of examples, and the shape of one."""
CHUNKS = (64, 1000)
"""Chunk sizes of the plain pass, of which the faster counts."""
ROUNDS = 7


class Passes:
    """The passes over one network's examples."""

    def __init__(self, network: str):
        examples, shape = SHAPES[network]
        generator = torch.Generator().manual_seed(0)
        self.workload = find(network)
        self.inputs = torch.rand(examples, *shape, generator=generator)
        self.targets = torch.randint(10, (examples,), generator=generator)
        self.model = self.workload.initial_model(0).eval()

    def plain(self, chunk: int) -> None:
        """The gradient of the summed loss, and nothing else."""
        self.model.zero_grad()
        for inputs, targets in zip(self.inputs.split(chunk), self.targets.split(chunk), strict=True):
            self.workload.loss(self.model(inputs), targets).sum().backward()

    def covariance(self) -> None:
        gradient_statistics(self.model, self.workload.loss, self.inputs, self.targets)

    def examples_at_once(self) -> int:
        """The size of the chunks that the covariance pass takes."""
        model, loss, trial = self.model, self.workload.loss, (self.inputs[:3], self.targets[:3])
        return examples_at_once(model, trusted_layers(model, loss, *trial), self.inputs[:1])

    def vectorised(self) -> None:
        """Every example's gradient by torch.func, of a twentieth of the examples."""
        count = len(self.inputs) // 20
        parameters = dict(self.model.named_parameters())
        vectorised_sums(self.model, parameters, self.workload.loss, self.inputs[:count], self.targets[:count])


def seconds(function: Callable[[], None]) -> float:
    timer = Timer("function()", globals={"function": function}, num_threads=os.cpu_count() or 1)
    return timer.blocked_autorange(min_run_time=0.2).median


def peak_bytes(function: Callable[[], None]) -> int:
    """The most bytes that `function` has allocated for tensors at once: the largest sum of allocations and releases
    in the order of torch's profiler."""
    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    return int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())


@cache
def memory_over_plain(network: str) -> float:
    """Ratio of the two passes' peak bytes, both taking as many examples at once."""
    passes = Passes(network)
    plain = peak_bytes(partial(passes.plain, passes.examples_at_once()))
    return peak_bytes(passes.covariance) / plain


@cache
def covariance_over_plain(network: str) -> float:
    """Median over rounds of the ratio of the two passes' seconds."""
    passes = Passes(network)
    plain = [partial(passes.plain, chunk) for chunk in CHUNKS]
    return float(np.median([seconds(passes.covariance) / min(map(seconds, plain)) for _ in range(ROUNDS)]))


class Covariance:
    version = "1"
    params = tuple(SHAPES)
    param_names = ("network",)
    timeout = 600

    def track_covariance_over_plain(self, network):
        return covariance_over_plain(network)

    track_covariance_over_plain.unit = "covariance pass / plain pass"

    def track_memory_over_plain(self, network):
        return memory_over_plain(network)

    track_memory_over_plain.unit = "peak bytes, covariance pass / plain pass"


def backpack_over_plain(network: str) -> float:
    """BackPACK's batch-L2 pass, which gives each example's squared norms, over a plain one."""
    from backpack import backpack, extend, extensions

    passes = Passes(network)
    model, loss = extend(passes.model), extend(torch.nn.CrossEntropyLoss(reduction="sum"))

    def batch_l2(chunk: int = 1000 if network == "mnist" else 64) -> None:
        model.zero_grad()
        for inputs, targets in zip(passes.inputs.split(chunk), passes.targets.split(chunk), strict=True):
            with backpack(extensions.BatchL2Grad()):
                loss(model(inputs), targets).backward()

    plain = [partial(passes.plain, chunk) for chunk in CHUNKS]
    return float(np.median([seconds(batch_l2) / min(map(seconds, plain)) for _ in range(ROUNDS)]))


def print_table() -> None:
    print("network  covariance / plain  its memory / plain  vmap(grad) / plain  BackPACK's batch L2 / plain")
    for network in SHAPES:
        passes = Passes(network)
        plain = min(seconds(partial(passes.plain, chunk)) for chunk in CHUNKS)
        vectorised = 20 * seconds(passes.vectorised) / plain
        backpack = f"{backpack_over_plain(network):.2f}" if importlib.util.find_spec("backpack") else "not installed"
        ratios = f"{covariance_over_plain(network):18.2f} {memory_over_plain(network):18.2f}"
        print(f"{network:8} {ratios} {vectorised:19.3g} {backpack:>28}")


if __name__ == "__main__":
    print_table()
