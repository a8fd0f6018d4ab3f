"""The one exception that a user is meant to see, and other exceptions in one line."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


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
        return f"{error.title}: {_first_problem(error)}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])


def _first_problem(error: ValidationError) -> str:
    """What was given to which field, and what is possible."""
    problem = error.errors(include_url=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    says = problem["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"there is no field '{field}'"
    if not field:
        return says
    return f"{field} is {reprlib.repr(problem['input'])}: {says}"
