"""The one exception that a user is meant to see, and other exceptions in one line."""

import re
import reprlib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

_SUITE = Path(__file__).parent
_PYTHON = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts"))
_NOT_THE_USERS = (_SUITE, _SUITE.parent / "benchmarks", *map(Path, _PYTHON))
"""Folders of the suite, of Python and of installed packages."""

DEBUG = "SUITE_DEBUG"
"""The environment variable that asks for the traceback of an error."""
SEE_WHERE = f"{DEBUG}=1 shows where"


class UserError(Exception):
    """A mistake that the user can mend: one line that says what was given and what to do.

    The command line prints the message alone and exits with code 2.
    """


def last_line(error: BaseException) -> str:
    """The type of `error` and the last line of its message; of a pydantic error, its first problem.

    >>> last_line(ValueError("first\\nlast")), last_line(KeyError())
    ('ValueError: last', 'KeyError')
    """
    from pydantic import ValidationError  # only where there is an error: the command line's --help answers at once

    if isinstance(error, ValidationError):
        return f"{error.title}: {_in_words(error.errors(include_url=False)[0])}"
    lines = [line.strip() for line in message(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])


def user_function(error: BaseException) -> str | None:
    """The innermost function of a user's file in the traceback of `error`, as `forward in mine.py, line 2,`; None
    where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return _last_of_the_users((frame.filename, frame.lineno, frame.name) for frame in frames)


def user_function_in(printed: str) -> str | None:
    """As `user_function`, from a traceback that another process has `printed`."""
    return _last_of_the_users(re.findall(r'File "(.+)", line (\d+), in (.+)', printed))


def _last_of_the_users(places: Iterable[tuple[str, int | str, str]]) -> str | None:
    """In words the last of the `places` (file, line, function) that lies in a file of the user's."""
    for file, line, function in reversed(list(places)):
        compiled = "torchinductor_" in file
        if Path(file).is_file() and not compiled and not any(map(Path(file).is_relative_to, _NOT_THE_USERS)):
            return f"{function} in {Path(file).name}, line {line},"
    return None


def message(error: BaseException) -> str:
    """The text of `error`; empty where its own `__str__` fails."""
    try:
        return str(error)
    except Exception:
        return ""


def _in_words(problem: dict) -> str:
    """What was given to which field, and what is possible; from an entry of pydantic's `errors()`."""
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    says = problem["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"there is no field '{field}'"
    if not field:
        return says
    return f"{field} is {reprlib.repr(problem['input'])}: {says}"
