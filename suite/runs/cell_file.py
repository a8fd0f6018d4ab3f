"""The Parquet file of a cell: its rows and, as metadata, its provenance with a checksum of both.

A file whose checksum does not match is refused.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, ValidationError

from suite.errors import UserError, last_line
from suite.experiments.cell import key_of
from suite.runs.files import read_bytes

SCHEMA_VERSION = 3
"""Version 1 hashed names of the code into keys; version 2 had no checksums."""
METADATA_KEY = b"suite"
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{20}$")]
"""What `key_of` gives: the name of a cell's file."""


class Damaged(UserError):
    """A stored file is not what the suite wrote."""


class Metadata(BaseModel):
    """What is stored with the rows of a cell: its identity, and who measured it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: Key
    cell: str
    """In words."""
    key_fields: dict[str, Any]
    """`Cell.key_fields`, whose hash is the key."""
    machine: str
    gpu: str
    system: str
    python: str
    torch: str
    numpy: str
    asv: str
    suite: str
    commit: str
    threads: NonNegativeInt
    duration_s: NonNegativeFloat


def write(path: Path, table: pa.Table, metadata: dict) -> None:
    """Write `table` with `metadata`, the fields of `Metadata`. Raises pydantic.ValidationError where these are not
    as declared."""
    described = {"schema_version": SCHEMA_VERSION, **Metadata(**metadata).model_dump()}
    stored = json.dumps({**described, "checksum": checksum(table, described)}, sort_keys=True)
    content = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: stored}), content)
    path.write_bytes(content.getvalue())


def read(path: Path) -> tuple[pa.Table, dict]:
    """The rows and the fields of `Metadata`. Raises Damaged, and UserError where the file is of another version or
    cannot be read."""
    content = read_bytes(path)
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
        metadata = json.loads(table.schema.metadata[METADATA_KEY])
        check_version(path, metadata["schema_version"])
        stored_checksum = metadata.pop("checksum", None)
        found_checksum = checksum(table, metadata)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, "it is not a file of the suite") from error
    if found_checksum != stored_checksum:
        raise _damaged(path, "its content has changed since it was written")
    del metadata["schema_version"]
    try:
        Metadata(**metadata)
    except ValidationError as error:
        raise _damaged(path, last_line(error)) from error
    if not path.stem == metadata["key"] == key_of(metadata["key_fields"]):
        raise _damaged(path, f"it holds another cell, {metadata['key']}")
    return table, metadata


def checksum(table: pa.Table, metadata: dict) -> str:
    """SHA-256 of the metadata and of each column's name, type and values; the same for every encoding of the file."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for field, column in zip(table.schema, table.columns, strict=True):
        digest.update(json.dumps([field.name, str(field.type), len(column)]).encode())
        digest.update(column.is_null().to_numpy().tobytes())
        if pa.types.is_string(field.type):
            column = column.combine_chunks().dictionary_encode()
            digest.update(json.dumps(column.dictionary.to_pylist()).encode())
            column = column.indices
        elif pa.types.is_boolean(field.type):
            column = column.cast(pa.int8())
        digest.update(column.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


def check_version(path: Path, version: object) -> None:
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema {version}, this suite reads {SCHEMA_VERSION}: "
            "move the results folder away, or name another with --results, and run `suite run` again"
        )


def _damaged(path: Path, why: str) -> Damaged:
    return Damaged(f"{path} is damaged, {why}: `suite run` with the same options measures it again")
