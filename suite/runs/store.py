"""Tidy tables on disk: one Parquet file per cell, and a manifest of the cells that each claim and study reads.

A file is written under a temporary name and renamed, so that a file with a cell's key is complete.
"""

import os
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from suite.errors import UserError
from suite.experiments.cell import Cell, key_of
from suite.runs import cell_file, manifest
from suite.runs.cell_file import Damaged
from suite.runs.cell_rows import to_table
from suite.runs.files import exists, read_bytes, replace_whole, writing


class Results:
    """The results folder: `cells/KEY.parquet`, `manifest.json`, `report/`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cells = folder / "cells"
        self.manifest_file = folder / "manifest.json"
        self.report = folder / "report"

    def writing(self):
        """Raise UserError where the folder cannot be written."""
        return writing(self.folder)

    @contextmanager
    def locked(self):
        """Hold the folder for one run. The kernel lets go of the lock when the run dies.

        Raises UserError when the folder cannot be written, or when another run holds it.
        """
        holder = self.folder / "lock.holder"
        lock = FileLock(self.folder / "lock")
        try:
            with self.writing():
                self.cells.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.folder} is in use by {_text_of(holder) or 'another run'}: "
                "wait until it ends, or choose another folder with --results"
            ) from None
        try:
            with self.writing():
                holder.write_text(f"process {os.getpid()}, running since {datetime.now():%H:%M}")
                for half_written in (*self.cells.glob("*.tmp"), *self.folder.glob("*.tmp")):
                    half_written.unlink()
            yield
        finally:
            with suppress(OSError):
                holder.unlink(missing_ok=True)
            lock.release()

    def path(self, key: str) -> Path:
        return self.cells / f"{key}.parquet"

    def has(self, key: str) -> bool:
        """Whether there is a file for the cell, whatever it holds. Raises UserError where that cannot be seen."""
        return exists(self.path(key))

    def is_whole(self, key: str) -> bool:
        """Whether a cell's file holds what the suite has written. Raises UserError where it cannot be read."""
        try:
            cell_file.read(self.path(key))
        except Damaged:
            return False
        return True

    def write(self, cell: Cell, key_fields: dict, rows: pd.DataFrame, provenance: dict) -> None:
        """Store a cell's rows with its description as columns, and `provenance` as metadata.

        Raises ValueError where rows or provenance are not as declared.
        """
        key, table = key_of(key_fields), to_table(cell, rows)
        metadata = {"key": key, "cell": str(cell), "key_fields": key_fields, **provenance}
        with self.writing():
            replace_whole(self.path(key), lambda temporary: cell_file.write(temporary, table, metadata))

    def read(self, key: str) -> tuple[pd.DataFrame, dict]:
        """A stored cell's rows and metadata. Raises Damaged, and UserError when the file is of another version or
        cannot be read."""
        table, metadata = cell_file.read(self.path(key))
        return table.to_pandas(), metadata

    def read_manifest(self) -> dict:
        """Workloads, each with its facts and the cells of each claim and study; empty before any run."""
        return manifest.read(self.manifest_file) if exists(self.manifest_file) else manifest.empty()

    def write_manifest(self, content: dict) -> None:
        text = manifest.to_text(content)
        with self.writing():
            replace_whole(self.manifest_file, lambda temporary: temporary.write_text(text))


def _text_of(holder: Path) -> str:
    try:
        return read_bytes(holder).decode(errors="replace")[:100]
    except UserError:
        return ""
