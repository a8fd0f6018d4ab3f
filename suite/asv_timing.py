"""Have asv time the cells of one benchmark, and read its samples as tidy rows."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from suite.cells import Cell
from suite.errors import UserError
from suite.machine import ROOT, launch_method, without_paths
from suite.reference import FOLDER_VARIABLE, ReferencedProcess, read_references
from suite.timings import DATA_VARIABLE, load, save
from suite.workloads import find

BENCHMARKS = {"update_time": "update.{}.time_update", "epoch_time": "epoch.{}.time_epoch"}

LONGEST_SCRATCH = 72
"""Characters of the longest folder in which asv's fork server can open its socket, whose path may have 103."""


def time_cells(source: str, cells: list[Cell], threads: int) -> list[pd.DataFrame]:
    """Time `cells`, all of one workload and measurement, in one call of asv.

    Returns each cell's rows: `process`, `sample`, `time_s` and `reference_s` (seconds; of the reference
    update in the same process), `threads` and `status`; a cell that
    asv could not time is one row with `status` and `reason`.
    """
    answers, references = _ask_asv(source, cells, threads)
    return [
        _rows(cell, answer, references.get(json.dumps(_parameters(cell)), []), threads)
        for cell, answer in zip(cells, answers, strict=True)
    ]


def _parameters(cell: Cell) -> list:
    """The cell as asv's parameters."""
    return [cell.batch_size, cell.backend, cell.arm]


def _ask_asv(source: str, cells: list[Cell], threads: int) -> tuple[list[dict], dict[str, list[ReferencedProcess]]]:
    """Run `suite.asv_process`, which ends with everything below it when this process does."""
    benchmarks = ROOT / "benchmarks"
    if not benchmarks.is_dir():
        raise UserError(f"no benchmarks/ beside {ROOT / 'suite'}: run from a clone of the project (pip install -e .)")
    first = cells[0]
    with tempfile.TemporaryDirectory(prefix="suite-asv-") as scratch:
        request, answer, log, references, data = (
            Path(scratch) / name for name in ("request.json", "answer.json", "log", "references", "data.pt")
        )
        references.mkdir()
        save(load(find(source)), data)
        request.write_text(
            json.dumps(
                {
                    "benchmark_dir": str(benchmarks),
                    "scratch": scratch,
                    "benchmark": BENCHMARKS[first.measurement.name].format(first.workload),
                    "parameters": list(map(_parameters, cells)),
                    "processes": first.repeats,
                    "launch_method": launch_method() if len(scratch) <= LONGEST_SCRATCH else "spawn",
                }
            )
        )
        environment = {
            **os.environ,
            "SUITE_WORKLOAD": str(Path(source).resolve()) if source.endswith(".py") else source,
            "SUITE_THREADS": str(threads),
            "ASV_PYTHONPATH": str(ROOT),
            "TMPDIR": scratch,
            FOLDER_VARIABLE: str(references),
            DATA_VARIABLE: str(data),
        }
        command = [sys.executable, "-m", "suite.asv_process", str(request), str(answer)]
        with (
            log.open("w") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
            ) as process,
        ):
            process.wait()
        if process.returncode != 0 or not answer.exists():
            last = log.read_text().strip().splitlines()[-1:] or ["it said nothing"]
            raise UserError(f"asv could not run {first.measurement.name} of {first.workload}: {last[0]}")
        return json.loads(answer.read_text()), read_references(references)


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
    return "out_of_memory" if "out of memory" in said.lower() or "MemoryError" in said else "unavailable"
