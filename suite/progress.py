"""What a run shows while it works: a bar on a terminal, plain lines in a pipe; and the plan of a dry run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from suite.machine import ROOT
from suite.plan import WorkloadPlan
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
    """A line for each cell: whether it is stored, and its time where one like it is, here or in the reference
    results. Trainings are shared among so many `workers`; timings stand alone."""
    durations = stored_durations(*map(Results, sorted(REFERENCE.glob("*"))), results)
    everything = list({planned.key: planned for plan in plans for planned in plan.planned()}.values())
    left = [planned for planned in everything if not results.has(planned.key)]
    expected = {planned.key: durations.get(str(planned.cell)) for planned in left}
    for planned in everything:
        if planned.key not in expected:
            note = "stored"
        elif expected[planned.key] is None:
            note = "time unknown"
        else:
            note = f"about {expected[planned.key]:.1f} s"
        print(f"{planned.cell}: {note}")
    known = [planned for planned in left if expected[planned.key] is not None]
    seconds = sum(expected[planned.key] / (1 if planned.cell.measurement.timed else workers) for planned in known)
    print(
        f"{len(everything)} cells, {len(left)} to measure: {len(known)} of them in about {seconds / 60:.1f} "
        f"minutes, {len(left) - len(known)} of unknown time"
    )


def stored_durations(*stored: Results) -> dict[str, float]:
    """Seconds that each stored cell took, by what the cell is; of several alike, that of the last folder."""
    return {
        facts["cell"]: facts["duration_s"]
        for results in stored
        if results.cells.is_dir()
        for facts in (results.read(file.stem)[1] for file in sorted(results.cells.glob("*.parquet")))
    }
