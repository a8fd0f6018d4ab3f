"""The guardian ends what a run has started, whenever the run ends."""

import os
import signal
import subprocess
import sys
import tempfile

import psutil
import pytest

from suite.errors import UserError
from suite.runs.guardian import MARK, guarded
from tests.processes import started_by, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
GUARDED = """
import subprocess, sys, time
from suite.runs.guardian import guarded

with guarded() as folder:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (folder / "file").write_text("content")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_a_run_that_ends_well_leaves_its_environment_and_nothing_else():
    before = dict(os.environ)
    with guarded() as folder:
        assert os.environ[MARK] == str(folder)
        (folder / "file").write_text("content")
    assert not folder.exists()
    assert dict(os.environ) == before


def test_where_a_run_raises_its_processes_end():
    def run() -> None:
        with guarded() as folder:
            started.append(subprocess.Popen(SLEEP))
            started.append(folder)
            raise ValueError("mine")

    started = []
    with pytest.raises(ValueError, match="mine"):
        run()
    process, folder = started
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert not folder.exists()


def test_processes_of_others_are_left_alone():
    other = subprocess.Popen(SLEEP)
    with pytest.raises(ValueError, match="mine"), guarded():
        raise ValueError("mine")
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_where_a_run_is_killed_its_processes_and_its_folder_go_with_it(number, scratch):
    environment = {**os.environ, "TMPDIR": str(scratch)}
    run = psutil.Popen([sys.executable, "-c", GUARDED], stdout=subprocess.PIPE, text=True, env=environment)
    folder = run.stdout.readline().strip()
    assert folder.startswith(str(scratch))
    assert len(started_by(scratch)) == 3
    run.send_signal(number)
    run.wait()
    wait_until(lambda: not started_by(scratch), timeout_s=10)
    assert list(scratch.iterdir()) == []


def test_without_room_for_a_temporary_folder_one_line_says_what_to_do(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(UserError, match=r"temporary folder \(No space left on device\): make room, or .* TMPDIR"):
        guarded().__enter__()
