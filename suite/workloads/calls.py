"""Calls of a workload's functions, with their errors in one line."""

from collections.abc import Callable

from suite.errors import SEE_WHERE, UserError, last_line
from suite.workloads.workload import Workload


def refusal(workload: Workload, problem: str) -> UserError:
    """The error that names the workload and its `problem`."""
    return UserError(f"workload {workload.name}: {problem}")


def call(workload: Workload, description: str, function: Callable, *arguments):
    """Call a `function` of the workload, and report whatever it raises in one line."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except BaseException as error:
        raise refusal(workload, f"{description} raises {last_line(error)} ({SEE_WHERE})") from error
