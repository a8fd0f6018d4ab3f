"""Downloads from a server on this machine. An incomplete file never counts as data."""

import gzip
import hashlib
import io
import tarfile
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from suite.errors import UserError
from suite.workloads.data_home import DataWarning, archive_folder, data_home, gzip_content

CONTENT = b"sixty thousand digits" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def archive(content: bytes) -> bytes:
    """A tar.gz of a folder `bin` with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        entry = tarfile.TarInfo("bin/data_batch_1.bin")
        entry.size = len(content)
        packed.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


FILES = {
    "/good.gz": gzip.compress(CONTENT),
    "/other.gz": gzip.compress(b"something else"),
    "/text.gz": b"<html>not found</html>",
    "/short.gz": gzip.compress(CONTENT),
    "/good.tar.gz": archive(CONTENT),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = FILES[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if "short" in self.path else content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def files_in(home) -> list[str]:
    return sorted(str(file.relative_to(home)) for file in home.rglob("*") if file.is_file())


def test_the_home_is_the_cache_folder_of_the_platform_by_default(home, monkeypatch):
    assert data_home() == home
    monkeypatch.delenv("SUITE_DATA_HOME")
    assert data_home().name == "batch-size-suite"


def test_a_file_is_downloaded_once(home, server):
    assert gzip_content("set", "good.gz", f"{server}/good.gz", SHA256) == CONTENT
    assert files_in(home) == ["set/good.gz"]
    assert gzip_content("set", "good.gz", "http://127.0.0.1:1/good.gz", SHA256) == CONTENT


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.gz", "is not the canonical other.gz"),
        ("text.gz", "gave no gzip file"),
        ("short.gz", "cannot download"),
    ],
)
def test_a_wrong_or_truncated_download_leaves_no_files(home, server, name, message):
    with pytest.raises(UserError, match=message) as error:
        gzip_content("set", name, f"{server}/{name}", SHA256)
    assert "\n" not in str(error.value)
    assert files_in(home) == []


def test_without_a_network_the_error_is_one_line_of_advice(home):
    with pytest.raises(UserError, match=r"cannot download .* put the files there .* SUITE_DATA_HOME") as error:
        gzip_content("set", "good.gz", "http://127.0.0.1:1/good.gz", SHA256)
    assert "\n" not in str(error.value)
    assert files_in(home) == []


def test_a_home_that_is_not_writable_is_reported(home, server):
    home.write_text("a file in the way")
    with pytest.raises(UserError, match="cannot write to"):
        gzip_content("set", "good.gz", f"{server}/good.gz", SHA256)


def test_a_file_from_elsewhere_is_used_with_a_warning(home):
    (home / "set").mkdir(parents=True)
    (home / "set" / "good.gz").write_bytes(gzip.compress(b"my own"))
    with pytest.warns(DataWarning, match="not the canonical file"):
        assert gzip_content("set", "good.gz", "http://127.0.0.1:1/good.gz", SHA256) == b"my own"


def test_a_truncated_file_is_reported_and_kept(home):
    (home / "set").mkdir(parents=True)
    half = home / "set" / "good.gz"
    half.write_bytes(gzip.compress(CONTENT)[:50])
    with pytest.raises(UserError, match="is not a gzip file: delete it"):
        gzip_content("set", "good.gz", "http://127.0.0.1:1/good.gz", SHA256)
    assert half.exists()


def test_an_archive_is_unpacked_once_and_recognised_later(home, server):
    sha256 = hashlib.sha256(FILES["/good.tar.gz"]).hexdigest()
    folder = archive_folder("bin", f"{server}/good.tar.gz", sha256)
    assert (folder / "data_batch_1.bin").read_bytes() == CONTENT
    assert files_in(home) == ["bin/SHA256SUMS", "bin/data_batch_1.bin"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert archive_folder("bin", "http://127.0.0.1:1/good.tar.gz", sha256) == folder


def test_a_different_archive_leaves_no_files(home, server):
    with pytest.raises(UserError, match="is not the official archive"):
        archive_folder("bin", f"{server}/good.tar.gz", SHA256)
    assert files_in(home) == []


@pytest.mark.parametrize("spoil", ["no sums", "other content"])
def test_a_folder_from_elsewhere_is_used_with_a_warning(home, server, spoil):
    sha256 = hashlib.sha256(FILES["/good.tar.gz"]).hexdigest()
    folder = archive_folder("bin", f"{server}/good.tar.gz", sha256)
    if spoil == "no sums":
        (folder / "SHA256SUMS").unlink()
    else:
        (folder / "data_batch_1.bin").write_bytes(b"my own")
    with pytest.warns(DataWarning, match="was not unpacked from the official archive"):
        archive_folder("bin", "http://127.0.0.1:1/good.tar.gz", sha256)
