"""The command line as a user calls it, and a small workload of a user's own."""

import contextlib
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

from suite.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
(README_WORKLOAD,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

WORKLOAD = '''
"""Forty points of three kinds."""

import torch
from torch import nn

from suite.workloads import Data, Workload


def load():
    generator = torch.Generator().manual_seed(5)
    targets = torch.arange(60) % 3
    inputs = torch.randn(60, 4, generator=generator) + 2 * nn.functional.one_hot(targets, 4)
    return Data(inputs[:40], targets[:40], inputs[40:], targets[40:])


workload = Workload(
    name="{name}",
    about="Forty points of three kinds.",
    load=load,
    model=lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
    batch_sizes=(1, 4, 16),
    small=1,
    large=16,
    learning_rate=0.1,
    learning_rates=(0.03, 0.1),
    epochs={epochs},
    target_loss=0.5,
    fitted_loss=0.3,
    max_updates=500,
    resplit=True,
)
'''
TRAINED = ("--claim", "gradient", "--claim", "optimization", "--claim", "generalization", "--claim", "sharpness")
"""The claims that need no timing."""
QUICK = ("--preset", "quick", "--workers", "1", *TRAINED)
"""Measured in the calling process itself, which spares workers their start."""


def write_workload(folder: Path, name: str = "tiny", epochs: int = 3) -> Path:
    path = folder / f"{name}.py"
    path.write_text(WORKLOAD.format(name=name, epochs=epochs))
    return path


def suite_command(*arguments) -> list[str]:
    return [sys.executable, "-m", "suite", *map(str, arguments)]


def call(*arguments, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        suite_command(*arguments),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=folder or ROOT,
        env={**os.environ, **environment},
        timeout=600,
    )


def call_here(*arguments, folder: Path | None = None) -> subprocess.CompletedProcess:
    """As `call`, in this process: spares the seconds in which a new one imports torch."""
    argv = ["suite", *map(str, arguments)]
    with (
        contextlib.chdir(folder or ROOT),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        mock.patch.object(sys, "argv", argv),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """One line on stderr that holds `words`, nothing on stdout, exit code 2."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("suite: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
