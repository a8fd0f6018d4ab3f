"""Run a plan: time with asv, then train, and store every cell as soon as it is measured.

Timings never run beside other work; trainings run side by side, one thread each. A run that is killed goes
on where it stopped: a stored cell is never measured again.
"""

import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from warnings import warn

import pandas as pd

from suite.backends import BACKENDS
from suite.experiments.cell import Cell
from suite.runs.executors.local import measure_all
from suite.runs.guardian import guarded
from suite.runs.plan import Planned, WorkloadPlan
from suite.runs.store import Results
from suite.runs.worker import measure, provenance
from suite.status import Status
from suite.timing.quick_timings import fastest_threads
from suite.timing.time_cells import time_groups
from suite.training.compilation import no_compiler

Progress = Callable[[str, int, int], None]
"""Called with the current task, the number of stored cells, and the number of all cells."""


def run(plans: list[WorkloadPlan], results: Results, workers: int, progress: Progress) -> None:
    """Measure every cell of `plans` that `results` lacks. Raises UserError when the folder is not usable."""
    with results.locked(), guarded() as folder:
        manifest = results.read_manifest()
        for plan in plans:
            name, entry = plan.facts.name, plan.manifest()
            manifest["workloads"][name] = _merged(manifest["workloads"].get(name), entry)
        keys = {planned.key for plan in plans for planned in plan.planned()}
        missing = {key for key in keys if not results.has(key)}
        damaged = {key for key in keys - missing if not results.is_whole(key)}
        if damaged:
            warn(f"{_damaged(results, sorted(damaged))} and will be measured again", stacklevel=2)
        missing |= damaged
        results.write_manifest(manifest)
        _Runner(results, missing, len(keys), folder, progress).run(plans, workers)


def _damaged(results: Results, keys: list[str]) -> str:
    """Which stored cells are damaged, in words."""
    first = results.path(keys[0])
    more = len(keys) - 1
    return f"{first} and {more} more are damaged" if more else f"{first} is damaged"


def _merged(stored: dict | None, planned: dict) -> dict:
    """A workload's entry in the manifest after a plan of some claims: its other claims and studies stay, unless the
    workload itself has changed."""
    if stored is None or any(stored.get(part) != planned[part] for part in ("facts", "fingerprint")):
        return planned
    plugins = ("claims", "studies")
    return {**planned, **{kind: {**stored.get(kind, {}), **planned[kind]} for kind in plugins}}


class _Runner:
    def __init__(self, results: Results, missing: set[str], total: int, folder: Path, progress: Progress):
        self.results, self.missing, self.total = results, missing, total
        self.folder, self.progress = folder, progress

    def run(self, plans: list[WorkloadPlan], workers: int) -> None:
        for plan in plans:
            self._skip_unavailable(plan)
            self._time(plan)
        self._train(plans, workers)
        self.progress("done", self.total, self.total)

    def _left(self, plan: WorkloadPlan) -> list[Planned]:
        return [planned for planned in plan.planned() if planned.key in self.missing]

    def _store(self, planned: Planned, rows: pd.DataFrame, provenance: dict) -> None:
        self.results.write(planned.cell, planned.key_fields, rows, provenance)
        self.missing.discard(planned.key)

    def _report(self, task: str) -> None:
        self.progress(task, self.total - len(self.missing), self.total)

    def _skip_unavailable(self, plan: WorkloadPlan) -> None:
        for planned in self._left(plan):
            if reason := BACKENDS[planned.cell.backend].unavailable():
                rows = pd.DataFrame([{"status": Status.UNAVAILABLE, "reason": reason}])
                self._store(planned, rows, provenance(rows, 0))

    def _time(self, plan: WorkloadPlan) -> None:
        """The thread count, then asv once for each benchmark, each alone on the machine."""
        timed = [planned for planned in self._left(plan) if planned.cell.measurement.timed]
        if plan.threads in timed:
            self._report(f"timing the number of threads · {plan.facts.name}")
            self._store(plan.threads, *measure(plan.source, plan.threads.cell))
            timed.remove(plan.threads)
        if not timed:
            return
        thread_times = self.results.read(plan.threads.key)[0]
        threads = fastest_threads(thread_times) if "threads" in thread_times else 1
        groups = [list(group) for _, group in groupby(sorted(timed, key=_benchmark), key=_benchmark)]
        cells = [[planned.cell for planned in group] for group in groups]
        times = time_groups(plan.source, cells, threads, self.folder)
        self._report(f"asv · {plan.facts.name} · {len(timed)} cells")
        started = time.monotonic()
        for group, rows in zip(groups, times, strict=True):
            seconds_per_cell = (time.monotonic() - started) / len(group)
            for planned, cell_rows in zip(group, rows, strict=True):
                self._store(planned, cell_rows, provenance(cell_rows, seconds_per_cell))
            self._report(f"{group[0].cell.measurement.name} · {plan.facts.name} · {len(group)} cells")
            started = time.monotonic()

    def _train(self, plans: list[WorkloadPlan], workers: int) -> None:
        """Measure every cell that is not a timing."""
        left = _in_good_order(list({cell.key: cell for plan in plans for cell in self._left(plan)}.values()))
        if (reason := no_compiler()) and any(planned.cell.is_ensemble for planned in left):
            self._report(f"{reason}: ensembles are not compiled, and small batches train several times slower")
        self._report(f"training · {len(left)} cells")
        cells = [(planned.source, planned.cell, planned.data_hash) for planned in left]
        for index, rows, cell_provenance in measure_all(cells, workers):
            self._store(left[index], rows, cell_provenance)
            self._report(str(left[index].cell))


def _in_good_order(left: list[Planned]) -> list[Planned]:
    """First one ensemble of each batch size, whose compiled update the rest then use; then the longest trainings,
    those to a target with large batches."""
    ensembles = sorted(
        (planned for planned in left if planned.cell.is_ensemble), key=lambda planned: planned.cell.batch_size
    )
    first = {planned.cell.batch_size: planned for planned in reversed(ensembles)}
    leaders = [first[batch_size] for batch_size in sorted(first)]
    rest = [planned for planned in left if planned not in leaders]
    return [*leaders, *sorted(rest, key=_longest_first)]


def _longest_first(planned: Planned) -> tuple[bool, int]:
    return not _to_a_target(planned.cell), -planned.cell.batch_size


def _to_a_target(cell: Cell) -> bool:
    return cell.protocol is not None and cell.protocol.budget.needs_target


def _benchmark(planned: Planned) -> tuple[str, int]:
    return planned.cell.measurement.name, planned.cell.repeats
