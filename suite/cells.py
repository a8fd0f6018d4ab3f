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

    from suite.training.protocol import Protocol
    from suite.workloads import Data, Workload

NO_BATCH_SIZE = 0
"""The batch size of a cell whose measurement is of none, such as a property of all examples."""

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
    arm: str = "resident"
    """How batches are fed: `resident` on the device, or through a `loader`."""
    replicas_per_call: int = 1
    """How many replicas one update trains in lockstep, as an ensemble; 1 where they are trained plainly."""
    compared_with: int = NO_BATCH_SIZE
    """The other batch size, where a cell is of two."""

    @property
    def engine(self) -> str:
        return "plain" if self.replicas_per_call == 1 else "ensemble"

    def describe(self) -> dict:
        """What the cell is, in plain values: the columns that each of its rows gets."""
        return {
            "measurement": self.measurement.name,
            "workload": self.workload,
            "backend": self.backend,
            "protocol": "" if self.protocol is None else str(self.protocol),
            "learning_rate": math.nan if self.protocol is None else self.protocol.learning_rate,
            "arm": self.arm,
            "batch_size": self.batch_size,
        }

    def key(self, fingerprint: str, device: str, base_seed: int) -> str:
        """Hash of everything that determines the cell's value; its file name.

        `fingerprint` is the workload's, `device` the model of the processor or GPU it runs on.
        """
        determines = {
            "measurement": self.measurement.name,
            "version": self.measurement.version,
            "backend": self.backend,
            "arm": self.arm,
            "batch_size": self.batch_size,
            "protocol": None if self.protocol is None else repr(self.protocol),
            "repeats": self.repeats,
            "base_seed": base_seed,
            "engine": self.engine,
            "replicas_per_call": self.replicas_per_call,
            "dtype": "float32",
            "fingerprint": fingerprint,
            "device": device,
        }
        if self.compared_with != NO_BATCH_SIZE:
            determines["compared_with"] = self.compared_with
        return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()[:20]

    def __str__(self) -> str:
        parts = [self.measurement.name, self.workload, self.backend]
        if self.measurement.timed:
            parts.append(self.arm)
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
    factorial: bool = False
    """Whether Small and Large are compared by every learning-rate rule with every budget."""
