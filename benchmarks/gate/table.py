"""The verdicts as a table, on a terminal or in a log."""

import sys
from collections.abc import Sequence

from benchmarks.gate.judge import FAILURES, FASTER, REGRESSIONS, Row

LOG_COLUMNS = 160
HEADINGS = ("number", "base", "head", "change", "threshold", "confidence", "verdict")
STYLES = dict.fromkeys(REGRESSIONS, "bold red") | dict.fromkeys(FAILURES, "bold yellow") | {FASTER: "green"}


def show(title: str, rows: Sequence[Row]) -> None:
    from rich.console import Console  # not in asv's environments, which import every file of benchmarks/
    from rich.table import Table

    table = Table(*HEADINGS, title=title, title_justify="left")
    for row in rows:
        table.add_row(*vars(row).values(), style=STYLES.get(row.verdict))
    Console(width=None if sys.stdout.isatty() else LOG_COLUMNS).print(table)
