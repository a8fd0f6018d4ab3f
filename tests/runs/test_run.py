import getpass
import html
import json
import os
import random
import re
import signal
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from suite import machine
from suite.claims import all_claims
from suite.experiments.cell import Cell, Measurement, key_of
from suite.report.sections import sections
from suite.report.table import write_tables
from suite.runs.plan import PRESETS, find_backends, plan_all
from suite.runs.run import measure, measure_all
from suite.runs.store import Results
from suite.workloads import find
from suite.workloads.fingerprint import fingerprint
from tests.command import QUICK, TRAINED, call, call_here, suite_command, write_workload
from tests.processes import asv_is_running, started_by, wait_until

TIMES = ["time_s", "reference_s"]
EFFECT = ["value_small", "value_large", "effect", "effect_low", "effect_high", "verdict"]
SPEED = ["update_sequential", "update_parallel", "epoch_time"]


def cells_of(folder: Path) -> dict[str, pd.DataFrame]:
    """Rows of every stored cell without its times, by what the cell is. How many samples a process took depends on
    how long they took: of each the first is kept."""
    stored = Results(folder)
    found = {}
    for file in stored.cells.glob("*.parquet"):
        rows, metadata = stored.read(file.stem)
        if "sample" in rows:
            rows = rows[rows["sample"] == 0].reset_index(drop=True)
        found[metadata["cell"]] = rows.drop(columns=TIMES, errors="ignore")
    return found


def assert_same_cells(one: Path, other: Path) -> None:
    first, second = cells_of(one), cells_of(other)
    assert first.keys() == second.keys()
    for name, rows in first.items():
        pd.testing.assert_frame_equal(rows, second[name], check_exact=True)


def reported(folder: Path) -> str:
    """table.csv without what follows from times."""
    write_tables(sections(Results(folder)), folder)
    rows = pd.read_csv(folder / "table.csv", dtype=str, keep_default_na=False)
    rows.loc[rows["claim"].isin(SPEED), EFFECT] = "of times"
    return rows.to_csv()


CLAIMS = ("update_sequential", "gradient", "optimization", "generalization")
KILLED = ("--preset", "quick", *(word for claim in CLAIMS for word in ("--claim", claim)))
"""One call of asv, then trainings."""
TIMED_CELLS = 3


@pytest.fixture(scope="module")
def longer_workload(tmp_path_factory):
    """One with enough training to be killed in the middle of it, and too little to compile."""
    path = write_workload(tmp_path_factory.mktemp("longer"), "longer", epochs=20)
    rates = "learning_rates=(0.01, 0.02, 0.03, 0.1)"
    path.write_text(path.read_text().replace("learning_rates=(0.03, 0.1)", rates))
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, longer_workload):
    folder = tmp_path_factory.mktemp("undisturbed") / "results"
    assert call("run", longer_workload, *KILLED, "--results", folder).returncode == 0
    return folder


@pytest.mark.xdist_group("killed")
def test_killed_at_ten_moments_a_run_ends_with_what_an_undisturbed_one_gives(
    tmp_path, scratch, longer_workload, undisturbed
):
    """`suite run` alone is killed: once anywhere, four times while asv runs, twice while its workers train, thrice
    while it trains itself."""
    folder = tmp_path / "results"
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = suite_command("run", longer_workload, *KILLED, "--results", folder, "--workers")
    moments = random.Random(0)

    def stored() -> int:
        return len(list(folder.glob("cells/*.parquet")))

    def moment_comes() -> bool:
        assert process.poll() is None, (tmp_path / "said").read_text()
        return asv_is_running(process) if kill <= 4 else stored() > max(before, TIMED_CELLS)

    for kill in range(10):
        before = stored()
        with (tmp_path / "said").open("w") as said:
            workers = "2" if kill <= 6 else "1"
            process = psutil.Popen([*command, workers], env=environment, stdout=said, stderr=said)
        if kill == 0:
            time.sleep(moments.uniform(0, 3))
        else:
            wait_until(moment_comes)
            time.sleep(moments.uniform(0, 2 if kill <= 4 else 0.1))
            wait_until(moment_comes)
            assert stored() < (TIMED_CELLS if kill <= 4 else len(list(undisturbed.glob("cells/*"))))
        family = process.children(recursive=True)
        assert family or kill not in range(1, 7)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda: not started_by(scratch), timeout_s=10)
        assert psutil.wait_procs(family, timeout=10)[1] == []
        assert list(scratch.glob("suite-*")) == []

    assert call("run", longer_workload, *KILLED, "--results", folder).returncode == 0
    assert_same_cells(folder, undisturbed)
    assert reported(folder) == reported(undisturbed)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_order_of_cells_and_any_number_of_workers_gives_the_same_bits(own_workload, trained, workers):
    claims = [claim for claim in all_claims() if claim.name in TRAINED]
    (plan,) = plan_all([str(own_workload)], claims, PRESETS["quick"], find_backends([]), None)
    planned = plan.planned()
    random.Random(workers).shuffle(planned)
    measured = list(measure_all([(one.source, one.cell, one.data_hash) for one in planned], workers))
    assert sorted(index for index, _, _ in measured) == list(range(len(planned)))
    for index, rows, _ in measured:
        stored = Results(trained).read(planned[index].key)[0]
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), stored[list(rows)], check_exact=True)


def modified(folder) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (folder / "cells").glob("*.parquet")}


def test_a_second_run_measures_nothing(copied, own_workload):
    before = modified(copied)
    assert call_here("run", own_workload, *QUICK, "--results", copied).returncode == 0
    assert modified(copied) == before


def test_only_what_is_missing_is_measured_and_half_written_files_are_swept_away(copied, own_workload):
    before = modified(copied)
    lost = sorted((copied / "cells").glob("*.parquet"))[2]
    content, rows = lost.name, pd.read_parquet(lost)
    lost.unlink()
    (copied / "cells" / "half.tmp").write_bytes(b"half")
    assert call_here("run", own_workload, *QUICK, "--results", copied).returncode == 0
    after = modified(copied)
    assert {name for name in after if after[name] != before.get(name)} == {content}
    pd.testing.assert_frame_equal(pd.read_parquet(lost), rows, check_exact=True)
    assert not (copied / "cells" / "half.tmp").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("none left"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (RuntimeError("shapes cannot be multiplied"), "unavailable"),
    ],
)
def test_running_out_of_memory_is_told_from_other_failures(own_workload, error, status):
    def fail(workload, data, cell):
        raise error

    cell = Cell(Measurement("failing", version=1, columns={}, measure=fail), "tiny", "cpu", 4, 1)
    rows, _ = measure(str(own_workload), cell)
    assert rows["status"].tolist() == [status]
    assert str(error) in rows["reason"].item()


def test_a_cell_that_fails_is_a_row_with_its_reason_and_others_go_on(tmp_path):
    path = write_workload(tmp_path, "picky")
    picky = (
        "class Picky(nn.ReLU):\n    def forward(self, x):\n        assert len(x) != 16, 'not 16'\n        return x"
    )
    text = path.read_text().replace("nn.Linear(4, 8), nn.ReLU()", "nn.Linear(4, 8), Picky()")
    path.write_text(text.replace("def load():", f"{picky}\n\n\ndef load():"))
    folder = tmp_path / "results"
    done = call_here(
        "run", path, "--claim", "optimization", "--preset", "quick", "--workers", "1", "--results", folder
    )
    assert done.returncode == 0, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == f"stored in {folder}; `suite report --results {folder}` makes the page of it"
    rows = pd.concat(cells_of(folder).values())
    failed = rows[rows["status"] == "unavailable"]
    assert set(failed["batch_size"]) == {16}
    assert failed["reason"].str.fullmatch(r"forward in picky.py, line \d+, raises AssertionError: not 16").all()
    assert rows.loc[rows["batch_size"] == 1, "train_loss"].notna().all()
    assert call_here("report", "--results", folder).returncode == 0


OWN_OPTIMIZER = """
import torch
from suite.optimizers import Optimizer, adamw
from tests.conftest import tiny

workload = tiny(
    name="{name}", optimizer={optimizer}, learning_rate=0.01, learning_rates=(0.003, 0.01), fitted_loss=0.3
)
"""


def run_with_optimizer(folder: Path, name: str, optimizer: str, *options: str) -> tuple[Path, str]:
    """The results of a quick run of a workload file that names this optimizer, and what the run says on stderr."""
    file, results = folder / f"{name}.py", folder / "results"
    file.write_text(OWN_OPTIMIZER.format(name=name, optimizer=optimizer))
    done = call_here("run", file, "--preset", "quick", "--workers", 1, *options, "--results", results)
    assert done.returncode == 0, done.stderr
    return results, done.stderr


def text_of(page: Path) -> str:
    """A page without its tags and its style, in one line."""
    plain = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(plain).split())


def test_the_report_of_an_adamw_workload_says_what_is_true_of_adamw(tmp_path):
    results, said = run_with_optimizer(tmp_path, "adaptive", "adamw()", *TRAINED, "--claim", "momentum_sum")
    assert "one replica after another" not in said
    assert call_here("report", "--results", results).returncode == 0
    text = text_of(results / "report" / "index.html")
    for untrue in ("plain descent", "plain gradient descent", "torch.optim.SGD keeps"):
        assert untrue.lower() not in text.lower()
    assert "or to a training loss of 0.5; AdamW, unless a row says otherwise." in text
    assert "and momentum β1 = 0.9." in text
    assert "(before AdamW divides each coordinate by its root mean square gradient), up to a" in text
    rows = pd.read_csv(results / "report" / "table.csv")
    assert set(rows["claim"]) == {"gradient", "optimization", "generalization", "sharpness", "momentum_sum"}
    assert set(rows["status"]) == {"ok"}
    assert rows["protocol"].str.startswith("AdamW, ").all()
    assert rows.loc[rows["claim"] == "momentum_sum", "verdict"].tolist() == ["checked"]


def test_an_optimizer_without_a_stacked_form_trains_plainly_and_the_run_says_so(tmp_path):
    adadelta = "Optimizer.of(torch.optim.Adadelta)"
    results, said = run_with_optimizer(tmp_path, "rms", adadelta, "--claim", "optimization")
    (warning,) = [line for line in said.splitlines() if "one replica after another" in line]
    assert warning.startswith("suite: warning: rms is trained one replica after another")
    assert "train in ensembles, not Adadelta" in warning
    for file in Results(results).cells.iterdir():
        rows, metadata = Results(results).read(file.stem)
        assert metadata["key_fields"]["replicas_per_call"] == 1
        assert metadata["key_fields"]["protocol"]["optimizer"]["name"] == "Adadelta"
        assert set(rows["status"]) == {"ok"}
    assert call_here("report", "--results", results).returncode == 0
    assert "Adadelta, unless a row says otherwise." in text_of(results / "report" / "index.html")


def test_every_cell_says_where_it_comes_from_and_nothing_of_whom(measured, report):
    for file in Results(measured).cells.glob("*.parquet"):
        metadata = Results(measured).read(file.stem)[1]
        wanted = "key commit machine gpu torch python threads key_fields duration_s cell"
        assert set(wanted.split()) <= set(metadata)
        assert key_of(metadata["key_fields"]) == metadata["key"] == file.stem
        timed = metadata["key_fields"]["measurement"] in ("update_time", "epoch_time", "threads")
        assert ("base_seed" in metadata["key_fields"]) == (not timed)
        assert re.fullmatch("[0-9a-f]{16}", metadata["key_fields"]["fingerprint"])
        assert_says_nothing_of_whom(json.dumps(metadata))
    for file in (measured / "manifest.json", *(report / name for name in ("table.csv", "table.md", "index.html"))):
        assert_says_nothing_of_whom(file.read_text())


def test_the_worker_that_measured_a_cell_says_on_what(tmp_path, own_workload, monkeypatch):
    """The process that starts the workers believes that it is another machine."""
    monkeypatch.setattr(machine, "describe", lambda: {"machine": "another machine"})
    asked = ("--preset", "quick", "--claim", "optimization", "--workers", 2, "--results", tmp_path)
    assert call_here("run", own_workload, *asked).returncode == 0
    monkeypatch.undo()
    cells = [Results(tmp_path).read(file.stem)[1] for file in (tmp_path / "cells").iterdir()]
    assert len(cells) == 4
    workload = find(str(own_workload))
    for metadata in cells:
        assert metadata["machine"] == machine.describe()["machine"]
        assert metadata["torch"] == torch.__version__
        assert metadata["threads"] == 1
        assert metadata["duration_s"] > 0
        assert metadata["key_fields"]["fingerprint"] == fingerprint(workload, workload.load())
        assert metadata["key_fields"]["base_seed"] == workload.base_seed


def assert_says_nothing_of_whom(text: str) -> None:
    words = re.sub(r"base64,[^\"]*|<style>.*?</style>", "", text, flags=re.DOTALL)
    for secret in (os.uname().nodename, getpass.getuser(), os.path.expanduser("~"), tempfile.gettempdir()):
        assert not re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", words), secret
