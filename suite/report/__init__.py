"""The report: made from stored results alone, and the same bytes from the same results."""

from pathlib import Path

from filelock import FileLock

from suite.report.as_json import write_json
from suite.report.page import write_page
from suite.report.sections import sections
from suite.report.table import write_tables
from suite.runs.store import Results


def write_report(results: Results) -> Path:
    """Write `report/`: the page, the tables, report.json and the figures. Returns the path of the page.

    Two reports of the same results wait for each other: each clears the figures before it draws its own.
    """
    analysed = sections(results)
    with results.writing():
        results.report.mkdir(exist_ok=True)
        with FileLock(results.report.with_suffix(".lock")):
            write_tables(analysed, results.report)
            write_json(analysed, results.report)
            return write_page(analysed, results.report)
