"""The report: made from stored results alone, and the same bytes from the same results."""

from pathlib import Path

from filelock import FileLock

from suite.report.page import write_page
from suite.report.sections import sections
from suite.report.table import table, write_tables
from suite.results import Results


def write_report(results: Results) -> Path:
    """Write `report/`: the page, the tables and the figures. Returns the page's path.

    Another report of the same results waits until this one stands: each clears the figures before it draws its own.
    """
    everything = sections(results)
    rows = table(everything)
    with results.writing():
        results.report.mkdir(exist_ok=True)
        with FileLock(results.report.with_suffix(".lock")):
            write_tables(rows, results.report)
            return write_page(everything, rows, results.report)
