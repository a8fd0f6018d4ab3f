"""Imports point down the list of rooms only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import suite

ROOT = Path(suite.__file__).parent
ROOMS = [
    "errors",
    "interrupt",
    "status",
    "devices",
    "optimizers",
    "backends",
    "seeds",
    "machine",
    "workloads",
    "statistics",
    "formatting",
    "training",
    "instruments",
    "experiments",
    "timing",
    "evidence",
    "figures",
    "claims",
    "studies",
    "runs",
    "report",
    "advise",
    "cli",
    "__main__",
]
"""From the ground up: a room imports from those before it."""
FILES = sorted(file for file in ROOT.rglob("*.py") if file != ROOT / "__init__.py")


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").parts[0]


def imported_modules(file: Path) -> set[str]:
    """Every module that a file imports, or imports something from, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def imported_rooms(file: Path) -> set[str]:
    parts = (module.split(".") for module in imported_modules(file))
    return {name[1] for name in parts if name[0] == "suite" and len(name) > 1} & set(ROOMS)


def test_the_list_names_every_room():
    assert {room_of(file) for file in FILES} == set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_from_its_own_room_and_the_rooms_below_it(file):
    place = ROOMS.index(room_of(file))
    above = {room for room in imported_rooms(file) if ROOMS.index(room) > place}
    assert not above


@pytest.mark.parametrize("room", ["training", "instruments"])
def test_training_and_instruments_know_no_cells(room):
    for file in (ROOT / room).glob("*.py"):
        assert "experiments" not in imported_rooms(file), file


def test_instruments_do_not_train():
    training = {"engine", "ensemble", "plain", "lockstep", "tuning", "update", "epoch"}
    for file in (ROOT / "instruments").glob("*.py"):
        names = {module.split(".")[2] for module in imported_modules(file) if module.startswith("suite.training.")}
        assert not names & training - {"ensemble"}, file  # of which they use the layers that vmap knows


@pytest.mark.parametrize("library", ["matplotlib", "seaborn"])
def test_figure_code_alone_draws(library):
    drawing = {"figures", "claims", "studies", "report", "advise"}
    rooms = {
        room_of(file)
        for file in FILES
        if any(module.split(".")[0] == library for module in imported_modules(file) if module)
    }
    assert rooms <= drawing


def test_no_import_waits_for_a_type_checker():
    assert not [file for file in FILES if "TYPE_CHECKING" in file.read_text()]


def test_only_the_entry_point_imports_the_command_line():
    assert [file.name for file in FILES if "cli" in imported_rooms(file) and room_of(file) != "cli"] == [
        "__main__.py"
    ]


def test_nothing_but_the_command_line_asks_for_a_recommendation():
    assert {room_of(file) for file in FILES if "advise" in imported_rooms(file)} <= {"advise", "cli"}


def modules_after(statement: str) -> set[str]:
    """The modules that a process has loaded after `statement`."""
    command = [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(done.stdout.split())


def test_a_worker_process_loads_no_claim_and_nothing_that_draws():
    """Each of these would take every worker of a run up to a second."""
    modules = modules_after("import suite.runs.worker")
    assert not {module for module in modules if module.startswith(("suite.claims", "suite.studies", "suite.report"))}
    slow = {"matplotlib", "seaborn", "sklearn", "scipy.integrate", "scipy.optimize", "scipy.stats"}
    assert not slow & modules


def test_instruments_are_a_library_without_the_suite_around_it():
    modules = modules_after("import suite.instruments")
    above = ROOMS[ROOMS.index("experiments") :]
    assert not {module for module in modules if module.startswith("suite.") and module.split(".")[1] in above}
    assert "matplotlib" not in modules
