"""Tidy tables on disk: one Parquet file per cell, and a manifest of the cells that each claim and study reads.

A file is written under a temporary name and renamed, so that a file with a cell's key is complete. Its provenance is
in its own metadata.
"""

import json
import os
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from suite.errors import UserError
from suite.experiments.cell import Cell

SCHEMA_VERSION = 2
"""Version 1 hashed names of the code into keys, and found protocols by their sentence."""
METADATA_KEY = b"suite"


class Results:
    """The results folder: `cells/KEY.parquet`, `manifest.json`, `report/`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cells = folder / "cells"
        self.manifest_file = folder / "manifest.json"
        self.report = folder / "report"

    @contextmanager
    def writing(self):
        """Raise UserError where the folder cannot be written."""
        try:
            yield
        except Timeout:
            raise
        except OSError as error:
            raise UserError(
                f"cannot write to {self.folder} ({error.strerror or error}): choose another folder with --results"
            ) from error

    @contextmanager
    def locked(self):
        """Hold the folder for one run. The kernel lets go of the lock when the run dies.

        Raises UserError when the folder cannot be written, or when another run holds it.
        """
        holder = self.folder / "lock.holder"
        try:
            with self.writing():
                self.cells.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.folder / "lock")
                lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.folder} is in use by {holder.read_text() if holder.exists() else 'another run'}: "
                "wait until it ends, or choose another folder with --results"
            ) from None
        try:
            with self.writing():
                holder.write_text(f"process {os.getpid()}, running since {datetime.now():%H:%M}")
                for half_written in (*self.cells.glob("*.tmp"), *self.folder.glob("*.tmp")):
                    half_written.unlink()
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def path(self, key: str) -> Path:
        return self.cells / f"{key}.parquet"

    def has(self, key: str) -> bool:
        return self.path(key).exists()

    def write(self, key: str, cell: Cell, rows: pd.DataFrame, provenance: dict) -> None:
        """Store a cell's rows with its description as columns, and `provenance` as metadata."""
        columns = {**cell.describe(), **{name: rows[name] for name in rows}}
        table = pa.Table.from_pandas(pd.DataFrame(columns, index=rows.index), preserve_index=False)
        metadata = {"schema_version": SCHEMA_VERSION, "key": key, **provenance}
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
        temporary = self.path(key).with_suffix(".tmp")
        with self.writing():
            pq.write_table(table, temporary)
            os.replace(temporary, self.path(key))

    def read(self, key: str) -> tuple[pd.DataFrame, dict]:
        """A stored cell's rows and metadata. Raises UserError when the file is damaged."""
        try:
            table = pq.read_table(self.path(key))
            metadata = json.loads(table.schema.metadata[METADATA_KEY])
            version, stored_key = metadata["schema_version"], metadata["key"]
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.path(key)} is damaged: delete it and run `suite run` again") from error
        _check_version(self.path(key), version)
        if stored_key != key:
            raise UserError(f"{self.path(key)} holds another cell, {stored_key}: delete it and run `suite run` again")
        return table.to_pandas(), metadata

    def check(self, key: str) -> None:
        """Raise UserError when a stored cell is damaged."""
        self.read(key)

    def read_manifest(self) -> dict:
        """Workloads, each with its facts and the cells of each claim and study; empty before any run."""
        if not self.manifest_file.exists():
            return {"schema_version": SCHEMA_VERSION, "workloads": {}}
        try:
            manifest = json.loads(self.manifest_file.read_text())
            version = manifest["schema_version"]
            for workload in manifest["workloads"].values():
                workload["facts"].keys()
                for cells in (*workload["claims"].values(), *workload.get("studies", {}).values()):
                    for cell in cells:
                        self.path(cell["key"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.manifest_file} is damaged: delete it and run `suite run` again (no cell is lost)"
            ) from error
        _check_version(self.manifest_file, version)
        return manifest

    def write_manifest(self, manifest: dict) -> None:
        temporary = self.manifest_file.with_suffix(".tmp")
        with self.writing():
            temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            os.replace(temporary, self.manifest_file)


def _check_version(file: Path, version: int) -> None:
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{file} has schema {version}, this suite reads {SCHEMA_VERSION}: "
            "move the results folder away, or name another with --results, and run `suite run` again"
        )
