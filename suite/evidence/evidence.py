"""The stored rows of the cells that a claim or a study reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from suite.evidence.facts import Facts
from suite.status import Status

ALWAYS_PRESENT = (
    "status",
    "reason",
    "process",
    "time_s",
    "reference_s",
    "seed",
    "stage",
    "relative_noise",
    "updates",
    "epoch",
    "train_loss",
)
"""Columns by which rows are selected: present, and empty, even where no cell could be measured."""


@dataclass(frozen=True)
class Evidence:
    """Stored rows, with the facts about their workload.

    A cell that could not be measured is a row with its `status` and `reason`, and nothing else.
    """

    facts: Facts
    rows: pd.DataFrame

    @classmethod
    def from_frames(cls, facts: Facts, frames: Sequence[pd.DataFrame]) -> Evidence:
        """From the rows of each cell."""
        rows = pd.concat(frames, ignore_index=True)
        return cls(facts, rows.reindex(columns=dict.fromkeys([*rows, *ALWAYS_PRESENT])))

    def of(self, measurement: str) -> pd.DataFrame:
        """The rows of `measurement`, whatever their status."""
        return self.rows[self.rows["measurement"] == measurement]

    def ok(self, measurement: str | None = None) -> pd.DataFrame:
        """The rows that hold a value: all of them, or those of `measurement`."""
        rows = self.rows if measurement is None else self.of(measurement)
        return rows[rows["status"] == Status.OK]


def backend_of(rows: pd.DataFrame) -> str:
    """The one backend on which `rows` were measured."""
    (backend,) = rows["backend"].unique()
    return backend
