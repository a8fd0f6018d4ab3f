"""The columns of stored rows: what each holds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Column:
    """What a column holds. In a row with the status ok it has a value, finite where it is a number, unless it is
    `optional`."""

    type: str
    """Arrow's name of its type."""
    least: float | None = None
    """The lowest value that a row with the status ok may have."""
    optional: bool = False


Columns = Mapping[str, Column]

COUNT = Column("int64", least=0)
NUMBER = Column("float64")
POSITIVE_OR_ZERO = Column("float64", least=0)
FLAG = Column("bool")
TEXT = Column("string")

DESCRIPTION = {
    "measurement": TEXT,
    "workload": TEXT,
    "backend": TEXT,
    "protocol": TEXT,
    "learning_rate": Column("float64", least=0, optional=True),
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
