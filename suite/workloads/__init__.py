"""Workloads, one per file: each file in this folder that contains `workload = Workload(...)`, and any Python file of
the user's, named by its path."""

import hashlib
import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path

from suite.errors import UserError
from suite.workloads.workload import Data, Workload, fingerprint

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
    if not path.is_file():
        raise UserError(f"no workload file {path}: give the path of an existing Python file")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{digest}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that its classes, such as an optimizer, can be looked up by name
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        del sys.modules[spec.name]
        raise UserError(f"{path}: {error}") from error
    except Exception as error:
        del sys.modules[spec.name]
        raise UserError(f"{path} does not run: {type(error).__name__}: {error}") from error
    workload = getattr(module, "workload", None)
    if not isinstance(workload, Workload):
        raise UserError(f"{path} holds no workload: end it with `workload = Workload(...)`")
    if workload.name in names():
        raise UserError(f"{path}: the name '{workload.name}' is taken by the suite's own; choose another")
    return workload
