"""An update in an ensemble against the same update by the plain loop: seconds of each, in turns in one process.

On random examples in the shapes of digits and MNIST. `python -m benchmarks.ensemble` prints the whole table, beside
the rates at which this machine copies and multiplies matrices.
"""

import os
from functools import cache

import numpy as np
import torch
from torch.utils.benchmark import Timer

from suite.backends import CPU
from suite.training.ensemble import Ensemble
from suite.training.packing import parameter_count, replicas_per_call
from suite.training.update import update
from suite.workloads import find

SHAPES = {"digits": (1437, 64, 64), "mnist": (60_000, 784, 32)}
"""Number of examples, values of each, and number of replicas."""
ROUNDS = 7


@cache
def seconds(network: str, batch_size: int) -> dict[str, float]:
    """Medians of `plain` and `ensemble`, seconds of one replica's update, of their `ratio`, and the number of
    replicas `together`. The plain loop runs on the faster of one thread and all threads, the ensemble on all."""
    examples, values, replicas = SHAPES[network]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(examples, values, generator=generator)
    targets = torch.randint(10, (examples,), generator=generator)
    workload = find(network)
    together = replicas_per_call(replicas, parameter_count(workload), batch_size)
    order = [torch.randperm(examples, generator=generator)[:batch_size] for _ in range(together)]
    indices = torch.stack(order)
    ensemble = Ensemble(workload, range(together), 0.01)
    ensemble.compile(inputs, targets, batch_size)
    model = workload.initial_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def plain_update():
        update(CPU, model, workload.loss, optimizer, inputs[order[0]], targets[order[0]])

    def ensemble_update():
        ensemble.update(inputs, targets, indices)

    cores = os.cpu_count() or 1
    timers = {
        "plain": [Timer("f()", globals={"f": plain_update}, num_threads=threads) for threads in {1, cores}],
        "ensemble": [Timer("f()", globals={"f": ensemble_update}, num_threads=cores)],
    }
    rounds = [
        {
            name: min(timer.blocked_autorange(min_run_time=0.1).median for timer in each)
            for name, each in timers.items()
        }
        for _ in range(ROUNDS)
    ]
    plain = np.array([times["plain"] for times in rounds])
    per_replica = np.array([times["ensemble"] for times in rounds]) / together
    return {
        "plain": float(np.median(plain)),
        "ensemble": float(np.median(per_replica)),
        "ratio": float(np.median(plain / per_replica)),
        "together": together,
    }


class Update:
    """One replica's update."""

    version = "1"
    params = (["digits", "mnist"], [1, 32, 1000])
    param_names = ("network", "batch_size")
    timeout = 600

    def track_in_ensemble_over_plain(self, network, batch_size):
        """Lower is better."""
        return 1 / seconds(network, batch_size)["ratio"]

    track_in_ensemble_over_plain.unit = "ensemble / plain"


def copied_bytes_per_second(size: int = 2**24) -> float:
    """Bytes that a copy of `size` float32 values reads and writes per second, on all cores."""
    source = torch.rand(size)
    target = torch.empty_like(source)
    timer = Timer("target.copy_(source)", globals=locals(), num_threads=os.cpu_count() or 1)
    return 8 * size / timer.blocked_autorange(min_run_time=0.5).median


def multiplied_operations_per_second(size: int = 2048) -> float:
    """Additions and multiplications per second of a float32 matrix product, on all cores."""
    matrix = torch.rand(size, size)
    timer = Timer("matrix @ matrix", globals=locals(), num_threads=os.cpu_count() or 1)
    return 2 * size**3 / timer.blocked_autorange(min_run_time=0.5).median


def print_table() -> None:
    copied, multiplied = copied_bytes_per_second(), multiplied_operations_per_second()
    cached = copied_bytes_per_second(2**18)
    rates = f"copy {copied / 1e9:.0f} GB/s (1 MiB, in the cache: {cached / 1e9:.0f})"
    print(f"{rates}, products {multiplied / 1e9:.0f} GFLOP/s")
    print("network batch replicas |  plain us  ensemble us  ratio | of the products' rate, GB/s of parameters")
    for network, batch_sizes in (("digits", (1, 4, 32, 256, 1437)), ("mnist", (1, 10, 100, 1000, 10_000, 60_000))):
        parameters = parameter_count(find(network))
        first_layer = next(find(network).initial_model(0).parameters()).numel()
        for batch_size in batch_sizes:
            medians = seconds(network, batch_size)
            # Forward 2 operations a parameter and example; backward 4, but 2 in the first layer.
            operations = batch_size * (6 * parameters - 2 * first_layer) / medians["ensemble"]
            moved = 12 * parameters / medians["ensemble"]  # read forward; read and written by the step
            print(
                f"{network:7} {batch_size:5} {medians['together']:8} | {medians['plain'] * 1e6:9.1f} "
                f"{medians['ensemble'] * 1e6:12.2f} {medians['ratio']:6.2f} | {operations / multiplied:6.0%} "
                f"{moved / 1e9:8.1f}"
            )


if __name__ == "__main__":
    print_table()
