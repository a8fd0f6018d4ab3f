"""What a run shows while it works: a bar on a terminal, plain lines in a pipe; and the plan of a dry run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from suite.backends import BACKENDS
from suite.cells import key_of
from suite.errors import UserError
from suite.machine import ROOT
from suite.plan import Planned, WorkloadPlan
from suite.results import Results
from suite.run import Progress as Show

REFERENCE = ROOT / "results" / "reference"
"""Results that come with the project, a folder a machine."""


@contextmanager
def shown() -> Iterator[Show]:
    """A function that shows what is being done and how far the run is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, stored, total: print(f"[{stored}/{total}] {what}", file=sys.stderr, flush=True)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, stored, total: bar.update(task, description=what, completed=stored, total=total)


def print_plan(plans: list[WorkloadPlan], results: Results, workers: int) -> None:
    """A line for each cell: whether it is stored, or cannot be measured here, and its time where one like it is, here
    or in the reference results. Trainings are shared among so many `workers`; timings stand alone."""
    durations = reference_durations() | stored_durations(results)
    everything = {planned.key: planned for plan in plans for planned in plan.planned()}
    left: list[tuple[Planned, float | None]] = []
    for key, planned in everything.items():
        seconds_each, reason = durations.get(_alike(planned.key_fields)), BACKENDS[planned.cell.backend].unavailable()
        seconds = None if seconds_each is None else seconds_each * planned.cell.repeats
        if results.has(key):
            note = "stored"
        elif reason:
            note = f"left out, {reason}"
        else:
            left.append((planned, seconds))
            note = "time unknown" if seconds is None else f"about {seconds:.1f} s"
        print(f"{planned.cell}: {note}")
    shared = [seconds / (1 if planned.cell.measurement.timed else workers) for planned, seconds in left if seconds]
    unknown = sum(seconds is None for _, seconds in left)
    print(
        f"{len(everything)} cells, {len(left)} to measure: {len(left) - unknown} of them in about "
        f"{sum(shared) / 60:.1f} minutes, {unknown} of unknown time"
    )


def reference_durations() -> dict[str, float]:
    """The `stored_durations` of the reference results that this version can read: no more than hints."""
    durations = {}
    for folder in sorted(REFERENCE.glob("*")):
        with suppress(UserError):
            durations |= stored_durations(Results(folder))
    return durations


def stored_durations(results: Results) -> dict[str, float]:
    """Seconds that each repeat of each stored cell took, under what `_alike` makes of it."""
    metadata = (results.read(file.stem)[1] for file in sorted(results.cells.glob("*.parquet")))
    return {_alike(facts["key_fields"]): facts["duration_s"] / facts["key_fields"]["repeats"] for facts in metadata}


def _alike(key_fields: dict) -> str:
    """The same for cells that differ in nothing but the machine that measures them and their repeats."""
    other = ("device", "repeats", "replicas_per_call")
    return key_of({name: value for name, value in key_fields.items() if name not in other})
