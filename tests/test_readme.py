import re
import shutil

import pandas as pd

from suite.claims import all_claims
from tests.command import ROOT, call, call_here

README = (ROOT / "README.md").read_text()


SEQUENCES = """
from tests.workloads.test_kinds import SEQUENCES as workload
"""


def test_the_workload_of_the_readme_as_it_stands_and_a_transformer_go_through_every_claim(tmp_path, measured):
    """Added to results of another workload, which have the lecture's toys already."""
    shutil.copytree(measured, tmp_path / "results")
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(program.splitlines()) < 30
    (tmp_path / "diabetes.py").write_text(program)
    (tmp_path / "sequences.py").write_text(SEQUENCES)
    path = {"PYTHONPATH": str(ROOT)}
    done = call("run", "diabetes.py", "sequences.py", "--preset", "quick", folder=tmp_path, **path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert call_here("report", folder=tmp_path).returncode == 0
    table = pd.read_csv(tmp_path / "results" / "report" / "table.csv")
    table = table[table["backend"] != "cuda"]
    for workload in ("diabetes", "sequences"):
        rows = table[table["workload"] == workload]
        assert set(rows["claim"]) == {claim.name for claim in all_claims()}
        assert set(rows["status"]) <= {"ok", "diverged", "target_not_reached"}
        assert rows.loc[rows["claim"] == "gradient", "verdict"].tolist() == ["holds"]
        assert (rows.loc[rows["claim"] == "update_sequential", "effect"] > 1).all()


def test_every_command_of_the_readme_exists():
    for line in re.findall(r"^    suite (.*?)(?:  .*)?$", README, re.MULTILINE):
        command, *options = line.split()
        helped = call_here(command, "--help").stdout
        assert all(option in helped for option in options if option.startswith("--"))


def lines_of(table: str) -> list[list[str]]:
    """The cells of every line of the tables in `table`, Markdown, but for those of their heads."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return [line for line in lines if line[0] != "---" and line[0] not in ("", "The lecture's row")]


def test_the_table_is_that_of_the_reference_results():
    """Rows x machines, each with the verdict and the effect of the stored report."""
    reported = {}
    for title, small, large, workload, backend, _, _, effect, verdict in lines_of(
        (ROOT / "results" / "reference" / "cpu-2-cores" / "report" / "table.md").read_text()
    ):
        reported.setdefault((title, small, large, backend), {})[workload] = f"{verdict} {effect}"
    shown = lines_of(README.partition("## Two commands")[0])
    assert {tuple(line[:4]) for line in shown} == {row for row in reported if row[3] != "cuda"}
    for *row, digits, mnist in (line if len(line) == 6 else [*line, ""] for line in shown):
        assert reported[tuple(row)] == {"digits": digits} | ({"mnist": mnist} if mnist else {})
