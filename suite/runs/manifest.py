"""The manifest of a results folder: the facts of each workload, and the cells that each claim and study reads."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from suite.errors import last_line
from suite.evidence import Facts
from suite.runs.cell_file import SCHEMA_VERSION, Damaged, Key, check_version
from suite.runs.files import read_bytes
from suite.workloads.fields import Name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ManifestCell(_Strict):
    """A cell that a claim or a study reads: its key and `Cell.describe`."""

    key: Key
    measurement: str
    workload: Name
    backend: str
    protocol: str
    learning_rate: float
    """NaN where the cell has none."""
    input_pipeline: str
    batch_size: NonNegativeInt


class Entry(_Strict):
    """A workload in the manifest."""

    facts: dict[str, Any]
    """`Facts.to_dict`."""
    fingerprint: str
    claims: dict[str, list[ManifestCell]]
    studies: dict[str, list[ManifestCell]]


class Manifest(_Strict):
    schema_version: int
    workloads: dict[Name, Entry]
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def empty() -> dict:
    """The manifest of a folder without results."""
    return {"schema_version": SCHEMA_VERSION, "workloads": {}}


def to_text(manifest: dict) -> str:
    """As the file has it."""
    return json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=1, sort_keys=True) + "\n"


def read(path: Path) -> dict:
    """`empty` with the workloads that are stored. Raises Damaged, and UserError where the file is of another version
    or cannot be read."""
    try:
        stored = json.loads(read_bytes(path), object_pairs_hook=_without_duplicates)
        check_version(path, stored["schema_version"])
        Manifest(**stored)
        manifest = {name: value for name, value in stored.items() if name != "checksum"}
        if _checksum(manifest) != stored["checksum"]:
            raise ValueError("its content has changed since it was written")
        for name, entry in manifest["workloads"].items():
            if Facts.from_dict(entry["facts"]).name != name:
                raise ValueError(f"the facts of '{name}' are those of another workload")
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(
            f"{path} is damaged, or of another version of the suite ({last_line(error)}): delete it and run every "
            "`suite run` again (no cell is lost)"
        ) from error
    return manifest


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _checksum(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
