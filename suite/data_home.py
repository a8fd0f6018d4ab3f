"""Where data sets are kept, and how they get there.

Nothing is taken for data before its content was compared with a known SHA-256 sum: a download is made in a
folder of its own, checked, and only then moved to its place, so that one that was cut short never counts.
Files that somebody put there are used whatever they hold, with a warning when they are not the known ones.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pooch

from suite.errors import UserError


class DataWarning(UserWarning):
    """Data that is used, but is not what the workload is known by."""


def data_home() -> Path:
    """`$SUITE_DATA_HOME`, else the platform's cache folder."""
    return Path(os.environ.get("SUITE_DATA_HOME") or platformdirs.user_cache_path("batch-size-suite"))


def gzipped(folder: str, name: str, url: str, sha256: str) -> bytes:
    """The decompressed content of `folder/name` below the data home, downloaded from `url` when missing.

    `sha256` is that of the decompressed content. Raises UserError when a download fails or is not what was
    expected; warns when a file that was there already is not.
    """
    path = data_home() / folder / name
    if path.exists():
        content = _decompressed(path, f"{path} is not a gzip file: delete it, and it is downloaded again")
        if hashlib.sha256(content).hexdigest() != sha256:
            warnings.warn(
                f"{path} is not the canonical file: results carry another fingerprint", DataWarning, stacklevel=2
            )
        return content
    with _download(url, path.parent) as downloaded:
        content = _decompressed(downloaded, f"{url} gave no gzip file: try again, or put the file at {path}")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{url} is not the canonical {name}: try again, or put the file at {path}")
        os.replace(downloaded, path)
    return content


def unpacked(folder: str, url: str, sha256: str) -> Path:
    """The folder `folder` below the data home, unpacked from the archive at `url` when missing.

    `sha256` is that of the archive. The sums of what it held are kept beside it, in `SHA256SUMS`: a folder
    without them, or with other content, was put there by somebody, and warned of.
    """
    path = data_home() / folder
    if path.is_dir():
        if not _holds_its_sums(path):
            warnings.warn(
                f"{path} was not unpacked from the official archive by this suite: results carry the fingerprint "
                "of what it holds",
                DataWarning,
                stacklevel=2,
            )
        return path
    with _download(url, path.parent) as archive:
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            raise UserError(f"{url} is not the official archive: try again, or put its files into {path}")
        with tarfile.open(archive) as packed:
            packed.extractall(archive.parent, filter="data")
        fresh = archive.parent / path.name
        (fresh / "SHA256SUMS").write_text("".join(f"{line}\n" for line in _sums(fresh)))
        os.replace(fresh, path)
    return path


def _sums(folder: Path) -> list[str]:
    files = sorted(file for file in folder.iterdir() if file.suffix == ".bin")
    return [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]


def _holds_its_sums(folder: Path) -> bool:
    sums = folder / "SHA256SUMS"
    return sums.exists() and sums.read_text().splitlines() == _sums(folder)


def _decompressed(path: Path, otherwise: str) -> bytes:
    """Content of a gzip file. Raises UserError, which says `otherwise`, when it is not one or not whole."""
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(otherwise) from error


@contextmanager
def _download(url: str, folder: Path) -> Iterator[Path]:
    """Download `url` to a temporary folder inside `folder`, which is removed with what is left in it."""
    scratch = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=folder))
        name = pooch.retrieve(url, known_hash=None, fname=Path(url).name, path=scratch, progressbar=False)
        yield Path(name)
    except OSError as error:  # what requests raises is one too
        what = "write to" if scratch is None else f"download {url} into"
        raise UserError(
            f"cannot {what} {folder} ({type(error).__name__}): put the files there yourself, or set SUITE_DATA_HOME "
            "to a folder that has them"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
