"""A user's function that raises at any call: in the check, a plan, a training or a later reading."""

import random
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.runs.store import Results
from tests.command import call_here, write_workload
from tests.fuzz import examples
from tests.fuzz.oracle import call_and_judge
from tests.fuzz.test_workload_files import ERRORS

RAISING = """
calls = dict.fromkeys(("load", "model", "forward", "loss", "score"), 0)


class BadMessage(Exception):
    def __str__(self):
        raise ValueError("no message")


def count(function):
    calls[function] += 1
    if (function, calls[function]) == {last_call}:
        raise {error}


class Model(nn.Linear):
    def forward(self, inputs):
        count("forward")
        return super().forward(inputs)


def model():
    count("model")
    return Model(4, 3)


def loss(outputs, targets):
    count("loss")
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def score(outputs, targets):
    count("score")
    return (outputs.argmax(dim=1) == targets).float()


def load():
    count("load")
"""


def raising(folder: Path, function: str, call: int, error: str) -> Path:
    path = write_workload(folder, f"raising_{call}")
    text = path.read_text().replace("def load():", RAISING.format(last_call=(function, call), error=error))
    text = text.replace("model=lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),", "model=model,")
    path.write_text(text.replace("    resplit=True,", "    resplit=True,\n    loss=loss,\n    score=score,"))
    return path


@given(st.integers(0, 2**32))
@examples(4)
def test_an_error_at_any_call_is_one_line_or_the_reason_of_a_cell(seed):
    draw = random.Random(seed)
    function = draw.choice(("load", "model", "forward", "forward", "loss", "score"))
    call = draw.choice((1, 2, 3, 10, 30, 100, 300))
    with tempfile.TemporaryDirectory() as name:
        path, folder = raising(Path(name), function, call, draw.choice(ERRORS)), Path(name) / "results"
        options = ("--preset", "quick", "--seeds", "2", "--workers", "1", "--engine", "plain", "--results", folder)
        if call_and_judge("run", path, "--claim", "optimization", *options, max_s=60).returncode == 0:
            call_and_judge("report", "--results", folder, max_s=60)
            cells = pd.concat(Results(folder).read(file.stem)[0] for file in (folder / "cells").glob("*.parquet"))
            reasons = cells.get("reason", pd.Series(dtype=str)).dropna()
            assert reasons.str.startswith(f"count in raising_{call}.py, line ").all()


@pytest.mark.parametrize("error", ["KeyboardInterrupt()", "EOFError()", "SystemExit(3)", "BaseException('bare')"])
def test_an_error_that_ends_programs_ends_advice_in_one_line(error, tmp_path):
    """Where no check has met it: in the timing of updates."""
    path = raising(tmp_path, "forward", 30, error)
    done = call_here("advise", path, "--no-verify", "--seeds", "2", "--results", tmp_path / "results")
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith(f"suite: count in raising_30.py, line 22, raises {error.partition('(')[0]}")
    assert "Traceback" not in done.stderr
