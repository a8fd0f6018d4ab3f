import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from torch import nn

from suite import devices
from suite.workloads import Data, Workload
from tests.command import README_WORKLOAD, TRAINED, call, write_workload

no_cuda = devices.find("cuda").unavailable()
cuda = pytest.mark.skipif(no_cuda is not None, reason=str(no_cuda))

settings.register_profile("suite", deadline=None)  # the first call of torch in a process takes seconds
settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What `measured` needs is measured once, by one process of pytest. Groups of tests are the longest to run, and
    come first: none is left to one process at the end."""
    for item in items:
        if "measured" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("asv"))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(autouse=True)
def one_thread():
    """Results are compared bit by bit: no test may depend on the number of threads."""
    torch.set_num_threads(1)


def blobs(examples: int = 40) -> Data:
    """Three classes of points in four dimensions, half as many for testing."""
    generator = torch.Generator().manual_seed(5)
    total = examples + examples // 2
    targets = torch.arange(total) % 3
    inputs = torch.randn(total, 4, generator=generator) + 2 * nn.functional.one_hot(targets, 4)
    return Data(inputs[:examples], targets[:examples], inputs[examples:], targets[examples:])


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def tiny(**changes) -> Workload:
    """A workload of 40 examples, with `changes` to its fields."""
    fields = {
        "name": "tiny",
        "about": "Three blobs.",
        "load": blobs,
        "model": network,
        "batch_sizes": (1, 4, 16),
        "small": 1,
        "large": 16,
        "learning_rate": 0.1,
        "learning_rates": (0.03, 0.1),
        "epochs": 3,
        "target_loss": 0.5,
        "max_updates": 500,
        "resplit": True,
    }
    return Workload(**(fields | changes))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """`shared(name, make)`: the folder `name`, filled by `make(folder)` once for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder = root / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                (half := root / f"{name}.half").mkdir()
                make(half)
                half.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def own_workload(shared):
    """A user's own workload file."""
    return shared("own", write_workload) / "tiny.py"


@pytest.fixture(scope="session")
def trained(shared, own_workload):
    """A results folder with every cell that needs no timing."""

    def make(folder: Path) -> None:
        done = call("run", own_workload, "--preset", "quick", "--results", folder, *TRAINED)
        assert done.returncode == 0, done.stderr

    return shared("trained", make)


@pytest.fixture(scope="session")
def measured(shared):
    """A results folder of a whole quick run, asv's timings too, of the README's workload as it stands."""

    def make(folder: Path) -> None:
        file = folder.with_name("diabetes.py")
        file.write_text(README_WORKLOAD)
        done = call("run", file, "--preset", "quick", "--results", folder)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr

    return shared("measured", make)


@pytest.fixture(scope="session")
def report(measured):
    """The report of a whole quick run."""
    assert call("report", "--results", measured).returncode == 0
    return measured / "report"


@pytest.fixture
def copied(tmp_path, trained):
    """A copy of `trained` that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "results"))


@pytest.fixture
def scratch():
    """A folder of temporary files with a short path: a socket's is limited."""
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        yield Path(folder)
