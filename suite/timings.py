"""What asv times: one update, and one epoch, with everything made and warmed beforehand.

The benchmarks hold the parameters and asv the clock; here is only what stands between two readings.
"""

import itertools
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from suite.backends import CPU, Backend
from suite.cells import Measurement
from suite.training.epoch import Batch, epoch, loader_batches, resident_batches
from suite.training.update import update
from suite.workloads import Data, Workload

UPDATE_TIME = Measurement("update_time", version=3, timed=True)
EPOCH_TIME = Measurement("epoch_time", version=4, timed=True)


DATA_VARIABLE = "SUITE_DATA"
"""A file with the data to time with, so that not every process has to make it anew; where it is not set, as in a
plain `asv run`, the workload loads it."""


def save(data: Data, file: Path) -> None:
    """Write what `load` reads."""
    torch.save(vars(data), file)


@cache
def load(workload: Workload) -> Data:
    """The split of replica 0, loaded once in a process."""
    if file := os.environ.get(DATA_VARIABLE):
        return Data(**torch.load(file))
    return workload.replica_data(workload.load(), 0)


class Timed:
    """A model on a backend, with the batches it is fed. Its methods are what is timed.

    By the input pipeline `resident` an update gets a batch that already lies on the device; by `dataloader` it
    first fetches one through the DataLoader. An epoch shuffles and fetches its batches by both.
    """

    def __init__(self, workload: Workload, backend: Backend, input_pipeline: str, batch_size: int, threads: int = 1):
        torch.set_num_threads(threads if backend is CPU else 1)
        self.workload, self.backend = workload, backend
        self.input_pipeline, self.batch_size = input_pipeline, batch_size
        self.data = load(workload)
        if input_pipeline == "resident":
            self.data = self.data.to(backend.device.torch_device)
        self.generator = workload.generator("timing", batch_size)
        self.model = workload.initial_model(0).to(backend.device.torch_device)
        self.optimizer = workload.optimizer.make(self.model, workload.learning_rate)
        self.fed = itertools.repeat(next(self.batches())) if input_pipeline == "resident" else self.full_batches()

    def batches(self) -> Iterator[Batch]:
        """The batches of one epoch."""
        examples = (self.data.train_inputs, self.data.train_targets)
        if self.input_pipeline == "resident":
            return resident_batches(*examples, self.batch_size, self.generator)
        return loader_batches(*examples, self.batch_size, self.generator, self.backend.device.torch_device)

    def full_batches(self) -> Iterator[Batch]:
        """Batches of `batch_size` without end, epoch after epoch."""
        while True:
            yield from (batch for batch in self.batches() if len(batch[0]) == self.batch_size)

    def updates(self, count: int) -> None:
        """`count` updates, each with its own batch, then one wait for the device."""
        for _ in range(count):
            inputs, targets = next(self.fed)
            update(self.backend, self.model, self.workload.loss, self.optimizer, inputs, targets)
        self.backend.device.synchronize()

    def epoch(self) -> None:
        """Shuffle, then one update from each batch, and wait for the device."""
        epoch(self.backend, self.model, self.workload.loss, self.optimizer, self.batches())
        self.backend.device.synchronize()
