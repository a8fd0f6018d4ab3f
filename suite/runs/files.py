"""Files of a results folder, where any of them may be missing, unreadable, or something else than a file."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from suite.errors import UserError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

LARGEST = 2**30
"""Bytes of the largest file that is read."""


def exists(path: Path) -> bool:
    """Whether there is anything at `path`, also a broken link. Raises UserError where that cannot be seen."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    return True


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises UserError where `path` cannot be read, or would block or never end: where it is
    not a file, or too large."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            raise UserError(f"{path} is {kind}, not a file: remove it and run `suite run` again")
        if status.st_size > LARGEST:
            raise UserError(f"{path} is larger than any file of the suite: remove it and run `suite run` again")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    if error.errno in (errno.ENOENT, errno.ELOOP):
        return UserError(f"{path} is a broken link: remove it and run `suite run` again")
    return UserError(
        f"cannot read {path} ({error.strerror or error}): make it readable, or name another folder with --results"
    )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise UserError where something in `folder` cannot be written."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise UserError(
            f"cannot write to {error.filename or folder} ({error.strerror or error}): make room there, make it "
            "writable, or choose another folder with --results"
        ) from error


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)` a file, and give it the name `path` when it is complete."""
    temporary = path.with_suffix(".tmp")
    write(temporary)
    os.replace(temporary, path)
