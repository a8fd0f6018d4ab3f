"""Ctrl-C: one line and the end, at any moment. What a run has measured is stored already."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGE = "suite: interrupted; cells measured by `suite run` are stored, and the same `suite run` continues\n"
SHOW_CURSOR = "\x1b[?25h"


def end_at_interrupt() -> None:
    """From now on end this process in one line when it is interrupted, whatever it is doing; unless it was started to
    ignore interrupts, as in the background of a script."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)


def _end(*_) -> None:
    try:
        os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}\n{MESSAGE}".encode())
    finally:  # also where nobody reads standard error any more
        os._exit(128 + signal.SIGINT)


@contextmanager
def blocked() -> Iterator[None]:
    """Block SIGINT, SIGQUIT and SIGHUP in the processes that are started in this block: the guardian ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
