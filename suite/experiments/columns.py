"""The columns of stored rows: what each holds, and whether rows are as declared."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from suite.status import Status


@dataclass(frozen=True)
class Column:
    """What a column holds. In a row with the status ok it has a value, finite where it is a number, unless it is
    `optional`."""

    type: pa.DataType
    least: float | None = None
    """The lowest value that a row with the status ok may have."""
    optional: bool = False


Columns = Mapping[str, Column]

COUNT = Column(pa.int64(), least=0)
NUMBER = Column(pa.float64())
POSITIVE_OR_ZERO = Column(pa.float64(), least=0)
FLAG = Column(pa.bool_())
TEXT = Column(pa.string())

DESCRIPTION = {
    "measurement": TEXT,
    "workload": TEXT,
    "backend": TEXT,
    "protocol": TEXT,
    "learning_rate": Column(pa.float64(), least=0, optional=True),
    "input_pipeline": TEXT,
    "batch_size": COUNT,
    "status": TEXT,
    "reason": replace(TEXT, optional=True),
}
"""The columns of every cell: `Cell.describe`, and how its measurement ended."""

EVALUATED = {
    "updates": COUNT,
    "epoch": POSITIVE_OR_ZERO,
    "train_loss": NUMBER,
    "train_score": NUMBER,
    "test_loss": NUMBER,
    "test_score": NUMBER,
}
"""The columns of evaluations during a training."""


def optional(*columns: str, of: Column) -> dict[str, Column]:
    """`columns` like `of`, which may lack values."""
    return dict.fromkeys(columns, replace(of, optional=True))


def to_table(rows: pd.DataFrame, columns: Columns) -> pa.Table:
    """`rows` in the types of `columns`. Raises ValueError where they are not as declared."""
    if undeclared := [name for name in rows if name not in columns]:
        raise ValueError(f"column '{undeclared[0]}' is not declared")
    table = pa.Table.from_pandas(
        rows, pa.schema([(name, columns[name].type) for name in rows]), preserve_index=False
    ).replace_schema_metadata(None)
    if problem := problem_of(table, columns):
        raise ValueError(problem)
    return table


def problem_of(table: pa.Table, columns: Columns) -> str | None:
    """Where `table` is not as `columns` declare it; None where it is."""
    names = table.column_names
    if len(set(names)) < len(names) or not set(names) <= set(columns):
        return "its columns are not those of its measurement"
    for name in names:
        if table.schema.field(name).type != columns[name].type:
            return f"column '{name}' is of type {table.schema.field(name).type}, not {columns[name].type}"
    if not len(table) or "status" not in names or not set(table["status"].to_pylist()) <= set(Status):
        return "not every row has a status"
    succeeded = table.filter(pc.equal(table["status"], Status.OK))
    return next(filter(None, (_problem_in(succeeded, name, column) for name, column in columns.items())), None)


def _problem_in(succeeded: pa.Table, name: str, column: Column) -> str | None:
    """Where rows with the status ok lack a value of `column`, or have one that it cannot hold."""
    if name not in succeeded.column_names:
        return f"column '{name}' is missing" if len(succeeded) and not column.optional else None
    values = succeeded[name]
    if values.null_count and not column.optional:
        return f"{name} is not a number in {values.null_count} of {len(values)} rows"
    if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(values), min_count=0).as_py():
        return f"{name} is infinite"
    if column.least is not None and (low := pc.min(values).as_py()) is not None and low < column.least:
        return f"{name} is {low:g}, below {column.least:g}"
    return None
