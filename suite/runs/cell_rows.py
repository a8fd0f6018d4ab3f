"""The rows of a cell as they are stored, checked against the columns that its measurement declares."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from suite.experiments.cell import Cell
from suite.experiments.columns import DESCRIPTION, Column, Columns
from suite.status import Status


def to_table(cell: Cell, rows: pd.DataFrame) -> pa.Table:
    """The `rows` of a cell with its description, in the types of their columns. Raises ValueError where they are not
    as the cell's measurement declares."""
    columns = {**DESCRIPTION, **cell.measurement.columns}
    described = pd.DataFrame({**cell.describe(), **{name: rows[name] for name in rows}}, index=rows.index)
    if undeclared := [name for name in described if name not in columns]:
        raise ValueError(f"column '{undeclared[0]}' is not declared")
    if not len(described) or "status" not in described:
        raise ValueError("there is no row with a status")
    schema = pa.schema([(name, _type(columns[name])) for name in described])
    table = pa.Table.from_pandas(described, schema, preserve_index=False).replace_schema_metadata(None)
    if problem := _problem(table, columns):
        raise ValueError(problem)
    return table


def _type(column: Column) -> pa.DataType:
    return pa.type_for_alias(column.type)


def _problem(table: pa.Table, columns: Columns) -> str | None:
    """Where `table` is not as `columns` declare it; None where it is."""
    if not set(table["status"].to_pylist()) <= set(Status):
        return "a row has no status, or an unknown one"
    succeeded = table.filter(pc.equal(table["status"], Status.OK))
    return next(filter(None, (_problem_in(succeeded, name, column) for name, column in columns.items())), None)


def _problem_in(succeeded: pa.Table, name: str, column: Column) -> str | None:
    """Where rows with the status ok lack a value of `column`, or have one that it cannot hold."""
    if name not in succeeded.column_names:
        return f"column '{name}' is missing" if len(succeeded) and not column.optional else None
    values = succeeded[name]
    if values.null_count and not column.optional:
        return f"{name} has no value in {values.null_count} of {len(values)} rows"
    if pa.types.is_floating(_type(column)) and not pc.all(pc.is_finite(values), min_count=0).as_py():
        return f"{name} is infinite"
    if column.least is not None and (low := pc.min(values).as_py()) is not None and low < column.least:
        return f"{name} is {low:g}, below {column.least:g}"
    return None
