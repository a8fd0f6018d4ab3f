"""A cell: one measurement x workload x backend x protocol x batch size, the unit that is stored."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from suite.devices import Device
    from suite.optimizers import Optimizer
    from suite.training.protocol import Protocol
    from suite.workloads import Data, Workload

KEY_VERSION = 2
"""Version of `key_fields`; version 1 hashed names of the code."""
RESIDENT, DATALOADER = "resident", "dataloader"
NO_BATCH_SIZE = 0
"""The batch size of a cell whose measurement is of none, such as a property of all examples."""


def key_of(fields: dict) -> str:
    """Hash of `Cell.key_fields`: the name of a cell's file."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:20]


Measure = Callable[["Workload", "Data", "Cell"], "pd.DataFrame"]


@dataclass(frozen=True)
class Measurement:
    """Something that can be measured, and how: a function of this project, or a benchmark of asv's."""

    name: str
    version: int
    """Bumped by hand when the meaning of the measured value changes: old cells are then measured anew."""
    measure: Measure | None = None
    """Makes a cell's tidy rows. None when asv measures it."""
    timed: bool = False
    """Whether it is a timing: never taken beside other work, and never twice the same."""
    trains: bool = False
    """Whether it trains its replicas by the engine asked for, as ensembles where they fit."""


@dataclass(frozen=True)
class Cell:
    measurement: Measurement
    workload: str
    """The workload's name."""
    backend: str
    batch_size: int
    repeats: int
    """Replicas 0 ... repeats - 1 of a training, or fresh processes of a timing."""
    protocol: Protocol | None = None
    optimizer: Optimizer | None = None
    """What a timed update steps with; a training's is in its protocol."""
    input_pipeline: str = RESIDENT
    """How batches are fed: from data that is RESIDENT on the device, or through a DATALOADER."""
    replicas_per_call: int = 1
    """How many replicas one update trains in lockstep, as an ensemble; 1 where they are trained plainly."""
    compared_with: int = NO_BATCH_SIZE
    """The other batch size, where a cell is of two."""
    batch_sizes: tuple[int, ...] = ()
    """All of them, where a cell goes through several."""

    @property
    def engine(self) -> str:
        return "plain" if self.replicas_per_call == 1 else "ensemble"

    def describe(self) -> dict:
        """What the cell is, in plain values: the columns that each of its rows gets."""
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
        """What determines the cell's value, in plain names and numbers.

        `fingerprint` and `base_seed` are the workload's. A timing depends on the model of the `device` that it runs
        on, and a training on the device's kind alone: "none" where there is no such device, so that what could not
        be measured here is measured once there is one.
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
    """How much of a workload to measure."""

    batch_sizes: tuple[int, ...]
    coarse_batch_sizes: tuple[int, ...]
    """Those of `batch_sizes` that are enough for what is slow and for what stands beside a claim."""
    training_batch_sizes: tuple[int, ...]
    """Those of `batch_sizes` that are trained with."""
    seeds: int
    """Replicas of each training."""
    processes: int
    """Fresh processes of each timing."""
    backends: tuple[str, ...]
    training_backend: str
    """The backend of trainings and of what is read off them; toys and *Movement* stay on the CPU."""
    factorial: bool = False
    """Whether Small and Large are compared by every learning-rate rule with every budget."""
