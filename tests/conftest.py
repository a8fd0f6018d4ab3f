import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

from suite.workloads import Data, Workload
from tests.command import TRAINED, call, write_workload

settings.register_profile("suite", deadline=None)  # the first call of torch in a process takes seconds
settings.load_profile("suite")


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
def own_workload(tmp_path_factory):
    """A user's own workload file."""
    return write_workload(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory, own_workload):
    """A results folder with every cell that needs no timing."""
    folder = tmp_path_factory.mktemp("trained") / "results"
    done = call("run", own_workload, "--preset", "quick", "--results", folder, *TRAINED)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def measured(tmp_path_factory, own_workload):
    """A results folder of a whole quick run, asv's timings too."""
    folder = tmp_path_factory.mktemp("measured") / "results"
    done = call("run", own_workload, "--preset", "quick", "--results", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(tmp_path, trained):
    """A copy of `trained` that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "results"))
