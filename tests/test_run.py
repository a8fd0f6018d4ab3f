import getpass
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pandas as pd
import psutil
import pytest

from suite.cells import Cell
from suite.results import Results
from suite.run import measure, measure_all
from suite.training.plain import TRAINING
from suite.training.protocol import EqualEpochs, Protocol
from tests.command import TRAINED, call, suite_command, write_workload

UNTIMED = ("gradient", "optimization", "generalization")


def cells_of(folder) -> dict[str, pd.DataFrame]:
    """Rows of every stored cell that is no timing, by what it is."""
    stored = Results(folder)
    found = {}
    for file in stored.cells.glob("*.parquet"):
        rows, metadata = stored.read(file.stem)
        if "time_s" not in rows:
            found[metadata["cell"]] = rows
    return found


def assert_same_cells(one, other) -> None:
    first, second = cells_of(one), cells_of(other)
    assert first.keys() == second.keys()
    for name, rows in first.items():
        pd.testing.assert_frame_equal(rows, second[name], check_exact=True)


def untimed_table(folder) -> str:
    table = pd.read_csv(folder / "report" / "table.csv")
    return table[table["claim"].isin(UNTIMED)].to_csv(index=False)


def below(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_of_asv(process: psutil.Process) -> bool:
    try:
        return any("asv" in word for word in process.cmdline())
    except psutil.Error:
        return False


def kill_when(process: subprocess.Popen, moment, wait_s: float) -> bool:
    """Kill `process`, and it alone, `wait_s` after `moment(below)`; whether it was still running. What ran below
    it must be gone within ten seconds."""
    deadline = time.monotonic() + 120
    while process.poll() is None and not moment(below(process)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(wait_s)
    family = below(process)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    alive = [survivor for survivor in alive if survivor.is_running() and survivor.status() != psutil.STATUS_ZOMBIE]
    assert alive == []
    return running


def test_killed_at_ten_moments_a_run_ends_with_what_an_undisturbed_one_gives(tmp_path, own_workload, measured):
    """Four of the kills while asv runs, six while anything does."""
    folder = tmp_path / "results"
    command = suite_command("run", own_workload, "--preset", "quick", "--results", folder)
    moments = random.Random(0)
    during_asv = 0
    for kill in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill < 4:
            during_asv += kill_when(process, lambda family: any(map(is_of_asv, family)), moments.uniform(0, 4))
            if kill == 3:
                keep_timings(measured, folder)
        else:
            kill_when(process, lambda family: len(family) >= 2, moments.uniform(0, 0.8))
    assert during_asv == 4
    assert call("run", own_workload, "--preset", "quick", "--results", folder).returncode == 0
    for results in (folder, measured):
        assert call("report", "--results", results).returncode == 0
    assert_same_cells(folder, measured)
    assert untimed_table(folder) == untimed_table(measured)


def keep_timings(source, folder) -> None:
    """Spare the remaining runs asv's half a minute: timings are not compared."""
    for file in (source / "cells").glob("*.parquet"):
        if "time_s" in pd.read_parquet(file):
            shutil.copy(file, folder / "cells")


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bits(tmp_path, own_workload, trained, workers):
    folder = tmp_path / "results"
    arguments = ("run", own_workload, *TRAINED, "--preset", "quick", "--results", folder, "--workers", workers)
    assert call(*arguments).returncode == 0
    assert_same_cells(folder, trained)


def test_any_order_of_cells_gives_the_same_bits(tmp_path):
    source = str(write_workload(tmp_path, "shuffled"))
    cells = [
        (source, Cell(TRAINING, "shuffled", "cpu", size, 2, Protocol(rate, EqualEpochs(2))))
        for size in (1, 4, 16)
        for rate in (0.03, 0.1)
    ]
    in_order = [measure(*cell)[0] for cell in cells]
    backwards = {index: rows for index, rows, _ in measure_all(cells[::-1], workers=2)}
    for index, rows in enumerate(in_order):
        pd.testing.assert_frame_equal(rows, backwards[len(cells) - 1 - index], check_exact=True)


def modified(folder) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (folder / "cells").glob("*.parquet")}


def test_a_second_run_measures_nothing(copied, own_workload):
    before = modified(copied)
    assert call("run", own_workload, *TRAINED, "--preset", "quick", "--results", copied).returncode == 0
    assert modified(copied) == before


def test_only_what_is_missing_is_measured_and_half_written_files_are_swept_away(copied, own_workload):
    before = modified(copied)
    lost = sorted((copied / "cells").glob("*.parquet"))[2]
    content, rows = lost.name, pd.read_parquet(lost)
    lost.unlink()
    (copied / "cells" / "half.tmp").write_bytes(b"half")
    assert call("run", own_workload, *TRAINED, "--preset", "quick", "--results", copied).returncode == 0
    after = modified(copied)
    assert {name for name in after if after[name] != before.get(name)} == {content}
    pd.testing.assert_frame_equal(pd.read_parquet(lost), rows, check_exact=True)
    assert not (copied / "cells" / "half.tmp").exists()


def test_a_cell_that_fails_is_a_row_with_its_reason_and_others_go_on(tmp_path):
    path = write_workload(tmp_path, "normed")
    batch_norm = "nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()"
    path.write_text(path.read_text().replace("nn.Linear(4, 8), nn.ReLU()", batch_norm))
    folder = tmp_path / "results"
    done = call("run", path, "--claim", "optimization", "--preset", "quick", "--results", folder)
    assert done.returncode == 0, done.stderr
    rows = pd.concat(cells_of(folder).values())
    failed = rows[rows["status"] == "unavailable"]
    assert set(failed["batch_size"]) == {1}
    assert failed["reason"].str.contains("more than 1 value per channel").all()
    assert rows.loc[rows["batch_size"] == 16, "train_loss"].notna().all()
    assert call("report", "--results", folder).returncode == 0


def test_every_cell_says_where_it_comes_from_and_nothing_of_whom(measured):
    assert call("report", "--results", measured).returncode == 0
    for file in Results(measured).cells.glob("*.parquet"):
        metadata = Results(measured).read(file.stem)[1]
        wanted = "schema_version key commit machine gpu torch python threads base_seed fingerprint duration_s cell"
        assert set(wanted.split()) <= set(metadata)
        assert_says_nothing_of_whom(json.dumps(metadata))
    for name in ("manifest.json", "report/table.csv", "report/table.md", "report/index.html"):
        assert_says_nothing_of_whom((measured / name).read_text())


def assert_says_nothing_of_whom(text: str) -> None:
    words = re.sub(r"base64,[^\"]*|<style>.*?</style>", "", text, flags=re.DOTALL)
    for secret in (os.uname().nodename, getpass.getuser(), os.path.expanduser("~"), tempfile.gettempdir()):
        assert not re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", words), secret
