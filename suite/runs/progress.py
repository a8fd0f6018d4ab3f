"""The progress of a run, a bar on a terminal and plain lines in a pipe; and the plan of a dry run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from suite.backends import BACKENDS
from suite.errors import UserError
from suite.experiments.cell import key_of
from suite.machine import ROOT
from suite.runs.plan import Planned, WorkloadPlan
from suite.runs.run import Progress as Show
from suite.runs.store import Results

REFERENCE = ROOT / "results" / "reference"
"""Results that come with the project, a folder a machine."""


@contextmanager
def shown() -> Iterator[Show]:
    """Yield a function that shows the current task and the progress."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda task, stored, total: print(f"[{stored}/{total}] {task}", file=sys.stderr, flush=True)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        line = bar.add_task("", total=None)
        yield lambda task, stored, total: bar.update(line, description=task, completed=stored, total=total)


def print_plan(plans: list[WorkloadPlan], results: Results, workers: int) -> None:
    """Print a line for each cell: whether it is stored, or unavailable here, and its expected time where a similar
    cell is stored, here or in the reference results. `workers` share the trainings; timings run alone."""
    durations = reference_durations() | stored_durations(results)
    cells = {planned.key: planned for plan in plans for planned in plan.planned()}
    left: list[tuple[Planned, float | None]] = []
    for key, planned in cells.items():
        per_repeat, reason = durations.get(_similar(planned.key_fields)), BACKENDS[planned.cell.backend].unavailable()
        seconds = None if per_repeat is None else per_repeat * planned.cell.repeats
        if results.has(key):
            note = "stored"
        elif reason:
            note = f"unavailable, {reason}"
        else:
            left.append((planned, seconds))
            note = "time unknown" if seconds is None else f"about {seconds:.1f} s"
        print(f"{planned.cell}: {note}")
    shared = [seconds / (1 if planned.cell.measurement.timed else workers) for planned, seconds in left if seconds]
    unknown = sum(seconds is None for _, seconds in left)
    print(
        f"{len(cells)} cells, {len(left)} to measure: {len(left) - unknown} of them in about "
        f"{sum(shared) / 60:.1f} minutes, {unknown} of unknown time"
    )


def reference_durations() -> dict[str, float]:
    """The `stored_durations` of the reference results."""
    durations = {}
    for folder in sorted(REFERENCE.glob("*")):
        durations |= stored_durations(Results(folder))
    return durations


def stored_durations(results: Results) -> dict[str, float]:
    """Seconds per repeat of each stored cell that can be read, by `_similar`."""
    metadata = []
    for file in sorted(results.cells.glob("*.parquet")):
        with suppress(UserError):
            metadata.append(results.read(file.stem)[1])
    return {_similar(facts["key_fields"]): facts["duration_s"] / facts["key_fields"]["repeats"] for facts in metadata}


def _similar(key_fields: dict) -> str:
    """The same for cells that differ only in the machine that measures them and in their repeats."""
    ignored = ("device", "repeats", "replicas_per_call")
    return key_of({name: value for name, value in key_fields.items() if name not in ignored})
