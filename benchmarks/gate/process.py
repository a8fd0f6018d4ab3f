"""The processes that measure a side, from the gate's end."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks.gate.sides import CouldNotMeasure, Side, last_line
from benchmarks.gate.watched import PACKAGE

BENCHMARKS = Path(__file__).resolve().parent.parent
MAX_ANSWER_S = 120
"""Seconds after which a process is given up."""


class Process:
    """Measures a side by the `task` "findings" or "ratios": `benchmarks.gate.measuring` beside the side's PACKAGE.

    A context manager, which ends the process.
    """

    def __init__(self, side: Side, task: str, scratch: Path):
        self.side, self.task, self.given_up = side, task, False
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(side.folder), str(yardstick(scratch))]),
            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled"),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-P", "-m", "benchmarks.gate.measuring", task]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        self.process = subprocess.Popen(command, **pipes, env=environment, cwd=scratch)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def ask(self) -> None:
        """Request another block of ratios."""
        try:
            print(file=self.process.stdin, flush=True)
        except OSError:
            self._fail()

    def answer(self):
        """Its next answer. Raises CouldNotMeasure where none comes, with the last line of its log."""
        timer = threading.Timer(MAX_ANSWER_S, self._give_up)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            self._fail()
        return json.loads(line)

    def ready(self) -> None:
        """Raise CouldNotMeasure where it measures another PACKAGE than the side's."""
        imported = Path(self.answer())
        if imported != self.side.folder / PACKAGE:
            raise CouldNotMeasure(f"{self.side.name}: {imported} was imported instead of the built {PACKAGE}")

    def _give_up(self) -> None:
        self.given_up = True
        self.process.kill()

    def _fail(self) -> None:
        code = self.process.wait()
        self.log.seek(0)
        log = self.log.read()
        print(log, file=sys.stderr)
        reason = f"no answer within {MAX_ANSWER_S} s" if self.given_up else last_line(log)
        raise CouldNotMeasure(f"{self.side.name}: {self.task} failed with exit code {code}: {reason}")


def yardstick(scratch: Path) -> Path:
    """A folder with this package alone, the same for both sides."""
    folder = scratch / "yardstick"
    if not folder.exists():
        shutil.copytree(BENCHMARKS, folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    return folder
