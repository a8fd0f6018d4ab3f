"""Run a plan: time with asv, then train, and store every cell as soon as it is measured.

Timings never run beside other work; trainings run side by side, one thread each. A run that is killed goes
on where it stopped: a stored cell is never measured again.
"""

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import groupby

import joblib
import pandas as pd
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from suite import machine
from suite.asv_timing import time_groups
from suite.backends import BACKENDS
from suite.cells import Cell
from suite.data_home import DataWarning
from suite.out_of_memory import out_of_memory
from suite.plan import Planned, WorkloadPlan
from suite.quick_timings import fastest_threads
from suite.results import Results
from suite.training.compilation import no_compiler
from suite.workloads import Data, Workload, find

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many cells are stored, and how many there are."""


def run(plans: list[WorkloadPlan], results: Results, workers: int, progress: Progress) -> None:
    """Measure every cell of `plans` that `results` lacks. Raises UserError when the folder is not usable."""
    with results.locked():
        manifest = results.read_manifest()
        for plan in plans:
            name, planned = plan.facts.name, plan.manifest()
            manifest["workloads"][name] = _merged(manifest["workloads"].get(name), planned)
        everything = {planned.key for plan in plans for planned in plan.planned()}
        missing = {key for key in everything if not results.has(key)}
        for key in sorted(everything - missing):
            results.check(key)
        results.write_manifest(manifest)
        _Runner(results, missing, len(everything), progress).run(plans, workers)


def _merged(stored: dict | None, planned: dict) -> dict:
    """A workload of the manifest after a plan of some claims: the others stay, unless the workload is another now."""
    if stored is None or any(stored.get(part) != planned[part] for part in ("facts", "fingerprint")):
        return planned
    return {**planned, "claims": {**stored["claims"], **planned["claims"]}}


class _Runner:
    def __init__(self, results: Results, missing: set[str], total: int, progress: Progress):
        self.results, self.missing, self.total, self.progress = results, missing, total, progress

    def run(self, plans: list[WorkloadPlan], workers: int) -> None:
        for plan in plans:
            self._skip_unavailable(plan)
            self._time(plan)
        self._train(plans, workers)
        self.progress("done", self.total, self.total)

    def _left(self, plan: WorkloadPlan) -> list[Planned]:
        return [planned for planned in plan.planned() if planned.key in self.missing]

    def _store(self, planned: Planned, rows: pd.DataFrame, provenance: dict) -> None:
        about = {"cell": str(planned.cell), "key_fields": planned.key_fields}
        self.results.write(planned.key, planned.cell, rows, {**provenance, **about})
        self.missing.discard(planned.key)

    def _say(self, what: str) -> None:
        self.progress(what, self.total - len(self.missing), self.total)

    def _skip_unavailable(self, plan: WorkloadPlan) -> None:
        for planned in self._left(plan):
            if reason := BACKENDS[planned.cell.backend].unavailable():
                rows = pd.DataFrame([{"status": "unavailable", "reason": reason}])
                self._store(planned, rows, provenance(rows, 0))

    def _time(self, plan: WorkloadPlan) -> None:
        """The thread count, then asv once for each benchmark, each alone on the machine."""
        timed = [planned for planned in self._left(plan) if planned.cell.measurement.timed]
        if plan.threads in timed:
            self._say(f"timing the number of threads · {plan.facts.name}")
            self._store(plan.threads, *measure(plan.source, plan.threads.cell))
            timed.remove(plan.threads)
        if not timed:
            return
        counted = self.results.read(plan.threads.key)[0]
        threads = fastest_threads(counted) if "threads" in counted else 1
        groups = [list(group) for _, group in groupby(sorted(timed, key=_benchmark), key=_benchmark)]
        answers = time_groups(plan.source, [[planned.cell for planned in group] for group in groups], threads)
        self._say(f"asv · {plan.facts.name} · {len(timed)} cells")
        started = time.monotonic()
        for group, rows in zip(groups, answers, strict=True):
            each = (time.monotonic() - started) / len(group)
            for planned, cell_rows in zip(group, rows, strict=True):
                self._store(planned, cell_rows, provenance(cell_rows, each))
            self._say(f"{group[0].cell.measurement.name} · {plan.facts.name} · {len(group)} cells")
            started = time.monotonic()

    def _train(self, plans: list[WorkloadPlan], workers: int) -> None:
        """Everything else."""
        left = list({planned.key: planned for plan in plans for planned in self._left(plan)}.values())
        left = _in_good_order(left)
        if (reason := no_compiler()) and any(planned.cell.engine == "ensemble" for planned in left):
            self._say(f"{reason}: ensembles are not compiled, and small batches train several times slower")
        self._say(f"training · {len(left)} cells")
        for index, rows, measured_by in measure_all([(planned.source, planned.cell) for planned in left], workers):
            self._store(left[index], rows, measured_by)
            self._say(str(left[index].cell))


def _in_good_order(left: list[Planned]) -> list[Planned]:
    """An ensemble of each batch size first, so that what it compiles is there for the others; then what takes
    longest, trainings to a target with large batches."""
    ensembles = sorted((one for one in left if one.cell.engine == "ensemble"), key=lambda one: one.cell.batch_size)
    first = {one.cell.batch_size: one for one in reversed(ensembles)}
    leaders = [first[batch_size] for batch_size in sorted(first)]
    others = [one for one in left if one not in leaders]
    return [*leaders, *sorted(others, key=lambda one: (not _to_a_target(one.cell), -one.cell.batch_size))]


def _to_a_target(cell: Cell) -> bool:
    return cell.protocol is not None and cell.protocol.budget.needs_target


def _benchmark(planned: Planned) -> tuple[str, int]:
    return planned.cell.measurement.name, planned.cell.repeats


def measure_all(cells: list[tuple[str, Cell]], workers: int) -> Iterator[tuple[int, pd.DataFrame, dict]]:
    """Measure cells in `workers` processes, and yield (index, rows, provenance) as each is done.

    When a process is killed, as Linux does where memory runs out, nobody knows which cell did it: those that are
    left are then measured one at a time, each alone.
    """
    left = dict(enumerate(cells))
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")  # joblib renews it: it grew
    tasks = (joblib.delayed(_measure_in_worker)(os.getpid(), index, *cell) for index, cell in enumerate(cells))
    parallel = joblib.Parallel(n_jobs=workers, batch_size=1, pre_dispatch="2*n_jobs", return_as="generator_unordered")
    try:
        for index, rows, measured_by in parallel(tasks):
            del left[index]
            yield index, rows, measured_by
    except TerminatedWorkerError:
        for index, cell in left.items():
            yield _measure_alone(index, *cell)


def _measure_alone(index: int, source: str, cell: Cell) -> tuple[int, pd.DataFrame, dict]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        try:
            return alone.submit(_measure_in_worker, os.getpid(), index, source, cell).result()
        except BrokenProcessPool:
            rows = _failed("out_of_memory", MemoryError("the process that measured it was killed"))
            return index, rows, provenance(rows, 0)


def _measure_in_worker(parent: int, index: int, source: str, cell: Cell) -> tuple[int, pd.DataFrame, dict]:
    _end_with(parent)
    return index, *measure(source, cell)


def measure(source: str, cell: Cell) -> tuple[pd.DataFrame, dict]:
    """A cell's rows, and their provenance; on one thread. A failure is a row with a status and a reason."""
    torch.set_num_threads(1)
    workload, data = _loaded(source)
    started = time.monotonic()
    try:
        rows = cell.measurement.measure(workload, data, cell)
    except Exception as error:
        rows = _failed("out_of_memory" if out_of_memory(error) else "unavailable", error)
    return rows, provenance(rows, time.monotonic() - started)


def provenance(rows: pd.DataFrame, duration_s: float) -> dict:
    """Of `rows` that this process, on this machine, has measured in `duration_s` seconds."""
    threads = int(rows["threads"].max()) if "threads" in rows else 1
    return machine.provenance(threads, duration_s)


def _failed(status: str, error: Exception) -> pd.DataFrame:
    reason = machine.without_paths(" ".join(f"{type(error).__name__}: {error}".split()))
    return pd.DataFrame([{"status": status, "reason": reason[:200]}])


@cache
def _loaded(source: str) -> tuple[Workload, Data]:
    workload = find(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the plan has said so
        return workload, workload.load()


@cache
def _end_with(parent: int) -> None:
    """End this process when `parent` dies: a worker would otherwise finish its cell for nobody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    if os.getpid() != parent:
        threading.Thread(target=watch, daemon=True).start()
