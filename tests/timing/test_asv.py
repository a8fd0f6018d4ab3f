"""asv: its benchmarks, its samples as rows, and its machine file."""

import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import torch
from asv import runner
from asv.config import Config
from asv.machine import Machine
from asv.plugin_manager import PluginManager

from suite import devices
from suite.backends import ACCELERATORS, BACKENDS
from suite.experiments.cell import Cell
from suite.runs.store import Results
from suite.timing import asv_machine
from suite.timing.asv_machine import machine
from suite.timing.reference_update import ReferencedProcess, read_references
from suite.timing.time_cells import _rows
from suite.timing.timed import UPDATE_TIME
from tests.command import ROOT


@pytest.fixture(scope="module")
def timings(measured):
    """Rows of every timing of the whole quick run."""
    stored = Results(measured)
    rows = pd.concat([stored.read(file.stem)[0] for file in stored.cells.glob("*.parquet")])
    return rows[rows["measurement"].isin(["update_time", "epoch_time"])]


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="pytest runs in one process")
@pytest.mark.xdist_group("asv")
def test_timings_run_in_one_process_of_pytest(request):
    """pytest-xdist 3.8 loses its groups in pytest 9.2, without an error."""
    assert request.node.nodeid.endswith("@asv")


def test_every_process_of_every_cell_has_its_samples(timings):
    ok = timings[timings["status"] == "ok"]
    cell = ["measurement", "backend", "input_pipeline", "batch_size"]
    counts = ok.groupby([*cell, "process"]).size()
    assert set(counts.groupby(cell).size()) == {2}
    timed = [("sequential", "resident"), ("cpu", "resident"), ("cpu", "dataloader")]
    wanted = {
        (name, *input_pipeline, size)
        for name in ("update_time", "epoch_time")
        for input_pipeline in timed
        for size in (1, 256)
    }
    assert wanted <= set(counts.droplevel("process").index)
    assert all(2 <= count <= 7 for count in counts["update_time"])  # fewer where the machine was busy
    assert counts["update_time"].median() == 7
    assert all(count == 1 for count in counts["epoch_time"])
    assert (ok["time_s"] > 0).all()
    assert (ok["reference_s"] > 0).all()


def test_a_sequential_update_takes_longer_with_every_example(timings):
    """256 examples one after another take many times as long as one: the samples went to the right cells."""
    updates = timings[(timings["measurement"] == "update_time") & (timings["backend"] == "sequential")]
    medians = (updates["time_s"] / updates["reference_s"]).groupby(updates["batch_size"]).median()
    assert medians[256] > 50 * medians[1]


def test_every_available_backend_is_timed_where_none_is_named(timings):
    available = {name for name, backend in BACKENDS.items() if backend.unavailable() is None}
    assert set(timings["backend"]) == available


def test_an_unavailable_backend_is_declined_with_its_reason(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr("suite.devices.Accelerator.unavailable", lambda device: "no such device")
    from benchmarks.update import digits

    with pytest.raises(NotImplementedError, match="no such device"):
        digits().setup(1, 4, ACCELERATORS[0].name, "resident")


def test_setup_is_made_once_for_a_parameter_set(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.update import digits

    benchmark = digits()
    benchmark.setup(1, 4, "cpu", "resident")
    timed = benchmark.timed
    benchmark.setup(1, 4, "cpu", "resident")
    assert benchmark.timed is timed
    benchmark.setup(1, 8, "cpu", "resident")
    assert benchmark.timed is not timed


@pytest.mark.parametrize(("backend", "threads"), [("cpu", 2), ("sequential", 1)])
def test_one_example_at_a_time_is_timed_on_one_thread(monkeypatch, backend, threads):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.update import digits

    benchmark = digits()
    benchmark.sequential_limit_s = math.inf
    benchmark.setup(2, 4, backend, "resident")
    assert torch.get_num_threads() == threads


def test_sequential_declines_an_update_that_would_take_too_long(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.update import digits

    benchmark = digits()
    benchmark.sequential_limit_s = 1e-6
    with pytest.raises(NotImplementedError, match="sequential would take over"):
        benchmark.setup(1, 4, "sequential", "resident")


@pytest.fixture
def launch_methods(monkeypatch, tmp_path):
    """The launch methods with which asv starts its processes, once the plugin is loaded."""
    methods = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Machine, "hardcoded_machine_name", None)
    monkeypatch.setattr(runner, "get_spawner", runner.get_spawner)
    monkeypatch.setattr(asv_machine, "asv_get_spawner", lambda environment, folder, method: methods.append(method))
    return methods


@pytest.mark.parametrize(("fastest", "method"), [("cpu", "forkserver"), ("cuda", "spawn"), ("mps", "spawn")])
def test_the_plugin_has_asv_fork_where_there_is_only_the_cpu(launch_methods, monkeypatch, fastest, method):
    monkeypatch.setattr(devices, "fastest", lambda: devices.find(fastest))
    PluginManager().import_plugin(".suite.timing.asv_machine")
    for given in (None, "auto", "spawn", "forkserver"):
        runner.get_spawner(None, "benchmarks", launch_method=given)
    assert launch_methods == [method, method, "spawn", "forkserver"]


def test_the_configuration_leaves_the_launch_method_to_the_plugin():
    assert Config.load(str(ROOT / "asv.conf.json")).launch_method is None


def test_the_plugin_works_where_torch_is_not_installed(launch_methods, monkeypatch):
    monkeypatch.setattr(asv_machine, "devices", None)
    PluginManager().import_plugin(".suite.timing.asv_machine")
    runner.get_spawner(None, "benchmarks", launch_method="auto")
    assert launch_methods == ["spawn"]
    assert machine()["gpu"] == "none"


def test_the_machine_is_named_after_its_gpu_too(monkeypatch):
    gpu = devices.find("cuda")
    monkeypatch.setattr(devices, "fastest", lambda: gpu)
    monkeypatch.setattr(devices.Accelerator, "name", lambda device: "NVIDIA H100 80GB HBM3")
    assert machine()["gpu"] == "NVIDIA H100 80GB HBM3"
    assert machine()["machine"].endswith("-cores-nvidia-h100-80gb-hbm3")


def asv(*arguments, home) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HOME": str(home)}
    command = [sys.executable, "-m", "asv", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )


def test_asv_check_finds_no_problem_and_the_machine_file_is_written_without_asking(tmp_path):
    done = asv("check", "--environment", f"existing:{sys.executable}", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = json.loads((tmp_path / ".asv-machine.json").read_text())
    facts = stored[machine()["machine"]]
    assert set(facts) >= {"gpu", "cpu", "ram", "os", "num_cpu"}
    assert os.uname().nodename not in stored


def normal(package: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def with_requirements(packages: set[str]) -> set[str]:
    """`packages` and, transitively, their requirements without extras."""
    resolved, left = set(), set(packages)
    while left:
        resolved.add(package := left.pop())
        try:
            required = importlib.metadata.requires(package) or []
        except importlib.metadata.PackageNotFoundError:  # required on another system
            required = []
        names = {re.match(r"[\w.-]+", line).group() for line in required if "extra ==" not in line}
        left |= {normal(name) for name in names} - resolved
    return resolved


IMPORTED = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
for module in pkgutil.walk_packages(["benchmarks"], "benchmarks."):
    importlib.import_module(module.name)
from suite.workloads import find
find("digits").load(), find("mnist"), find("cifar10")
"""


def test_the_packages_that_asv_installs_are_enough_for_every_benchmark():
    """In an environment of its own asv imports every module of `benchmarks/`, to discover and to run benchmarks."""
    install = json.loads((ROOT / "asv.conf.json").read_text())["install_command"][0].split()
    packages = set(install[install.index("{conf_dir}/constraints.txt") + 1 :])
    installed = with_requirements({"torch", *map(normal, packages)})
    ours = with_requirements({"batch-size-suite"}) - {"batch-size-suite"}
    modules = importlib.metadata.packages_distributions().items()
    missing = [module for module, names in modules if {normal(name) for name in names} & (ours - installed)]
    assert "typer" in missing
    done = subprocess.run([sys.executable, "-c", IMPORTED, *missing], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_reference_is_timed_between_the_calls(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("SUITE_REFERENCES", str(tmp_path))
    from benchmarks.update import digits

    benchmark = digits()
    for _ in range(25):
        benchmark.setup(1, 4, "cpu", "resident")
        benchmark.time_update(1, 4, "cpu", "resident")
    (times,) = tmp_path.iterdir()
    assert len(times.read_text().splitlines()) == 2 + math.ceil(25 / max(1, benchmark.number // 2))
    (process,) = read_references(tmp_path)['[4, "cpu", "resident"]']
    assert process.samples == 7
    assert process.reference_s > 0


def test_samples_go_to_the_process_that_took_them():
    """A slow update has two samples in a process, a fast one fifteen, and one on the border either number."""
    cell = Cell(UPDATE_TIME, "tiny", "cpu", 4, repeats=2)
    processes = [ReferencedProcess(2, 0.1), ReferencedProcess(3, 0.2)]
    rows = _rows(cell, {"samples_s": [1.0, 2.0, 3.0, 4.0, 5.0]}, processes, threads=1)
    assert rows["process"].tolist() == [0, 0, 1, 1, 1]
    assert rows["time_s"].tolist() == [1, 2, 3, 4, 5]
    assert rows["reference_s"].tolist() == [0.1, 0.1, 0.2, 0.2, 0.2]


def test_the_samples_of_a_missing_process_go_to_no_process():
    cell = Cell(UPDATE_TIME, "tiny", "cpu", 4, repeats=2)
    (row,) = _rows(cell, {"samples_s": [1.0, 2.0]}, [ReferencedProcess(2, 0.1)], threads=1).to_dict("records")
    assert row["status"] == "unavailable"
