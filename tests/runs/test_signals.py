"""Signals: one line at most, no traceback, and nothing of the run stays alive or behind."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from tests.command import TRAINED, suite_command
from tests.processes import started_by, wait_until


def send_to_all(process: psutil.Popen, number: signal.Signals) -> str:
    """Signal the whole group of `process`, as a terminal does, and return what the command said."""
    os.killpg(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in said
    assert ("suite: interrupted; cells measured by `suite run` are stored" in said) == (number == signal.SIGINT)
    return said


def start(scratch, *arguments) -> psutil.Popen:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return psutil.Popen(suite_command(*arguments), env=environment, start_new_session=True, **pipes)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.2])
def test_an_interrupt_while_modules_are_imported_is_one_line(seconds, scratch):
    process = start(scratch, "list")
    time.sleep(seconds)
    assert send_to_all(process, signal.SIGINT).strip().count("\n") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_workers_train_ends_all_of_them(number, scratch, own_workload, tmp_path):
    folder = tmp_path / "results"
    process = start(scratch, "run", own_workload, "--preset", "full", *TRAINED, "--workers", 2, "--results", folder)
    wait_until(lambda: len(process.children(recursive=True)) >= 4)  # two workers, their tracker and the guardian
    time.sleep(2)
    send_to_all(process, number)
    wait_until(lambda: not started_by(scratch), timeout_s=10)
    assert list(scratch.glob("suite-*")) == []
    assert list(scratch.glob("joblib*")) == []
