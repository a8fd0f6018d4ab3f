"""A model with its batches, made and warmed beforehand: the update and the epoch that asv times.

The benchmarks hold the parameters and asv the clock; here is only the work between two readings of it.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from suite.backends import Backend
from suite.experiments.cell import RESIDENT, Measurement
from suite.experiments.columns import COUNT, POSITIVE_OR_ZERO
from suite.training.epoch import Batch, epoch, loader_batches, resident_batches
from suite.training.update import update
from suite.workloads import Data, Workload
from suite.workloads.load import load_once

SAMPLES = {
    **dict.fromkeys(("process", "sample", "threads"), COUNT),
    **dict.fromkeys(("time_s", "reference_s"), POSITIVE_OR_ZERO),
}

UPDATE_TIME = Measurement("update_time", version=3, columns=SAMPLES, timed=True)
EPOCH_TIME = Measurement("epoch_time", version=4, columns=SAMPLES, timed=True)


def save(data: Data, file: Path) -> None:
    """Write `data` for `load`."""
    torch.save(vars(data), file)


@cache
def load(workload: Workload, file: Path | None = None) -> Data:
    """The split of replica 0, read once in a process: from `file`, where one was saved, or from the workload."""
    if file:
        return Data(**torch.load(file))
    return workload.replica_data(load_once(workload), 0)


class Timed:
    """A model on a backend, with its batches from `data`, which is already split. Its methods are the timed work.

    By the input pipeline `resident` an update gets a batch that already lies on the device; by `dataloader` it first
    fetches one through the DataLoader. An epoch shuffles and fetches its batches by both.
    """

    def __init__(self, workload: Workload, data: Data, backend: Backend, input_pipeline: str, batch_size: int):
        self.workload, self.backend = workload, backend
        self.input_pipeline, self.batch_size = input_pipeline, batch_size
        device = backend.device.torch_device
        self.data = data.to(device) if input_pipeline == RESIDENT else data
        self.generator = workload.generator("timing", batch_size)
        self.model = workload.initial_model(0).to(device)
        self.optimizer = workload.optimizer.make(self.model, workload.learning_rate)
        self.next_batches = (
            itertools.repeat(next(self.batches())) if input_pipeline == RESIDENT else self.full_batches()
        )

    def batches(self) -> Iterator[Batch]:
        """The batches of one epoch."""
        examples = (self.data.train_inputs, self.data.train_targets)
        if self.input_pipeline == RESIDENT:
            return resident_batches(*examples, self.batch_size, self.generator)
        return loader_batches(*examples, self.batch_size, self.generator, self.backend.device.torch_device)

    def full_batches(self) -> Iterator[Batch]:
        """Batches of `batch_size` without end, epoch after epoch."""
        while True:
            yield from (batch for batch in self.batches() if len(batch[0]) == self.batch_size)

    def updates(self, count: int) -> None:
        """Make `count` updates, each with its own batch, then wait once for the device."""
        for _ in range(count):
            inputs, targets = next(self.next_batches)
            update(self.backend, self.model, self.workload.loss, self.optimizer, inputs, targets)
        self.backend.device.synchronize()

    def epoch(self) -> None:
        """Shuffle, make one update from each batch, and wait for the device."""
        epoch(self.backend, self.model, self.workload.loss, self.optimizer, self.batches())
        self.backend.device.synchronize()
