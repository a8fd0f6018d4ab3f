"""What every command must do, whatever it is given."""

import subprocess
import time
from pathlib import Path

from tests.command import call_here


def call_and_judge(
    *arguments: str | Path, folder: Path | None = None, max_s: float = 10
) -> subprocess.CompletedProcess:
    """Call the command line, and assert that it succeeds, or refuses in one line, within `max_s` seconds of the
    processor."""
    started = time.process_time()
    done = call_here(*arguments, folder=folder)
    assert time.process_time() - started < max_s
    assert done.returncode in (0, 2), done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("suite: warning: ", "["))]
    assert "Traceback" not in done.stderr
    if done.returncode == 2:
        assert len(errors) == 1, done.stderr
        assert errors[0].startswith("suite: ")
    return done
