"""Have asv time cells, and read its samples as tidy rows."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from suite import devices
from suite.cells import Cell
from suite.errors import UserError
from suite.machine import ROOT, without_paths
from suite.out_of_memory import says_out_of_memory
from suite.reference import FOLDER_VARIABLE, ReferencedProcess, read_references
from suite.timings import DATA_VARIABLE, load, save
from suite.workloads import find

BENCHMARKS = {"update_time": "update.{}.time_update", "epoch_time": "epoch.{}.time_epoch"}

LONGEST_SCRATCH = 72
"""Characters of the longest folder in which asv's fork server can open its socket, whose path may have 103."""


def time_groups(source: str, groups: list[list[Cell]], threads: int) -> Iterator[list[pd.DataFrame]]:
    """Time each of `groups`, whose cells are of one workload, measurement and number of processes, one after another
    in one process of asv's, which finds its benchmarks once.

    Yields each group's rows as soon as it is timed, a frame a cell: `process`, `sample`, `time_s` and `reference_s`
    (seconds; of the reference update in the same process), `threads` and `status`; a cell that asv could not time
    is one row with `status` and `reason`.
    """
    benchmarks = ROOT / "benchmarks"
    if not benchmarks.is_dir():
        raise UserError(f"no benchmarks/ beside {ROOT / 'suite'}: run from a clone of the project (pip install -e .)")
    with tempfile.TemporaryDirectory(prefix="suite-asv-") as scratch:
        folders = [Path(scratch) / f"references-{number}" for number in range(len(groups))]
        for folder in folders:
            folder.mkdir()
        request = {
            "benchmark_dir": str(benchmarks),
            "scratch": scratch,
            "launch_method": devices.launch_method() if len(scratch) <= LONGEST_SCRATCH else "spawn",
            "benchmarks": [_asked(*group) for group in zip(groups, folders, strict=True)],
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


def _asked(cells: list[Cell], references: Path) -> dict:
    """What `suite.asv_process` is to run for `cells`."""
    first = cells[0]
    return {
        "name": BENCHMARKS[first.measurement.name].format(first.workload),
        "parameters": list(map(_parameters, cells)),
        "processes": first.repeats,
        "variables": {FOLDER_VARIABLE: str(references)},
    }


def _ask_asv(source: str, request: dict, threads: int) -> Iterator[list[dict]]:
    """The answers of `suite.asv_process`, which ends with everything below it when this process does."""
    scratch = Path(request["scratch"])
    request_file, log, data = (scratch / name for name in ("request.json", "log", "data.pt"))
    request_file.write_text(json.dumps(request))
    save(load(find(source)), data)
    environment = {
        **os.environ,
        "SUITE_WORKLOAD": str(Path(source).resolve()) if source.endswith(".py") else source,
        "SUITE_THREADS": str(threads),
        "ASV_PYTHONPATH": str(ROOT),
        "TMPDIR": str(scratch),
        DATA_VARIABLE: str(data),
    }
    command = [sys.executable, "-m", "suite.asv_process", str(request_file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        log.open("w") as said,
        subprocess.Popen(command, **pipes, stderr=said, env=environment, cwd=ROOT) as process,
    ):
        for benchmark in request["benchmarks"]:
            if not (answer := process.stdout.readline()):
                process.wait()
                *_, last = ["it said nothing", *log.read_text().strip().splitlines()]
                raise UserError(f"asv could not run {benchmark['name']}: {last}")
            yield json.loads(answer)


def _rows(cell: Cell, answer: dict, processes: list[ReferencedProcess], threads: int) -> pd.DataFrame:
    samples = answer["samples_s"]
    if samples is None:
        status = "unavailable" if answer["skipped"] else _failure(answer["reason"])
        *_, reason = ["asv gave no reason", *answer["reason"].splitlines()]
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


def _failure(said: str) -> str:
    """The status of a benchmark that failed, from what it printed."""
    return "out_of_memory" if says_out_of_memory(said) else "unavailable"
