"""The processes in which a side is measured, as the gate sees them."""

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
LONGEST_ANSWER_S = 120
"""After which a process is given up."""


class Process:
    """Measures the findings or the ratios (`what`) of a side: `benchmarks.gate.measuring` beside the side's PACKAGE.

    To be used in a `with`, at whose end it ends.
    """

    def __init__(self, side: Side, what: str, scratch: Path):
        self.side, self.what, self.given_up = side, what, False
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(side.folder), str(yardstick(scratch))]),
            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled"),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-P", "-m", "benchmarks.gate.measuring", what]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        self.process = subprocess.Popen(command, **pipes, env=environment, cwd=scratch)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def ask(self) -> None:
        """Have it take another block of ratios."""
        try:
            print(file=self.process.stdin, flush=True)
        except OSError:
            self._fail()

    def answer(self):
        """Its next answer. Raises CouldNotMeasure where none comes, with the last that it said."""
        late = threading.Timer(LONGEST_ANSWER_S, self._give_up)
        late.start()
        line = self.process.stdout.readline()
        late.cancel()
        if not line:
            self._fail()
        return json.loads(line)

    def ready(self) -> None:
        """Raises CouldNotMeasure where it measures another PACKAGE than the side's."""
        measured = Path(self.answer())
        if measured != self.side.folder / PACKAGE:
            raise CouldNotMeasure(f"{self.side.name}: {measured} was imported instead of the built {PACKAGE}")

    def _give_up(self) -> None:
        self.given_up = True
        self.process.kill()

    def _fail(self) -> None:
        code = self.process.wait()
        self.log.seek(0)
        said = self.log.read()
        print(said, file=sys.stderr)
        why = f"no answer within {LONGEST_ANSWER_S} s" if self.given_up else last_line(said)
        raise CouldNotMeasure(f"{self.side.name}: {self.what} failed with exit code {code}: {why}")


def yardstick(scratch: Path) -> Path:
    """A folder that holds this package and nothing else, the same for both sides."""
    folder = scratch / "yardstick"
    if not folder.exists():
        shutil.copytree(BENCHMARKS, folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    return folder
