import math
import re
import shutil
from pathlib import Path

import pandas as pd

from suite.claims import all_claims
from suite.report.as_json import write_json
from suite.report.sections import sections
from suite.report.table import write_tables
from suite.runs.store import Results
from tests.command import README, README_WORKLOAD, ROOT, call, call_here

REFERENCE = ROOT / "results" / "reference" / "cpu-2-cores"
SEQUENCES = """
from tests.workloads.test_kinds import SEQUENCES as workload
"""


def assert_went_through_every_claim(report: Path) -> None:
    rows = pd.read_csv(report / "table.csv")
    assert set(rows["claim"]) == {claim.name for claim in all_claims()}
    assert set(rows["status"]) <= {"ok", "diverged", "target_not_reached"}
    assert rows.loc[rows["claim"] == "gradient", "verdict"].tolist() == ["holds"]
    assert (rows.loc[rows["claim"] == "update_sequential", "effect"] > 1).all()


def test_the_workload_of_the_readme_as_it_stands_goes_through_every_claim(report):
    assert len(README_WORKLOAD.splitlines()) < 30
    assert_went_through_every_claim(report)


def test_a_transformer_goes_through_every_claim(tmp_path, measured):
    """Where the lecture's toys are measured already."""
    shutil.copytree(measured / "cells", tmp_path / "results" / "cells")
    (tmp_path / "sequences.py").write_text(SEQUENCES)
    done = call("run", "sequences.py", "--preset", "quick", folder=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert call_here("report", folder=tmp_path).returncode == 0
    assert_went_through_every_claim(tmp_path / "results" / "report")


def test_every_command_of_the_readme_exists():
    for line in re.findall(r"^    suite (.*?)(?:  .*)?$", README, re.MULTILINE):
        command, *options = line.split()
        helped = call_here(command, "--help").stdout
        assert all(option in helped for option in options if option.startswith("--"))


def lines_of(text: str) -> list[list[str]]:
    """The cells of every line of the tables in `text`, Markdown, but for those of their heads."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [line for line in lines if line[0] != "---" and line[0] not in ("", "The lecture's row")]


def test_the_tables_of_the_reference_results_are_what_comes_of_their_cells(tmp_path):
    analysed = sections(Results(REFERENCE))
    write_tables(analysed, tmp_path)
    write_json(analysed, tmp_path)
    for name in ("table.csv", "table.md", "report.json"):
        assert (tmp_path / name).read_text() == (REFERENCE / "report" / name).read_text()


def test_the_times_of_the_reference_results_divide_to_the_effects():
    rows = pd.read_csv(REFERENCE / "report" / "table.csv")
    ratios = rows[rows["claim"].isin(["update_sequential", "epoch_time"]) & (rows["status"] == "ok")]
    assert set(ratios["claim"]) == {"update_sequential", "epoch_time"}
    for _, row in ratios.iterrows():
        values = {"Small": row["value_small"], "Large": row["value_large"]}
        above, below = row["measure"].partition(", ")[2].removesuffix(" (ratio, null 1)").split(" / ")
        assert math.isclose(values[above] / values[below], row["effect"], rel_tol=1e-5)


def test_the_table_is_that_of_the_reference_results():
    """Rows x machines, each with the verdict and the effect of the stored report."""
    reported = {}
    for title, small, large, workload, backend, _, _, effect, verdict in lines_of(
        (REFERENCE / "report" / "table.md").read_text()
    ):
        reported.setdefault((title, small, large, backend), {})[workload] = f"{verdict} {effect}"
    shown = lines_of(README.partition("## What it measures")[0])
    assert {tuple(line[:4]) for line in shown} == {row for row in reported if row[3] != "cuda"}
    for *row, digits, mnist in (line if len(line) == 6 else [*line, ""] for line in shown):
        assert reported[tuple(row)] == {"digits": digits} | ({"mnist": mnist} if mnist else {})
