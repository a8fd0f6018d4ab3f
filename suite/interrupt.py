"""Ctrl-C: one line and the end, at any moment. What a run has measured is stored already."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGE = "suite: interrupted: what `suite run` has measured is stored, and the same command goes on from there\n"
SHOW_CURSOR = "\x1b[?25h"


def end_at_interrupt() -> None:
    """From now on end this process in one line when it is interrupted, whatever it is doing."""
    signal.signal(signal.SIGINT, _end)


def _end(*_) -> None:
    os.write(2, f"{SHOW_CURSOR if sys.stderr.isatty() else ''}\n{MESSAGE}".encode())
    os._exit(128 + signal.SIGINT)


@contextmanager
def blocked() -> Iterator[None]:
    """Processes that are started in this block are not interrupted themselves: they end with this one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
