"""A workload in a Python file of the user's, loaded as Python itself loads a script."""

import hashlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from suite.errors import SEE_WHERE, UserError, last_line
from suite.workloads.workload import Workload

_folders: dict[Path, str] = {}
"""The folder of each file loaded in this process, and the file."""


def load_file(path: Path) -> Workload:
    """The `workload` of the Python file `path`, whose folder is importable from then on.

    Raises UserError when the file does not run, or holds no workload.
    """
    if not path.is_file():
        raise UserError(f"no workload file {path}: give the path of an existing Python file")
    _make_importable(path)
    workload = getattr(_run(path), "workload", None)
    if not isinstance(workload, Workload):
        raise UserError(f"{path} holds no workload: end it with `workload = Workload(...)`")
    return workload


def _run(path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    loader = importlib.machinery.SourceFileLoader(f"{path.stem}_{digest}", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module  # so that its classes, such as an optimizer, can be looked up by name
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[loader.name]
        if isinstance(error, UserError):
            raise UserError(f"{path}: {error}") from error
        hint = "" if isinstance(error, ValidationError) else f" ({SEE_WHERE})"
        raise UserError(f"{path} does not run: {last_line(error)}{hint}") from error
    return module


def _make_importable(path: Path) -> None:
    """Put the folder of `path` first on sys.path. Raises UserError where a module there has the name of one that was
    imported from the folder of another workload: Python would take the latter."""
    folder = path.resolve().parent
    if folder in _folders:
        return
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        workload = file and _folders.get(Path(file).parent)
        if workload and "." not in name and (folder / f"{name}.py").is_file():
            raise UserError(f"{path} and {workload} both have a module {name}.py beside them: run them one at a time")
    sys.path.insert(0, str(folder))
    _folders[folder] = str(path)
