"""End every process that a run has started, and remove its temporary folder, even if the run is killed.

Workers, asv and compilers run in processes of their own. One more, the guardian, waits for the end of the run, and
then ends every process whose environment has the run's mark.
"""

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from suite.errors import UserError

MARK = "SUITE_RUN"
"""The environment variable with the temporary folder of the run that a process belongs to."""
DONE = b"done"
ATTEMPTS = 10
ROOT = Path(__file__).parents[2]


@contextmanager
def guarded() -> Iterator[Path]:
    """Yield a temporary folder. When the block raises or this process dies, the processes started in the block are
    ended, and the folder is removed. Raises UserError where the folder cannot be made."""
    with _temporary_folder() as folder:
        command = [sys.executable, "-m", __name__, folder, str(os.getpid())]
        # killed workers leave semaphores to joblib's tracker, which removes them and would say so
        quiet = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker"]))
        with (
            _environment({MARK: folder, "JOBLIB_TEMP_FOLDER": folder, "PYTHONWARNINGS": quiet}),
            subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True) as guardian,
        ):
            yield Path(folder)
            guardian.communicate(DONE)


def _temporary_folder() -> tempfile.TemporaryDirectory:
    try:
        return tempfile.TemporaryDirectory(prefix="suite-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot make a temporary folder ({error.strerror or error}): make room, or name another place for it in "
            "the environment variable TMPDIR"
        ) from error


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def wait_for_end(parent: int) -> bool:
    """Wait until `parent` dies or closes the pipe to standard input. Return whether it reported a normal end."""
    while os.getppid() == parent:
        if select.select([0], [], [], 0.5)[0]:
            return os.read(0, len(DONE)) == DONE
    return False


def end_all(folder: str) -> None:
    """End every process of the run with the temporary `folder`, and remove that.

    Gives up on a process that does not end, as one that waits for a device.
    """
    for _ in range(ATTEMPTS):
        if not (processes := list(_processes(folder))):
            break
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=1)
    shutil.rmtree(folder, ignore_errors=True)


def _processes(folder: str) -> Iterator[psutil.Process]:
    """The run's live processes, except this one and resource trackers, which end by themselves."""
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == folder and process.status() != psutil.STATUS_ZOMBIE
            if marked and process.pid != os.getpid() and "resource_tracker" not in " ".join(process.cmdline()):
                yield process
        except psutil.Error:  # ended meanwhile, or of another user
            continue


if __name__ == "__main__":
    if not wait_for_end(int(sys.argv[2])):
        end_all(sys.argv[1])
