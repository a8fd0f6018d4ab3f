"""The folder of data sets, and downloads into it.

A download goes into a temporary folder, is compared with a known SHA-256 sum, and only then moved to its place, so
that a truncated download never counts as data. Files that the user put there are used in any case, with a warning
when they differ from the official ones.
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
    """Data is used although it differs from the official data of the workload."""


def data_home() -> Path:
    """`$SUITE_DATA_HOME`, or else the platform's cache folder."""
    return Path(os.environ.get("SUITE_DATA_HOME") or platformdirs.user_cache_path("batch-size-suite"))


def gzip_content(folder: str, name: str, url: str, sha256: str) -> bytes:
    """The decompressed content of `folder/name` below the data home, downloaded from `url` when missing.

    `sha256` is the sum of the decompressed content. Raises UserError when a download fails or has another sum; warns
    when an existing file has another sum.
    """
    path = data_home() / folder / name
    if path.exists():
        content = _decompress(path, f"{path} is not a gzip file: delete it, and it is downloaded again")
        if hashlib.sha256(content).hexdigest() != sha256:
            warnings.warn(
                f"{path} is not the canonical file: results carry another fingerprint", DataWarning, stacklevel=2
            )
        return content
    with _download(url, path.parent) as downloaded:
        content = _decompress(downloaded, f"{url} gave no gzip file: try again, or put the file at {path}")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{url} is not the canonical {name}: try again, or put the file at {path}")
        os.replace(downloaded, path)
    return content


def archive_folder(folder: str, url: str, sha256: str) -> Path:
    """The folder `folder` below the data home, unpacked from the archive at `url` when missing.

    `sha256` is the sum of the archive. The sums of its files are stored in the folder, in `SHA256SUMS`: warns when
    they are missing or differ, since the folder then comes from elsewhere.
    """
    path = data_home() / folder
    if path.is_dir():
        if not _matches_its_sums(path):
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
        unpacked = archive.parent / path.name
        (unpacked / "SHA256SUMS").write_text("".join(f"{line}\n" for line in _sums(unpacked)))
        os.replace(unpacked, path)
    return path


def _sums(folder: Path) -> list[str]:
    files = sorted(file for file in folder.iterdir() if file.suffix == ".bin")
    return [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]


def _matches_its_sums(folder: Path) -> bool:
    sums = folder / "SHA256SUMS"
    return sums.exists() and sums.read_text().splitlines() == _sums(folder)


def _decompress(path: Path, error_message: str) -> bytes:
    """Content of a gzip file. Raises UserError with `error_message` when it is not a complete gzip file."""
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(error_message) from error


@contextmanager
def _download(url: str, folder: Path) -> Iterator[Path]:
    """Download `url` to a temporary folder inside `folder`, which is removed afterwards."""
    scratch = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=folder))
        name = pooch.retrieve(url, known_hash=None, fname=Path(url).name, path=scratch, progressbar=False)
        yield Path(name)
    except OSError as error:  # includes the errors of requests
        action = "write to" if scratch is None else f"download {url} into"
        raise UserError(
            f"cannot {action} {folder} ({type(error).__name__}): put the files there yourself, or set "
            "SUITE_DATA_HOME to a folder that has them"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
