"""Have asv time cells, and read its samples as tidy rows."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from suite import devices
from suite.devices import says_out_of_memory
from suite.errors import UserError, user_function_in
from suite.experiments.cell import Cell
from suite.machine import ROOT, without_paths
from suite.timing.reference_update import ReferencedProcess, read_references
from suite.timing.settings import REFERENCES, TimingSettings, benchmark_name
from suite.timing.timed import load, save
from suite.workloads import find

BENCHMARKS = {"update_time": "update.{}.time_update", "epoch_time": "epoch.{}.time_epoch"}

MAX_SCRATCH_LENGTH = 72
"""Most characters of a folder in which asv's fork server can open its socket, whose path may have 103."""


def time_groups(source: str, groups: list[list[Cell]], threads: int, temporary: Path) -> Iterator[list[pd.DataFrame]]:
    """Time `groups` one after another, each with cells of one workload, measurement and number of processes, in one
    process of asv's, which discovers its benchmarks once, and whose files lie in the folder `temporary`.

    Yields each group's rows as soon as it is timed, a frame a cell: `process`, `sample`, `time_s` and `reference_s`
    (seconds; of the reference update in the same process), `threads` and `status`; a cell that asv could not time
    is one row with `status` and `reason`.
    """
    benchmarks = ROOT / "benchmarks"
    if not benchmarks.is_dir():
        raise UserError(f"no benchmarks/ beside {ROOT / 'suite'}: run from a clone of the project (pip install -e .)")
    with tempfile.TemporaryDirectory(dir=temporary, prefix="") as scratch:
        folders = [Path(scratch) / f"references-{number}" for number in range(len(groups))]
        for folder in folders:
            folder.mkdir()
        request = {
            "benchmark_dir": str(benchmarks),
            "scratch": scratch,
            "launch_method": devices.launch_method() if len(scratch) <= MAX_SCRATCH_LENGTH else "spawn",
            "benchmarks": [_benchmark_request(*group) for group in zip(groups, folders, strict=True)],
        }
        for cells, folder, answers in zip(groups, folders, _ask_asv(source, request, threads), strict=True):
            references = read_references(folder)
            yield [
                _rows(cell, answer, references.get(json.dumps(_parameters(cell)), []), threads)
                for cell, answer in zip(cells, answers, strict=True)
            ]


def _parameters(cell: Cell) -> list:
    """The cell as asv's parameters."""
    return [cell.batch_size, cell.backend, cell.input_pipeline]


def _benchmark_request(cells: list[Cell], references: Path) -> dict:
    """The arguments of `suite.timing.asv_process.run_one` for `cells`."""
    first = cells[0]
    return {
        "name": BENCHMARKS[first.measurement.name].format(benchmark_name(first.workload)),
        "parameters": list(map(_parameters, cells)),
        "processes": first.repeats,
        "variables": {REFERENCES: str(references)},
    }


def _ask_asv(source: str, request: dict, threads: int) -> Iterator[list[dict]]:
    """Yield the answers of `suite.timing.asv_process`, which is ended when the caller wants no more."""
    scratch = Path(request["scratch"])
    request_file, log, data = (scratch / name for name in ("request.json", "log", "data.pt"))
    request_file.write_text(json.dumps(request))
    save(load(find(source)), data)
    workload = str(Path(source).resolve()) if source.endswith(".py") else source
    settings = TimingSettings(workload, threads, data)
    environment = {**os.environ, **settings.variables(), **_python_paths(), "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "suite.timing.asv_process", str(request_file)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, **pipes, stderr=stderr, env=environment, cwd=ROOT) as process,
    ):
        try:
            for benchmark in request["benchmarks"]:
                if not (answer := process.stdout.readline()):
                    process.wait()
                    *_, last_line = ["no message", *log.read_text().strip().splitlines()]
                    raise UserError(f"asv could not run {benchmark['name']}: {last_line}")
                yield json.loads(answer)
        finally:
            process.kill()


def _python_paths() -> dict[str, str]:
    """PYTHONPATH for processes that run in another folder, and for asv, which replaces it by ASV_PYTHONPATH."""
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(Path(part).resolve()) for part in parts if part]
    return {"PYTHONPATH": os.pathsep.join(paths), "ASV_PYTHONPATH": os.pathsep.join([str(ROOT), *paths])}


def _rows(cell: Cell, answer: dict, processes: list[ReferencedProcess], threads: int) -> pd.DataFrame:
    samples = answer["samples_s"]
    if samples is None:
        status = "unavailable" if answer["skipped"] else _failure(answer["reason"])
        *_, reason = ["asv gave no reason", *answer["reason"].splitlines()]
        if os.strerror(errno.ENOSPC) in reason:
            raise UserError(f"asv could not time {cell.workload} ({reason}): make room, and run `suite run` again")
        if where := user_function_in(answer["reason"]):
            reason = f"{where} raises {reason}"
        return pd.DataFrame([{"status": status, "reason": without_paths(reason)}])
    if len(processes) != cell.repeats or len(samples) != sum(process.samples for process in processes):
        return pd.DataFrame([{"status": "unavailable", "reason": "not every process of asv gave its samples"}])
    rows = pd.DataFrame(
        [
            (number, sample, process.reference_s)
            for number, process in enumerate(processes)
            for sample in range(process.samples)
        ],
        columns=["process", "sample", "reference_s"],
    )
    return rows.assign(time_s=samples, threads=threads if cell.backend == "cpu" else 1, status="ok")


def _failure(message: str) -> str:
    """The status of a benchmark that failed with `message`."""
    return "out_of_memory" if says_out_of_memory(message) else "unavailable"
