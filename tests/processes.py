"""Watching the processes that a command starts."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil


def started_by(scratch: Path) -> list[psutil.Process]:
    """Every process whose environment or command names `scratch`, wherever it hangs in the tree by now."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.environ().values(), *process.cmdline()]
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if not is_zombie and any(str(scratch) in word for word in words):
            found.append(process)
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def asv_is_running(process: psutil.Process) -> bool:
    """Whether a process that asv started runs below `process`."""
    try:
        below = process.children(recursive=True)
        return any(one.ppid() != process.pid and "asv" in " ".join(one.cmdline()) for one in below)
    except psutil.NoSuchProcess:
        return False
