"""Changing what a results folder holds."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from suite.runs import cell_file, manifest
from suite.runs.cell_file import METADATA_KEY
from suite.runs.store import Results


def rewrite(results: Results, key: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Store a cell's rows again with a `change`, as the suite itself would."""
    table, metadata = cell_file.read(results.path(key))
    rows = change(table.to_pandas())
    types = {**dict(zip(table.schema.names, table.schema.types, strict=True)), "reason": pa.string()}
    schema = pa.schema([(name, types[name]) for name in rows])
    cell_file.write(results.path(key), pa.Table.from_pandas(rows, schema, preserve_index=False), metadata)


def rewrite_manifest(results: Results, change: Callable[[dict], object]) -> None:
    """Write the manifest again after a `change` in place, as the suite itself would."""
    content = results.read_manifest()
    change(content)
    results.manifest_file.write_text(manifest.to_text(content))


def tamper(file: Path, change: Callable[[pa.Table, dict], tuple[pa.Table, object]]) -> None:
    """Change the rows or the metadata of a cell's file by hand; its checksum stays."""
    table = pq.read_table(file)
    table, metadata = change(table, json.loads(table.schema.metadata[METADATA_KEY]))
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), file)
