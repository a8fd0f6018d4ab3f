"""Workloads, one per file: each file in this folder that contains `workload = Workload(...)`, and any Python file of
the user's, named by its path."""

import importlib
from functools import cache
from pathlib import Path

from suite.errors import UserError
from suite.workloads.data import Data
from suite.workloads.fingerprint import fingerprint
from suite.workloads.user_file import load_file
from suite.workloads.workload import Workload

__all__ = ["Data", "Workload", "find", "fingerprint", "names"]


def names() -> list[str]:
    """Names of the suite's built-in workloads."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if "\nworkload = Workload(" in file.read_text())


@cache
def find(name: str) -> Workload:
    """The workload called `name`, or the one in the Python file `name`.

    Raises UserError when neither exists, or when the file contains no workload.
    """
    if name in names():
        return importlib.import_module(f"{__name__}.{name}").workload
    if name.endswith(".py"):
        return _from_file(Path(name))
    raise UserError(
        f"no workload '{name}': choose from {', '.join(names())}, or give the path of a Python file "
        "that holds `workload = Workload(...)`"
    )


def _from_file(path: Path) -> Workload:
    workload = load_file(path)
    if workload.name in names():
        raise UserError(f"{path}: the name '{workload.name}' is taken by a workload of the suite: choose another")
    return workload
