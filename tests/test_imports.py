"""Imports point down the list of rooms only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import suite

ROOT = Path(suite.__file__).parent
FORBIDDEN = {
    "workloads": ("training", "instruments", "claims", "report", "plan", "run", "results", "cli", "progress"),
    "backends.py": ("training", "instruments", "claims", "report", "plan", "run", "results", "cli", "progress"),
    "training": ("instruments", "claims", "report", "plan", "run", "results", "cli", "progress"),
    "instruments": ("claims", "report", "plan", "run", "results", "cli", "progress"),
    "statistics.py": ("workloads", "training", "instruments", "claims", "report", "plan", "run", "results", "cli"),
    "claims": ("report", "plan", "run", "results", "cli", "progress"),
    "results.py": ("claims", "report", "plan", "run", "cli", "progress"),
    "run.py": ("report", "cli", "progress"),
    "report": ("plan", "run", "cli", "progress"),
    "advise": ("plan", "run", "cli", "progress"),
}


def imported(path: Path) -> set[str]:
    """The rooms of the suite that a file imports from, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "suite":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("suite."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("suite.")}
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_from_none_above_it(room):
    files = [ROOT / room] if room.endswith(".py") else list((ROOT / room).glob("*.py"))
    assert files
    for file in files:
        assert not imported(file) & set(FORBIDDEN[room]), file


@pytest.mark.parametrize(
    ("file", "rooms"),
    [
        ("devices.py", set()),
        ("optimizer_forms.py", set()),
        ("optimizers.py", {"errors", "optimizer_forms"}),
        ("backends.py", {"devices"}),
    ],
)
def test_what_everything_stands_on_imports_little_of_the_suite(file, rooms):
    assert imported(ROOT / file) == rooms


def test_only_the_entry_point_imports_the_command_line():
    importers = [file.name for file in ROOT.rglob("*.py") if "cli" in imported(file)]
    assert importers == ["__main__.py"]


def test_nothing_but_the_command_line_asks_for_advice():
    importers = [file for file in ROOT.rglob("*.py") if "advise" in imported(file)]
    assert {file.parent.name for file in importers} <= {"advise", "suite"}
    assert [file.name for file in importers if file.parent == ROOT] == ["cli.py"]


def test_what_draws_or_computes_statistics_is_not_imported_to_measure():
    """Every worker of a run imports what the run does: each of these would take it up to a second."""
    program = "import sys, suite.run; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert not {"matplotlib", "seaborn", "sklearn", "scipy.integrate", "scipy.optimize", "scipy.stats"} & set(
        done.stdout.split()
    )
