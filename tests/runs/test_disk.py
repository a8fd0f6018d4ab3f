"""Folders that vanish, fill up or are in use while a run measures: one line, and the same command goes on."""

import errno
import shutil
import time
from itertools import count

import pandas as pd
import pytest

from suite.claims import find as find_claim
from suite.errors import UserError
from suite.experiments.cell import Cell, Measurement
from suite.report.sections import sections
from suite.runs.plan import PRESETS, find_backends, plan_all
from suite.runs.run import run
from suite.runs.store import Results
from suite.runs.worker import measure

CLAIMS = ("gradient", "optimization")


def run_all(own_workload, folder, progress=lambda *_: None) -> None:
    claims = [find_claim(name) for name in CLAIMS]
    plans = plan_all([str(own_workload)], claims, PRESETS["quick"], find_backends([]), None)
    run(plans, Results(folder), 1, progress)


def assert_as_undisturbed(folder, trained) -> None:
    undisturbed = Results(trained)
    files = list((folder / "cells").iterdir())
    assert len(files) > 4
    for file in files:
        rows, wanted = Results(folder).read(file.stem)[0], undisturbed.read(file.stem)[0]
        pd.testing.assert_frame_equal(rows, wanted, check_exact=True)


@pytest.mark.parametrize("part", [".", "cells"])
def test_a_folder_that_vanishes_is_one_line_and_another_run_measures_all(part, tmp_path, own_workload, trained):
    folder, steps = tmp_path / "results", count()

    def vanish(*_) -> None:
        if next(steps) == 3:
            shutil.rmtree(folder / part)

    with pytest.raises(UserError, match=r"cannot write to .*\(No such file or directory\)"):
        run_all(own_workload, folder, vanish)
    run_all(own_workload, folder)
    assert_as_undisturbed(folder, trained)


def test_a_full_disk_loses_nothing(tmp_path, own_workload, trained, monkeypatch):
    folder, steps = tmp_path / "results", count()
    write_bytes = type(folder).write_bytes

    def fill_up(path, content):
        if next(steps) == 3:
            write_bytes(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, content)

    monkeypatch.setattr(type(folder), "write_bytes", fill_up)
    with pytest.raises(UserError, match=r"cannot write to .*\(No space left on device\): make room"):
        run_all(own_workload, folder)
    before = {file: file.stat().st_mtime_ns for file in (folder / "cells").glob("*.parquet")}
    assert len(before) == 3
    run_all(own_workload, folder)
    assert all(file.stat().st_mtime_ns == modified for file, modified in before.items())
    assert_as_undisturbed(folder, trained)


def test_a_full_temporary_folder_is_no_result_of_a_cell(own_workload):
    def fill_up(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/compiled.cpp")
        except OSError as error:
            raise RuntimeError("the compiler failed") from error

    cell = Cell(Measurement("filling", version=1, columns={}, measure=fill_up), "tiny", "cpu", 4, 1)
    with pytest.raises(UserError, match=r"cannot write to /tmp/compiled.cpp \(No space left on device\).* TMPDIR"):
        measure(str(own_workload), cell)


def test_reports_and_a_second_run_beside_a_run(tmp_path, own_workload, trained):
    """A report shows what is stored so far; another run is refused."""
    folder, missing = tmp_path / "results", []

    def report_and_run(*_) -> None:
        missing.append(sum(len(section.missing) for section in sections(Results(folder))))
        with pytest.raises(UserError, match=r"in use by process \d+"):
            run_all(own_workload, folder)

    run_all(own_workload, folder, report_and_run)
    assert missing == sorted(missing, reverse=True)
    assert missing[0] > missing[-1] == 0
    assert_as_undisturbed(folder, trained)


def test_a_clock_that_jumps_changes_nothing(tmp_path, own_workload, trained, monkeypatch):
    clock = count(2_000_000_000, -100_000)
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    run_all(own_workload, tmp_path / "results")
    assert_as_undisturbed(tmp_path / "results", trained)
    durations = [Results(trained).read(file.stem)[1]["duration_s"] for file in (tmp_path / "results/cells").iterdir()]
    assert all(0 <= duration < 600 for duration in durations)
