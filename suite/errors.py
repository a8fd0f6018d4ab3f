"""The one exception that a user is meant to see, and other exceptions in one line."""

import reprlib


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
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])


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
