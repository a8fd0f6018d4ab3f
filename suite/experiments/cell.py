"""A cell: one measurement × workload × backend × protocol × batch size, the unit of storage."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from suite.devices import Device
from suite.experiments.columns import Columns
from suite.optimizers import Optimizer
from suite.training.protocol import Protocol
from suite.workloads import Data, Workload

KEY_VERSION = 2
"""Version of `key_fields`; version 1 hashed names of the code."""
RESIDENT, DATALOADER = "resident", "dataloader"
NO_BATCH_SIZE = 0
"""The batch size of a cell whose measurement has none, such as a property of all examples."""


def key_of(fields: dict) -> str:
    """Hash of `Cell.key_fields`: the name of a cell's file."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:20]


Measure = Callable[[Workload, Data, "Cell"], pd.DataFrame]


@dataclass(frozen=True)
class Measurement:
    """A quantity, with the function that measures it; without one where it is a benchmark of asv's."""

    name: str
    version: int
    """Raised by hand when the meaning of the value changes: stored cells are then measured again."""
    columns: Columns = field(hash=False)
    """Of a cell's rows, without those that describe the cell."""
    measure: Measure | None = None
    """Returns a cell's tidy rows. None where asv measures it."""
    timed: bool = False
    """Whether it is a timing: never taken beside other work, and never the same twice."""
    trains: bool = False
    """Whether it trains its replicas by the engine that the user chooses, as ensembles where they fit."""


@dataclass(frozen=True)
class Cell:
    measurement: Measurement
    workload: str
    """The workload's name."""
    backend: str
    batch_size: int
    repeats: int
    """Replicas 0 ... repeats − 1 of a training, or processes of a timing."""
    protocol: Protocol | None = None
    optimizer: Optimizer | None = None
    """The optimizer of a timed update; that of a training is in its protocol."""
    input_pipeline: str = RESIDENT
    """RESIDENT, batches from data that lies on the device, or DATALOADER, batches through torch's DataLoader."""
    replicas_per_call: int = 1
    """Replicas that one call updates in lockstep, as an ensemble; 1 where they are trained one after another."""
    compared_with: int = NO_BATCH_SIZE
    """The second batch size of a cell that compares two."""
    batch_sizes: tuple[int, ...] = ()
    """All batch sizes of a cell that goes through several."""

    @property
    def is_ensemble(self) -> bool:
        return self.replicas_per_call > 1

    def describe(self) -> dict:
        """The columns that each of the cell's rows gets: plain values."""
        return {
            "measurement": self.measurement.name,
            "workload": self.workload,
            "backend": self.backend,
            "protocol": "" if self.protocol is None else self.protocol.key,
            "learning_rate": math.nan if self.protocol is None else self.protocol.learning_rate,
            "input_pipeline": self.input_pipeline,
            "batch_size": self.batch_size,
        }

    def key_fields(self, fingerprint: str, device: Device, base_seed: int) -> dict:
        """Everything that determines the cell's value, as plain names and numbers.

        `fingerprint` and `base_seed` are the workload's. A timing depends on the model of the `device` that it runs
        on, and a training on the device's kind alone: "none" where there is no such device, so that a cell that could
        not be measured here is measured once there is one.
        """
        kind = "none" if device.unavailable() else device.type
        fields = {
            "version": KEY_VERSION,
            "measurement": self.measurement.name,
            "measurement_version": self.measurement.version,
            "fingerprint": fingerprint,
            "backend": self.backend,
            "batch_size": self.batch_size,
            "repeats": self.repeats,
            "dtype": "float32",
        }
        if self.measurement.timed:
            fields |= {"device": device.name(), "input_pipeline": self.input_pipeline}
        else:
            fields |= {"device": kind, "base_seed": base_seed, "replicas_per_call": self.replicas_per_call}
        if self.optimizer is not None:
            fields["optimizer"] = self.optimizer.key_fields()
        if self.protocol is not None:
            fields["protocol"] = self.protocol.key_fields()
        if self.compared_with != NO_BATCH_SIZE:
            fields["compared_with"] = self.compared_with
        if self.batch_sizes:
            fields["batch_sizes"] = list(self.batch_sizes)
        return fields

    def __str__(self) -> str:
        parts = [self.measurement.name, self.workload, self.backend]
        if self.measurement.timed:
            parts.append(self.input_pipeline)
        if self.protocol is not None:
            parts.append(str(self.protocol))
        if self.batch_size != NO_BATCH_SIZE:
            parts.append(f"batch size {self.batch_size}")
        return " · ".join(parts)


@dataclass(frozen=True)
class Scope:
    """The part of a workload to measure."""

    batch_sizes: tuple[int, ...]
    coarse_batch_sizes: tuple[int, ...]
    """Those of `batch_sizes` that slow measurements and studies use."""
    training_batch_sizes: tuple[int, ...]
    """Those of `batch_sizes` that trainings use."""
    seeds: int
    """Replicas of each training."""
    processes: int
    """Processes of each timing."""
    backends: tuple[str, ...]
    training_backend: str
    """The backend of trainings and of measurements on trained models; toys and *Movement* stay on the CPU."""
    factorial: bool = False
    """Whether Small and Large are compared by every learning-rate rule with every budget."""
